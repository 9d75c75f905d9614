// SPDX-License-Identifier: MIT
// A dictionary and sparse codes for each block of columns of one matrix, in the metric of all.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/solve/dictionary/block_dictionary_shapes.hpp"
#include "pleat/solve/dictionary/sparse_coding.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/square_root.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Minimises sum_i w_i || (W - [C_1 D_1 | C_2 D_2 | ...])_i ||_G^2 over the codes C_j, m x k with s
/// nonzeros in every row, and dictionaries D_j, k x b.
///
/// It begins with each block by itself, in the metric of its own part of G: atoms along the leading
/// directions, then codes and atoms in turn. Then rounds over all blocks: given the others, the
/// best that block j can be is the closest to T_j = W_j + E G_{:,j} G_jj^+, where E is the error
/// that the other blocks leave, in the metric G_jj. So a block makes good what others have lost.
/// Codes come from T_j G_jj = (E G)_{:,j} + What_j G_jj, which takes no inverse; atoms do, and the
/// step of a block is taken only if the loss, which is known exactly, falls.
template <class = void>
class BlockDictionarySolver {
 public:
  /// W is taken transposed; an empty G is the identity.
  BlockDictionarySolver(Matrix<double> Wt, Matrix<double> G, Vector<double> weights,
                        const DictionaryShape& shape, Monitor monitor)
      : Wt_(std::move(Wt)),
        G_(std::move(G)),
        weights_(std::move(weights)),
        shape_(shape),
        monitor_(std::move(monitor)) {
    for (Index first = 0; first < Wt_.rows(); first += shape_.block)
      blocks_.push_back({first, (std::min)(shape_.block, Wt_.rows() - first), {}, {}});
  }

  struct Block {
    Index first;
    Index width;
    SparseCodes codes;
    Dictionary dictionary;
  };

  /// `steps` for each block by itself, then `rounds` over all.
  void run(Index steps, Index rounds) {
    const auto count = static_cast<Index>(blocks_.size());
    if (G_.size() == 0) {  // then blocks have nothing to do with each other
      steps += rounds;
      rounds = 0;
    }
    bool going = true;
    // Some at once on the threads of the library's setting, as many whatever that is.
    constexpr Index together = 16;
    for (Index first = 0; first < count; first += together) {
      const Index some = (std::min)(together, count - first);
      parallel_ranges(some, [&](Index from, Index to) {
        for (Index j = first + from; j < first + to; ++j)
          begin(blocks_[static_cast<std::size_t>(j)], going ? steps : 0);
      });
      for (Index j = first; j < first + some; ++j)
        going = going && report("blocks", j + 1, count, 1);
    }
    if (going) improve_in_rounds(rounds, 1);
  }

  /// Goes on with other dictionaries that are nearly multiples of these, atom by atom, such as
  /// these in fewer bits, D_j^T one by one: finds codes for them in `rounds` rounds.
  void recode(const std::vector<Matrix<double>>& Dt, Index rounds) {
    for (std::size_t j = 0; j < blocks_.size(); ++j) {
      Block& block = blocks_[j];
      const Matrix<double> G = metric(block);
      const Vector<double> multiples =
          block.dictionary.Dt.cwiseProduct(Dt[j]).colwise().sum().cwiseQuotient(
              Dt[j].colwise().squaredNorm().cwiseMax((std::numeric_limits<double>::min)()));
      for (Index i = 0; i < block.codes.values.size(); ++i)
        block.codes.values.data()[i] *= multiples(block.codes.atoms.data()[i]);
      block.dictionary = {Dt[j], multiply(Dt[j].transpose(), multiply(G, Dt[j]))};
      if (G_.size() > 0) continue;
      const Matrix<double> Tt = Wt_.middleRows(block.first, block.width);
      alternate(block, Tt, Tt, G, 0);
    }
    if (G_.size() > 0) improve_in_rounds(rounds, 0);
  }

  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }

  /// What is minimised, of a Gram matrix of one's own.
  [[nodiscard]] double loss(const Matrix<double>& G) const {
    Matrix<double> error = Wt_;
    for (const Block& block : blocks_)
      error.middleRows(block.first, block.width) -= block.codes.times(block.dictionary.Dt);
    return weighted(error.cwiseProduct(G.size() > 0 ? multiply(G, error) : error));
  }
  [[nodiscard]] double loss() const { return loss(G_); }
  /// The same of nothing: what W itself weighs.
  [[nodiscard]] double whole() const {
    return weighted(Wt_.cwiseProduct(G_.size() > 0 ? multiply(G_, Wt_) : Wt_));
  }

 private:
  /// Rounds over all blocks, given the others; in each, atoms are improved `steps` times.
  void improve_in_rounds(Index rounds, Index steps) {
    if (rounds == 0) return;
    image_ = Wt_;
    for (const Block& block : blocks_)
      image_.middleRows(block.first, block.width) -= block.codes.times(block.dictionary.Dt);
    const Matrix<double> error = image_;
    image_ = multiply(G_, error);
    double loss = weighted(error.cwiseProduct(image_));
    const double all = whole();
    for (Index round = 1; round <= rounds; ++round) {
      const double before = loss;
      for (Block& block : blocks_) {
        loss += improve(block, steps);
        if (!report("rounds", round, rounds, all > 0 ? std::sqrt((std::max)(0.0, loss / all)) : 0))
          return;
      }
      if (loss > before * (1 - 1e-4)) return;
    }
  }

  bool report(std::string_view phase, Index iteration, Index iterations, double loss) const {
    return !monitor_ || monitor_({phase, iteration, iterations, loss});
  }

  [[nodiscard]] double weighted(const Matrix<double>& terms) const {
    return (terms.colwise().sum() * weights_)(0);
  }

  [[nodiscard]] Matrix<double> metric(const Block& block) const {
    if (G_.size() == 0) return Matrix<double>::Identity(block.width, block.width);
    return G_.block(block.first, block.first, block.width, block.width);
  }

  /// Codes and atoms in turn, ending with codes. Where atoms come to depend on each other, codes
  /// can get worse: the best are kept.
  void alternate(Block& block, const Matrix<double>& Tt, const Matrix<double>& GT,
                 const Matrix<double>& G, Index steps) const {
    const auto code = [&](Block& with) {
      return weights_.dot(improve_codes(with.dictionary.A,
                                        multiply(with.dictionary.Dt.transpose(), GT), with.codes));
    };
    double best = code(block);
    for (Index step = 0; step < steps; ++step) {
      Block next = block;
      improve_atoms(Tt, GT, G, weights_, next.codes, next.dictionary);
      const double gain = code(next);
      if (!(gain > best)) return;
      best = gain;
      block = std::move(next);
    }
  }

  void begin(Block& block, Index steps) const {
    const Matrix<double> G = metric(block);
    const Matrix<double> Tt = Wt_.middleRows(block.first, block.width);
    const Matrix<double> GT = multiply(G, Tt);
    block.codes = SparseCodes(shape_.nonzeros, Tt.cols());
    block.dictionary = leading(Tt, G);
    alternate(block, Tt, GT, G, steps);
  }

  /// The leading directions of the rows in the metric, the best dictionary where every row may use
  /// all of it; and some of the rows, where there are fewer directions than atoms.
  [[nodiscard]] Dictionary leading(const Matrix<double>& Tt, const Matrix<double>& G) const {
    Dictionary dictionary{Matrix<double>::Zero(Tt.rows(), shape_.atoms),
                          Matrix<double>::Zero(shape_.atoms, shape_.atoms)};
    const Matrix<double> R = square_root(G);
    const Matrix<double> moment =
        multiply(Tt, Matrix<double>((Tt * weights_.asDiagonal()).transpose()));
    const auto solver = eigenpairs(symmetric_part(R * moment * R));
    const Matrix<double> directions =
        moment * R * solver.eigenvectors().rowwise().reverse();  // W^T U, up to lengths
    Index found = 0;
    const double least =
        std::numeric_limits<double>::epsilon() * (std::max)(0.0, solver.eigenvalues().sum());
    for (Index l = 0; l < (std::min)(shape_.atoms, Tt.rows()); ++l)
      if (solver.eigenvalues()(Tt.rows() - 1 - l) > least &&
          dictionary.set(found, directions.col(l), G))
        ++found;
    // Rows at even distances; improve_atoms replaces those that nobody uses.
    for (Index l = found; l < shape_.atoms; ++l)
      (void)dictionary.set(l, Tt.col((l - found) * Tt.cols() / (shape_.atoms - found)), G);
    return dictionary;
  }

  /// One step of a block given the others; the change of the loss, never above 0.
  double improve(Block& block, Index steps) {
    const Matrix<double> G = metric(block);
    const Matrix<double> image = image_.middleRows(block.first, block.width);
    const Matrix<double> old = block.codes.times(block.dictionary.Dt);
    const Matrix<double> GT = image + multiply(G, old);
    // T = W + (what of T G is not W G) G^+: what the metric does not see stays that of W.
    const Matrix<double> own = Wt_.middleRows(block.first, block.width);
    const auto solver = eigenpairs(G);
    // So that rounding does not come back a thousandfold from what the metric hardly sees.
    const double least = 1e-6 * (std::max)(0.0, solver.eigenvalues().maxCoeff());
    const Vector<double> inverse = solver.eigenvalues().unaryExpr(
        [least](double value) { return value > least ? 1 / value : 0; });
    const Matrix<double> part = inverse.asDiagonal() * solver.eigenvectors().transpose();
    const Matrix<double> Tt =
        own + multiply(solver.eigenvectors(), multiply(part, GT - multiply(G, own)));
    Block next = block;
    alternate(next, Tt, GT, G, steps);
    const Matrix<double> change = next.codes.times(next.dictionary.Dt) - old;
    const double gain = weighted(change.cwiseProduct(multiply(G, change) - 2 * image));
    if (!(gain < 0)) return 0;
    Dense<double>(Matrix<double>(-G_.middleCols(block.first, block.width)))
        .apply_add(change, image_);
    block = std::move(next);
    return gain;
  }

  Matrix<double> Wt_;
  Matrix<double> G_;
  Vector<double> weights_;
  DictionaryShape shape_;
  Monitor monitor_;
  std::vector<Block> blocks_{};
  Matrix<double> image_{};  // G (W - What)^T
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
