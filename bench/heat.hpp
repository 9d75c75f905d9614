// SPDX-License-Identifier: MIT
// All races of one shape.
#pragma once

#include "kernels.hpp"
#include "peers.hpp"
#include "race.hpp"
#include "report.hpp"

#include <map>
#include <string>
#include <vector>

namespace pleat::bench {

/// Holds the operators of one shape, and the matrices for the other libraries.
class Heat {
 public:
  /// Of the kernels, those with `only` in their names.
  Heat(Shape shape, std::vector<Index> batches, int threads, const std::string& only);

  /// The races of all batches, one after the other. Throws `std::runtime_error` if a kernel of
  /// pleat is wrong; other libraries that are wrong are said aloud, and left out.
  void run(const Peers& dense, const Peers& narrow, const Peers& sparse, Race& race,
           std::vector<Cell>& cells);

 private:
  struct Entry {
    const Kernel* kernel;
    AnyOperator<float> op;
    Columns expected;
    double rounding;
  };
  struct Reference {
    Weights weights;
    Columns expected;
  };

  [[nodiscard]] bool is_right(const Contestant& contestant, Samples& samples, bool side_by_side,
                              const Columns& expected, double rounding) const;
  void add_peers(const std::string& group, const std::vector<Peer>& peers,
                 const Reference& reference, Samples& samples,
                 std::vector<Contestant>& contestants) const;

  Shape shape_;
  std::vector<Index> batches_;
  Columns inputs_;
  // A result is checked by its product with a vector of signs, which one wrong column changes as
  // much as it should.
  Eigen::VectorXf signs_;
  Workspace workspace_;
  std::vector<Entry> entries_;
  std::map<std::string, Reference> references_;  // by group of peers
};

}  // namespace pleat::bench
