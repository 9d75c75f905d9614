// SPDX-License-Identifier: MIT
// The libraries that pleat is measured against, behind one call each.
#pragma once

#include <Eigen/Core>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pleat::bench {

using Columns = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic>;
using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// One m x n matrix in both orders of memory: every library gets the one that it is faster with.
struct Weights {
  explicit Weights(Columns W) : columns(std::move(W)), rows(columns) {}
  Columns columns;
  Rows rows;
};

/// Inputs and outputs of one race. pleat and the dense libraries take one sample a column,
/// column-major. Sparse libraries that want samples side by side get them so, turned beforehand.
struct Samples {
  Samples(const Columns& inputs, Eigen::Index outputs)
      : X(inputs), Y(outputs, inputs.cols()), X_rows(padded(inputs)), Y_rows(Y) {}
  Columns X;  // n x batch
  Columns Y;  // m x batch
  Rows X_rows;
  Rows Y_rows;

 private:
  /// XNNPACK may read 16 bytes beyond the end.
  static Rows padded(const Columns& inputs) {
    Rows result = Rows::Zero(inputs.rows() + 4, inputs.cols());
    result.topRows(inputs.rows()) = inputs;
    return result;
  }
};

/// One way of one library to compute Y = W X.
struct Peer {
  std::string name;
  bool side_by_side;  // whether it takes X_rows and Y_rows
  /// Prepares the product for one weight and batch, as an inference engine would once, and returns
  /// it; or nothing, if the library cannot do it.
  std::function<std::function<void()>(const Weights&, Samples&)> prepare;
  /// What it rounds weights and inputs to, as `Kernel::numbers`; empty: it does not.
  std::string numbers = {};
  /// Of one weight, as it is stored,
  double bytes = sizeof(float);
  /// and the relative error that rounding may cause.
  double rounding = 0;
};

struct Peers {
  std::vector<Peer> peers;
  std::string versions;
};

/// The libraries found on this machine, on so many threads each, and those of them that multiply
/// narrow numbers; those that are missing are named on stderr.
[[nodiscard]] Peers find_dense_peers(int threads);
[[nodiscard]] Peers find_narrow_peers(int threads);
[[nodiscard]] Peers find_sparse_peers(int threads);

}  // namespace pleat::bench
