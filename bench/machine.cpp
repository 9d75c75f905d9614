// SPDX-License-Identifier: MIT
// Reads what Linux says of the processor.
#include "machine.hpp"

#include <ctime>
#include <fstream>
#include <thread>

namespace pleat::bench {

std::string describe_machine() {
  std::string processor = "unknown processor";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%d", std::localtime(&now));
#ifdef __clang__
  const std::string compiler = "clang " __clang_version__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  return processor + " (" + std::to_string(std::thread::hardware_concurrency()) + " cores), " +
         compiler + ", " + date;
}

}  // namespace pleat::bench
