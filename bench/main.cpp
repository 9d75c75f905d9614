// SPDX-License-Identifier: MIT
// Races pleat's operators against other libraries, and prints the results as Markdown. Progress,
// and whatever is left out, goes to stderr.
#include "heat.hpp"
#include "limits.hpp"
#include "machine.hpp"
#include "pleat/kernel/active.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

namespace pleat::bench {
namespace {

struct Options {
  bool quick = false;
  int threads = 1;
  std::string only;
  std::string out;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const auto value = [&] {
      if (++i == argc) throw std::invalid_argument(option + " needs a value");
      return std::string(argv[i]);
    };
    if (option == "--quick") options.quick = true;
    else if (option == "--threads") options.threads = std::max(1, std::atoi(value().c_str()));
    else if (option == "--only") options.only = value();
    else if (option == "--out") options.out = value();
    else
      throw std::invalid_argument(
          "usage: bench_kernels [--quick] [--threads N] [--only NAME] "
          "[--out FILE]");
  }
  return options;
}

void run(const Options& options) {
  const bool quick = options.quick;
  const std::vector<Shape> shapes =
      quick ? std::vector<Shape>{{1536, 512}, {4096, 4096}, {1000, 513}}
            : std::vector<Shape>{{512, 512},    {1536, 512}, {512, 1536}, {4096, 4096},
                                 {11008, 4096}, {1000, 513}, {769, 2050}};
  const std::vector<Index> batches = quick ? std::vector<Index>{1, 4, 16, 64, 512}
                                           : std::vector<Index>{1, 2, 4, 8, 16, 64, 256, 512};
  const Peers dense = find_dense_peers(options.threads);
  const Peers narrow = find_narrow_peers(options.threads);
  const Peers sparse = find_sparse_peers(options.threads);
  Race race(quick ? Race::Effort{0.005, 4, 3, 9} : Race::Effort{0.05, 40, 5, 15}, options.out);

  Limits limits(options.threads);
  std::vector<Cell> cells;
  for (const Shape shape : shapes) {
    Heat(shape, batches, options.threads, options.only).run(dense, narrow, sparse, race, cells);
    limits.measure();
  }

  constexpr double kibibyte = 1024;
  std::printf(
      "%s; kernels %s, threads %d; %s%s; %.0f GF/s; reading 256 KiB: %.0f, 4 MiB: %.0f, "
      "512 MiB: %.1f GB/s.\n",
      describe_machine().c_str(), kernel::active<float>().arch, options.threads,
      dense.versions.c_str(), sparse.versions.c_str(), limits.flops() * 1e-9,
      limits.bandwidth(256 * kibibyte) * 1e-9, limits.bandwidth(4 * kibibyte * kibibyte) * 1e-9,
      limits.bandwidth(512 * kibibyte * kibibyte) * 1e-9);
  print_tables(cells, limits);
}

}  // namespace
}  // namespace pleat::bench

int main(int argc, char** argv) {
  try {
    pleat::bench::run(pleat::bench::parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
