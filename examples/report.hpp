// SPDX-License-Identifier: MIT
// What the example shows: progress while it works, and a table, row by row.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace report {

/// A line that follows the work, on a terminal only: a file or a pipe gets nothing.
class Progress {
 public:
  Progress() = default;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  /// Says where the work stands, at most ten times a second.
  void show(const std::string& what, std::size_t done, std::size_t of) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || (done < of && now - last_ < std::chrono::milliseconds(100))) return;
    last_ = now;
    std::fprintf(stderr, "\r\033[K%s  %zu / %zu", what.c_str(), done, of);
    std::fflush(stderr);
  }

  /// Gives the line back.
  void clear() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
#if defined(_WIN32)
  bool terminal_ = _isatty(_fileno(stderr)) != 0;
#else
  bool terminal_ = isatty(STDERR_FILENO) != 0;
#endif
  std::chrono::steady_clock::time_point last_{};
};

/// One encoder, measured.
struct Row {
  std::string structure{};
  std::size_t bytes = 0;          // of the ten linear layers
  std::vector<double> cosines{};  // to the dense embedding, one a sentence
  double fitted_error = 0;    // of the outputs of a layer, on the inputs it was fitted to; or -1
  double crossed_error = -1;  // what cross-validation expects on others, if it was asked; or -1
  double unseen_error = 0;    // what it is on those of the held-out sentences; or -1
  double milliseconds = 0;    // per sentence
  double times_dense = 1;     // that, as a multiple of the dense time

  [[nodiscard]] double mean_cosine() const {
    double sum = 0;
    for (const double cosine : cosines) sum += cosine;
    return sum / static_cast<double>(cosines.size());
  }

  /// The value that 5 % of the sentences stay below, interpolated between neighbours.
  [[nodiscard]] double fifth_percentile() const {
    std::vector<double> sorted = cosines;
    std::sort(sorted.begin(), sorted.end());
    const double position = 0.05 * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    const auto above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] +
           (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
  }
};

/// The first line of the table. Whoever reads it, by a pipe too, gets each line at once.
inline void print_head() {
  std::printf("\n%-23s %8s %8s %8s %8s %8s %9s %9s %9s %9s\n", "structure", "MB", "% dense",
              "fitted", "crossed", "unseen", "mean cos", "5th pct", "ms/sent.", "x dense");
  std::fflush(stdout);
}

/// An error, or a dash where there is none.
inline std::string error_text(double error) {
  char text[16] = "-";
  if (error >= 0) (void)std::snprintf(text, sizeof text, "%.4f", error);
  return text;
}

inline void print(const Row& row, std::size_t dense_bytes) {
  std::printf("%-23s %8.2f %8.1f %8s %8s %8s %9.4f %9.4f %9.2f %9.2f\n", row.structure.c_str(),
              static_cast<double>(row.bytes) / 1e6,
              100 * static_cast<double>(row.bytes) / static_cast<double>(dense_bytes),
              error_text(row.fitted_error).c_str(), error_text(row.crossed_error).c_str(),
              error_text(row.unseen_error).c_str(), row.mean_cosine(), row.fifth_percentile(),
              row.milliseconds, row.times_dense);
  std::fflush(stdout);
}

/// The row of a structure that cannot be made so small.
inline void print_impossible(const std::string& structure, const std::string& reason) {
  std::printf("%-23s not possible: %s\n", structure.c_str(), reason.c_str());
  std::fflush(stdout);
}

inline void print_legend(int compressing_threads) {
  std::printf(
      "MB: stored by the ten linear layers. fitted, unseen: relative error of a layer's outputs "
      "on\n"
      "the sentences that it was fitted to, and on others; crossed: what cross-validation on the\n"
      "former expects of the latter (--all: of more rows). mean cos, 5th pct: cosine to the dense\n"
      "embedding. x dense: time as a multiple of the dense time (below 1 is faster). Pairs keep a\n"
      "share of the hidden units of the two feed-forward layers, and have no layers to compare.\n"
      "in-turn: each layer is fitted to what the compressed ones before it make of its inputs.\n"
      "Compressed on %d thread%s; timed on one, on every third sentence.\n\n",
      compressing_threads, compressing_threads == 1 ? "" : "s");
}

}  // namespace report
