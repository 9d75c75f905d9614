// SPDX-License-Identifier: MIT
// What is measured: a row of the tables for each kernel.
#pragma once

#include "pleat/core/any_operator.hpp"

#include <functional>
#include <string>
#include <vector>

namespace pleat::bench {

struct Shape {
  Index rows;
  Index cols;
  friend bool operator==(const Shape&, const Shape&) = default;
};

/// An operator of pleat, and what it must compute: its product with a matrix, by other means.
struct Subject {
  AnyOperator<float> op;
  std::function<Matrix<float>(const Matrix<float>&)> exact;
  /// The relative error that rounding activations may cause; 0 where they are not rounded.
  double rounding = 0;
};

/// What a kernel should reach at least; 0 where nothing is asked.
struct Goal {
  double ratio = 0;  // to the best dense library
  double limit = 0;  // fraction of the physical limit
};

struct Kernel {
  std::string name;
  Subject (*make)(Shape shape);
  /// By shape and batch; and, for narrow storage, by the ratio of `Dense` there.
  Goal (*goal)(Shape shape, Index batch, double dense);
  /// Kernels of the same sparse matrix share a race of the sparse libraries; empty: no race.
  std::string sparse_matrix = {};
  /// The only shape that makes sense, if there is one.
  Shape only = {0, 0};
  /// The narrow numbers that other libraries multiply as well: "int8" or "bf16"; empty: none.
  std::string numbers = {};
};

[[nodiscard]] const std::vector<Kernel>& kernels();

}  // namespace pleat::bench
