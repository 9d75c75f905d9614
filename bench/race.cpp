// SPDX-License-Identifier: MIT
// Races on Google Benchmark.
#include "race.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace pleat::bench {
namespace {

/// How much slower than the best of its group a peer must be in the trial to drop out.
constexpr double far_behind = 2;

/// The least seconds of a few runs, or of one that takes long.
double trial(const std::function<void()>& run) {
  double least = INFINITY;
  double sum = 0;
  for (int i = 0; i < 20 && sum < (i < 3 ? 0.05 : 0.002); ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    least = std::min(least, taken.count());
    sum += taken.count();
  }
  return least;
}

}  // namespace

/// Keeps the median of each contestant, and hands everything on to the file.
class Race::Reporter : public benchmark::BenchmarkReporter {
 public:
  explicit Reporter(const std::string& file) {
    if (file.empty()) return;
    file_.open(file);
    if (!file_) throw std::runtime_error("cannot write " + file);
    json_.SetOutputStream(&file_);
  }
  ~Reporter() override {
    if (begun_) json_.Finalize();
  }
  Reporter(const Reporter&) = delete;
  Reporter& operator=(const Reporter&) = delete;

  bool ReportContext(const Context& context) override {
    if (!file_.is_open() || begun_) return true;
    begun_ = true;
    return json_.ReportContext(context);
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    if (begun_) json_.ReportRuns(runs);
    for (const Run& run : runs)
      if (run.aggregate_name == "median")
        medians[run.run_name.function_name] = run.GetAdjustedRealTime() * 1e-9;
  }

  std::map<std::string, double> medians;  // seconds

 private:
  std::ofstream file_;
  benchmark::JSONReporter json_;
  bool begun_ = false;
};

Race::Race(Effort effort, const std::string& file)
    : effort_(effort), reporter_(std::make_unique<Reporter>(file)) {
  char program[] = "bench_kernels";
  char interleave[] = "--benchmark_enable_random_interleaving=true";
  char* arguments[] = {program, interleave};
  int count = 2;
  benchmark::Initialize(&count, arguments);
}

Race::~Race() = default;

Race::Result Race::run(const std::string& title, const std::vector<Contestant>& contestants) {
  std::vector<double> trials(contestants.size(), INFINITY);
  std::map<std::string, double> best;  // by group
  const auto is_far_behind = [&](std::size_t i) {
    const std::string& group = contestants[i].group;
    return !group.empty() && trials[i] > far_behind * best.at(group);
  };
  const auto try_out = [&](std::size_t i) {
    trials[i] = std::min(trials[i], trial(contestants[i].run));
    double& least = best.emplace(contestants[i].group, INFINITY).first->second;
    least = std::min(least, trials[i]);
  };
  for (std::size_t i = 0; i < contestants.size(); ++i) try_out(i);
  // The machine may have been busy with something else: nobody drops out for one bad trial.
  for (std::size_t i = 0; i < contestants.size(); ++i)
    if (is_far_behind(i)) try_out(i);

  std::vector<std::pair<const Contestant*, long>> runners;  // and their iterations
  double round = 0;                                         // seconds
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    const Contestant& contestant = contestants[i];
    if (is_far_behind(i)) continue;
    const double iterations = std::ceil(effort_.repetition / trials[i]);
    runners.emplace_back(&contestant, static_cast<long>(iterations));
    round += iterations * trials[i];
  }
  const int repetitions = static_cast<int>(std::clamp(
      effort_.race / round, double(effort_.least_repetitions), double(effort_.most_repetitions)));

  benchmark::ClearRegisteredBenchmarks();
  for (const auto& [runner, iterations] : runners) {
    const auto time = [&contestant = *runner](benchmark::State& state) {
      for (auto _ : state) {
        contestant.run();
        benchmark::ClobberMemory();
      }
      using benchmark::Counter;
      state.counters["bytes"] = Counter(contestant.bytes, Counter::kIsIterationInvariantRate);
      state.counters["flops"] = Counter(contestant.flops, Counter::kIsIterationInvariantRate);
    };
    benchmark::RegisterBenchmark((title + ": " + runner->name).c_str(), time)
        ->Iterations(iterations)
        ->Repetitions(repetitions)
        ->ReportAggregatesOnly()
        ->UseRealTime();
  }
  reporter_->medians.clear();
  benchmark::RunSpecifiedBenchmarks(reporter_.get());
  Result result{repetitions, {}, {}};
  for (const auto& [runner, iterations] : runners) {
    const double median = reporter_->medians.at(title + ": " + runner->name);
    result.seconds[runner->name] = median;
    if (runner->group.empty()) continue;
    std::string& winner = result.winners.emplace(runner->group, runner->name).first->second;
    if (median < result.seconds.at(winner)) winner = runner->name;
  }
  return result;
}

}  // namespace pleat::bench
