// SPDX-License-Identifier: MIT
// Files and threads: apart from the rest of the room, so that the thread sanitizer compiles little.
#include "io/files.hpp"
#include "pleat/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <string>
#include <thread>
#include <vector>

namespace {

using pleat::Matrix;
using pleat::Safetensors;
using namespace pleat::test;

TEST_CASE("many threads read one file", "[io][concurrency]") {
  const TemporaryDirectory directory;
  Random random(3);
  Safetensors file;
  std::vector<Matrix<float>> matrices;
  for (int i = 0; i < 8; ++i) {
    matrices.push_back(random.matrix<float>(20 + i, 30));
    file.add(std::to_string(i), matrices.back());
  }
  file.save(directory / "a");
  const Safetensors opened = Safetensors::open(directory / "a");
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 200; ++i) {
        const std::size_t k = (i + t) % 8;
        wrong[t] += opened.matrix<float>(std::to_string(k)) != matrices[k] ? 1 : 0;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4, 0));
}

}  // namespace
