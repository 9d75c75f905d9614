// SPDX-License-Identifier: MIT
// The results as Markdown.
#pragma once

#include "kernels.hpp"
#include "limits.hpp"

#include <string>
#include <vector>

namespace pleat::bench {

/// One kernel, shape and batch; times in seconds.
struct Cell {
  const Kernel* kernel;
  Shape shape;
  Index batch;
  double own;
  double best_dense;
  double best_narrow;  // 0 where no library multiplied its narrow numbers
  double best_sparse;  // 0 where no sparse library ran
  double bytes;        // of the operator, its inputs and outputs
  double flops;
  bool rounds;  // activations, so that flops are not those of float
};

/// Prints the tables, of all shapes and batches that there are cells of.
void print_tables(const std::vector<Cell>& cells, const Limits& limits);

/// "1536 x 512".
[[nodiscard]] std::string text_of(Shape shape);

}  // namespace pleat::bench
