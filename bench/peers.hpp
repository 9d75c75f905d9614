// SPDX-License-Identifier: MIT
// The dense libraries that pleat is measured against, behind one call each.
#pragma once

#include <Eigen/Core>

#include <functional>
#include <string>
#include <vector>

namespace pleat::bench {

/// One library's Y = W X: W is m x n, X and Y hold one sample a column, all column-major.
struct Peer {
  std::string name;
  /// Prepares the product for one weight and batch, as an inference engine would once, and returns
  /// it.
  std::function<std::function<void()>(const Eigen::MatrixXf& W, const Eigen::MatrixXf& X,
                                      Eigen::MatrixXf& Y)>
      prepare;
};

/// The libraries found on this machine, on one thread each; those that are missing are named on
/// stderr.
[[nodiscard]] std::vector<Peer> find_peers();

}  // namespace pleat::bench
