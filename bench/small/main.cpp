// SPDX-License-Identifier: MIT
// The benchmark of small layers, where what surrounds the arithmetic counts: nanoseconds a call of
// pleat, of Eigen, and of the bare kernel, as Markdown.
#include "machine.hpp"
#include "small/contest.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace pleat::bench::small {
namespace {

constexpr Index sizes[] = {8, 16, 32, 64, 128};
constexpr Index batches[] = {1, 4, 64};

using Nanoseconds = std::map<std::string, double>;  // of a call, by name of the contestant

double seconds(const Contestant& contestant, long calls) {
  const auto begin = std::chrono::steady_clock::now();
  contestant.run(calls);
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  return taken.count();
}

using Samples = std::map<std::string, std::vector<double>>;

/// Times all contestants, which take turns in repetitions of a twentieth of a millisecond: whatever
/// else the machine does hits all of them, and few repetitions of each.
void race(const Contestants& contestants, int rounds, Samples& nanoseconds) {
  constexpr double repetition = 50e-6;
  std::vector<long> calls;
  for (const Contestant& contestant : contestants) {
    long count = 1;
    double taken = seconds(contestant, count);
    while (taken < repetition / 4) taken = seconds(contestant, count *= 2);
    calls.push_back(std::max(1L, static_cast<long>(double(count) * repetition / taken)));
  }
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < contestants.size(); ++i)
      nanoseconds[contestants[i].name].push_back(seconds(contestants[i], calls[i]) /
                                                 double(calls[i]) * 1e9);
}

/// One scalar, size and batch.
struct Cell {
  const char* scalar;
  Index n;
  Index batch;
  Samples samples;
  Nanoseconds nanoseconds = {};
};

template <class T>
void measure(Cell& cell) {
  constexpr int rounds = 60;
  const Layer<T> layer(cell.n, cell.batch);
  // `SemiStructured` is compared with `Dense`, and races it.
  using enum Structure;
  for (const auto& together : {std::vector{dense, semi_structured}, {low_rank}, {armor}}) {
    Contestants contestants;
    for (const Structure structure : together)
      for (const Contestants& more :
           {eigen_contestants(structure, layer), pleat_contestants(structure, layer)})
        contestants.insert(contestants.end(), more.begin(), more.end());
    race(contestants, rounds, cell.samples);
  }
}

/// The lowest tenth: what a call takes while the machine does little else. It varies less from run
/// to run than the median, and than the least.
void summarize(Cell& cell) {
  for (auto& [name, samples] : cell.samples) {
    const auto decile = samples.begin() + static_cast<long>(samples.size() / 10);
    std::nth_element(samples.begin(), decile, samples.end());
    cell.nanoseconds[name] = *decile;
  }
}

/// "12.3", or "1234".
std::string text_of(double nanoseconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", nanoseconds < 99.95 ? 1 : 0, nanoseconds);
  return text;
}

/// A row for each scalar and size, a column for each batch.
template <class Entry>
void print_table(const std::vector<Cell>& cells, const std::string& title, Entry entry) {
  std::printf("\n%s\n\n| scalar | n |", title.c_str());
  for (const Index batch : batches) std::printf(" %td |", batch);
  std::printf("\n|---|---|");
  for (std::size_t i = 0; i < std::size(batches); ++i) std::printf("---|");
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i % std::size(batches) == 0) std::printf("\n| %s | %td |", cells[i].scalar, cells[i].n);
    std::printf(" %s |", entry(cells[i].nanoseconds).c_str());
  }
  std::printf("\n");
}

/// The ratio of the times of a peer and of pleat, and both. A star: more than `most` times the
/// peer's, and more than `allowance` ns above it.
std::string compared(double own, double peer, double most, double allowance) {
  char ratio[32];
  std::snprintf(ratio, sizeof ratio, "%.2f", peer / own);
  return std::string(ratio) + (own > std::max(most * peer, peer + allowance) ? "*" : "") + " (" +
         text_of(peer) + " / " + text_of(own) + ")";
}

void print_tables(const std::vector<Cell>& cells) {
  constexpr double most = 1.05;
  constexpr double allowance = 2;
  const std::string star =
      "A star: it takes more than 1.05 of Eigen's time, and more than 2 ns above it.";
  print_table(cells,
              "`Dense`, n x n, by batch: time of Eigen, of sizes that the compiler does not know, "
              "over time of pleat; above 1, pleat is faster. In brackets both in ns, and that of "
              "Eigen with sizes that the compiler knows. " +
                  star,
              [&](const Nanoseconds& ns) {
                std::string text = compared(ns.at("Dense"), ns.at("Eigen"), most, allowance);
                text.back() = ';';
                return text + " " + text_of(ns.at("Eigen, fixed sizes")) + ")";
              });
  const bool is_sse2 = kernel_name<float>() == "sse2";
  print_table(cells,
              std::string("`SemiStructured`, by batch: time of `Dense` over its time, and both in "
                          "ns. A star: it takes more") +
                  (is_sse2 ? " than 1.1 of it." : "."),
              [&](const Nanoseconds& ns) {
                return compared(ns.at("SemiStructured"), ns.at("Dense"), is_sse2 ? 1.1 : 1, 0);
              });
  print_table(cells,
              "`LowRank`, rank n / 4, by batch: time of Eigen's U (V X) over its time, and both in "
              "ns. " +
                  star,
              [&](const Nanoseconds& ns) {
                return compared(ns.at("LowRank"), ns.at("Eigen U (V X)"), most, allowance);
              });
  print_table(cells,
              "`Armor`, blocks of n / 8 and at least 4, by batch: time of Eigen with the same "
              "factors, block by block and the middle one sparse or dense, whichever is faster, "
              "over its time, and both in ns. " +
                  star,
              [&](const Nanoseconds& ns) {
                const double eigen =
                    std::min(ns.at("Eigen A S B, S sparse"), ns.at("Eigen A S B, S dense"));
                return compared(ns.at("Armor"), eigen, most, allowance);
              });
  print_table(cells,
              "What the library adds to a call of the kernel, in ns, by batch: the kernel of "
              "`Dense`, + what `Dense` adds, + what `AnyOperator` adds to that. A star: more than "
              "5 ns, and than 2 % of the call, of which two runs differ.",
              [&](const Nanoseconds& ns) {
                std::string text = text_of(ns.at("kernel"));
                double before = ns.at("kernel");
                for (const char* name : {"Dense", "AnyOperator"}) {
                  const double more = ns.at(name) - before;
                  text += (more < 0 ? " - " : " + ") + text_of(std::abs(more));
                  if (more > std::max(5.0, 0.02 * before)) text += "*";
                  before = ns.at(name);
                }
                return text;
              });
}

void run() {
  std::vector<Cell> cells;
  for (const char* scalar : {"float", "double"})
    for (const Index n : sizes)
      for (const Index batch : batches) cells.push_back({scalar, n, batch, {}});
  // All cells in turn and again, in other memory each time.
  for (int pass = 0; pass < 6; ++pass)
    for (Cell& cell : cells) {
      if (cell.scalar == std::string("float")) measure<float>(cell);
      else measure<double>(cell);
    }
  for (Cell& cell : cells) summarize(cell);
  std::printf(
      "Small layers, lower deciles. %s; kernels %s, header-only; one thread; Eigen %d.%d.%d.\n",
      describe_machine().c_str(), kernel_name<float>().c_str(), EIGEN_WORLD_VERSION,
      EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
  print_tables(cells);
}

}  // namespace
}  // namespace pleat::bench::small

int main() {
  try {
    pleat::bench::small::run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_small: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
