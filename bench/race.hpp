// SPDX-License-Identifier: MIT
// Times all contestants of one shape and batch against each other.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace pleat::bench {

struct Contestant {
  std::string name;
  /// Peers of one group compute the same product, and only the fastest of them counts; without a
  /// name, everybody does.
  std::string group;
  double bytes;  // read and written at least
  double flops;
  std::function<void()> run;
};

class Race {
 public:
  /// How long a repetition takes at least, and all repetitions of one race about, in seconds.
  struct Effort {
    double repetition;
    double race;
    int least_repetitions;
    int most_repetitions;
  };

  /// Raw results go to a file, as the JSON of Google Benchmark; to none if it has no name.
  Race(Effort effort, const std::string& file);
  ~Race();
  Race(const Race&) = delete;
  Race& operator=(const Race&) = delete;

  struct Result {
    int repetitions;
    std::map<std::string, double> seconds;       // medians, by name
    std::map<std::string, std::string> winners;  // the fastest, by group
  };

  /// Runs all contestants, which have run before, in interleaved repetitions. Peers that a trial
  /// shows to be far behind the best of their group drop out.
  Result run(const std::string& title, const std::vector<Contestant>& contestants);

 private:
  class Reporter;

  Effort effort_;
  std::unique_ptr<Reporter> reporter_;
};

}  // namespace pleat::bench
