// SPDX-License-Identifier: MIT
// Times pleat's operators against the dense libraries, and prints the ratios as Markdown.
#include "peers.hpp"
#include "pleat/core/any_operator.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace pleat::bench {
namespace {

using Eigen::MatrixXf;

struct Shape {
  Index rows;
  Index cols;
};

/// A brick or factor of pleat: how it is made from a dense matrix. It also changes the matrix into
/// what it stands for, so that peers multiply by the same one.
struct Structure {
  const char* name;
  AnyOperator<float> (*make)(MatrixXf& W);
};

const Structure structures[] = {
    {"Dense", [](MatrixXf& W) { return AnyOperator<float>(Dense<float>(W)); }},
    {"SemiStructured",
     [](MatrixXf& W) {
       for (Index i = 0; i < W.rows(); ++i)
         for (Index k = 0; k < W.cols(); ++k)
           if ((k + i * 5 + k / 4 * 3) % 4 >= 2) W(i, k) = 0;
       return AnyOperator<float>(SemiStructured<float>(W));
     }},
    {"LowRank 50 %",
     [](MatrixXf& W) {
       const Index rank = W.size() / (W.rows() + W.cols()) / 2;
       const MatrixXf U = MatrixXf::Random(W.rows(), rank);
       const MatrixXf V = MatrixXf::Random(rank, W.cols());
       W.noalias() = U * V;
       return AnyOperator<float>(LowRank<float>(Dense<float>(U), Dense<float>(V)));
     }},
};

/// Keeps the median time of each benchmark, in seconds.
class Medians : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      if (run.aggregate_name == "median")
        seconds[run.run_name.function_name] = run.GetAdjustedRealTime() * 1e-9;
  }

  std::map<std::string, double> seconds;
};

/// Runs all contestants of one cell in interleaved repetitions; the medians, by name.
std::map<std::string, double> race(
    const std::vector<std::pair<std::string, std::function<void()>>>& runs, double min_time,
    int repetitions) {
  benchmark::ClearRegisteredBenchmarks();
  for (const auto& [name, run] : runs)
    benchmark::RegisterBenchmark(name.c_str(),
                                 [&run = run](benchmark::State& state) {
                                   for (auto _ : state) {
                                     run();
                                     benchmark::ClobberMemory();
                                   }
                                 })
        ->Repetitions(repetitions)
        ->MinTime(min_time)
        ->ReportAggregatesOnly()
        ->UseRealTime();
  Medians medians;
  benchmark::RunSpecifiedBenchmarks(&medians);
  return medians.seconds;
}

std::string shape_name(Shape shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.cols);
}

}  // namespace
}  // namespace pleat::bench

int main(int argc, char** argv) {
  using namespace pleat::bench;  // NOLINT(google-build-using-namespace)
  bool quick = false;
  for (int i = 1; i < argc; ++i)
    if (std::strcmp(argv[i], "--quick") == 0) quick = true;
  char program[] = "bench_kernels";
  char interleave[] = "--benchmark_enable_random_interleaving=true";
  char* arguments[] = {program, interleave};
  int count = 2;
  benchmark::Initialize(&count, arguments);

  const std::vector<Shape> shapes =
      quick ? std::vector<Shape>{{1536, 512}, {4096, 4096}, {1000, 513}}
            : std::vector<Shape>{{512, 512},    {1536, 512}, {512, 1536}, {4096, 4096},
                                 {11008, 4096}, {1000, 513}, {769, 2050}};
  const std::vector<pleat::Index> batches =
      quick ? std::vector<pleat::Index>{1, 4, 16, 64, 512}
            : std::vector<pleat::Index>{1, 2, 4, 8, 16, 32, 64, 256, 512};
  const auto peers = find_peers();
  std::printf(
      "kernels: %s. Each cell: time of the best dense library over time of pleat; above 1 is "
      "faster than all of them.\n\n| structure | shape |",
      pleat::kernel::active<float>().arch);
  for (const auto batch : batches) std::printf(" %td |", batch);
  std::printf("\n|---|---|");
  for (std::size_t i = 0; i < batches.size(); ++i) std::printf("---|");
  std::printf("\n");
  for (const auto& structure : structures)
    for (const Shape shape : shapes) {
      std::printf("| %s | %s |", structure.name, shape_name(shape).c_str());
      std::srand(1);
      MatrixXf W = MatrixXf::Random(shape.rows, shape.cols);
      const auto op = structure.make(W);
      for (const auto batch : batches) {
        const MatrixXf X = MatrixXf::Random(shape.cols, batch);
        MatrixXf Y(shape.rows, batch);
        MatrixXf Z(shape.rows, batch);
        std::vector<std::pair<std::string, std::function<void()>>> runs;
        runs.emplace_back("pleat", [&] { op.apply(X, Y); });
        for (const auto& peer : peers) runs.emplace_back(peer.name, peer.prepare(W, X, Z));
        const double flops = 2.0 * double(W.size()) * double(batch);
        const bool large = flops > 2e9;
        const auto seconds =
            race(runs, quick ? 0.01 : 0.05, quick ? (large ? 3 : 7) : (large ? 5 : 15));
        for (const auto& run : runs) {  // outside of the race: everybody's result is right
          Z.setConstant(std::nanf(""));
          run.second();
          const MatrixXf& result = run.first == "pleat" ? Y : Z;
          const MatrixXf exact = W * X;
          if (!((result - exact).norm() <= 1e-4F * exact.norm())) {
            std::fprintf(stderr, "%s is wrong\n", run.first.c_str());
            return EXIT_FAILURE;
          }
        }
        double best = 1e300;
        std::string fastest;
        for (const auto& [name, time] : seconds)
          if (name != "pleat" && time < best) {
            best = time;
            fastest = name;
          }
        const double own = seconds.at("pleat");
        std::printf(" %.2f |", best / own);
        std::fprintf(stderr, "%s %s batch %td: %.1f us, %.1f GF/s dense; best %s %.1f us\n",
                     structure.name, shape_name(shape).c_str(), batch, own * 1e6,
                     flops / own * 1e-9, fastest.c_str(), best * 1e6);
        std::fflush(stdout);
      }
      std::printf("\n");
    }
}
