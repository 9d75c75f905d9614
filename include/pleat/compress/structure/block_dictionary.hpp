// SPDX-License-Identifier: MIT
// compress<BlockDictionary>: small dictionaries and sparse codes, in the metric of the calibration.
#pragma once

#include "pleat/compress/compress.hpp"
#include "pleat/compress/detail/target.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/factor/block_dictionary.hpp"
#include "pleat/solve/dictionary/block_dictionary_shapes.hpp"
#include "pleat/solve/dictionary/block_dictionary_solver.hpp"
#include "pleat/solve/linear/progress_report.hpp"
#include "pleat/solve/metric/layer_metric.hpp"
#include "pleat/solve/metric/shrinkage.hpp"
#include "pleat/solve/metric/wide_metric.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// compress<BlockDictionary>: makes || P^(1/2) (W - What) X ||_F small over dictionaries and codes,
/// by steps that never raise it; see `detail::BlockDictionarySolver`. Codes are found by orthogonal
/// least squares, atoms by the approximate K-SVD (Rubinstein et al. 2008). Blocks see each other's
/// errors through the whole of X X^T, which took a quarter off the error of real layers. Rows are
/// weighted by the diagonal of P. Calibrations may be singular; X X^T is shrunk, see
/// `Calibration::shrinkage`. Of 4096 inputs or more, while the calibration holds no more than n / 8
/// samples, they change nothing.
///
/// Shape: what `Options` give; the rest is chosen by short trials, on some of the columns, of the
/// shapes that the budget allows. Codes of 8, 16 or 32 atoms, which the kernels are made for, are
/// given up only for a tenth of the error. `Prefer::error` takes the closest, often with four atoms
/// a column; `Prefer::speed` the closest of those with two at most, and no more atoms than
/// `Options::target` picks inputs in one instruction. In narrow storage dictionaries are rounded
/// first, and codes found for those, then rounded. With s = k the rounds begin at the best of
/// rank k for each block. For `error`, the bytes are halved and halved again between too few and
/// enough, at some seven times the cost. Cost: m n k s^2 / b + m n^2 multiply-adds a round, in
/// double.
template <Real T>
struct Compressor<BlockDictionary<T>> {
  using Options = typename BlockDictionary<T>::Options;

  static BlockDictionary<T> run(const ConstMatrixRef<T>& W, const Budget& budget,
                                const Calibration<T>& calibration, const Options& options) {
    Maker maker(W, calibration, options);
    const Index m = W.rows();
    const Index n = W.cols();
    const std::size_t least = maker.bytes(maker.smallest());
    detail::require_budget("BlockDictionary", m, n, budget, sizeof(T), least, "its smallest shape");
    if (!budget.bounds_error()) return maker.within(budget.max_bytes(m, n, sizeof(T)));

    // Beyond the most bytes nothing is gained: all entries over as many atoms as columns lose
    // nothing.
    return detail::smallest_within_error<T>(
        "BlockDictionary", W, budget, calibration, least, (std::max)(least, maker.largest_bytes()),
        5, [&](std::size_t limit) { return maker.within(limit); }, [&] { return maker.stopped(); });
  }

 private:
  class Maker {
   public:
    Maker(const ConstMatrixRef<T>& W, const Calibration<T>& calibration, const Options& options)
        : m_(W.rows()),
          n_(W.cols()),
          given_{options.block, options.atoms, options.nonzeros},
          iterations_(options.iterations),
          prefer_(options.prefer),
          storage_(detail::require_storage<T>(options.storage)),
          most_atoms_(
              detail::most_inputs_picked(detail::resolved_target<T>(options.target), sizeof(T))),
          steady_(detail::steadied(calibration)),
          calibration_(steady_ ? *steady_ : calibration),
          stop_(options.monitor) {
      check();
      Wt_ = W.transpose().template cast<double>();
      scale_ = detail::power_of_two_below(Wt_.cwiseAbs().maxCoeff());
      Wt_ /= scale_;
      if (!detail::WideMetric<>::of(calibration_)) G_ = detail::scaled_gram(calibration_);
      weights_ = Vector<double>::Ones(m_);
      if (calibration.row_weights().size() > 0) weights_ = calibration.row_weights();
      if (calibration.output_metric().size() > 0)
        weights_ = calibration.output_metric().diagonal().cwiseMax(0);
      if (weights_.maxCoeff() > 0) weights_ /= weights_.maxCoeff();
      else weights_.setOnes();
    }

    /// The smallest shape that the options allow.
    [[nodiscard]] detail::DictionaryShape smallest() const {
      const Index s = std::max<Index>(1, given_.nonzeros);
      Index atoms = given_.atoms;
      if (atoms == 0) {
        atoms = s;
        if (is_narrow(storage_))
          for (atoms = 4; atoms <= s;) atoms *= 2;
      }
      return {given_.block > 0 ? given_.block : n_, atoms, s};
    }

    /// Bytes beyond which nothing is gained.
    [[nodiscard]] std::size_t largest_bytes() const {
      if (is_narrow(storage_)) {
        std::size_t most = 0;
        for (const auto& shape : shapes_within((std::numeric_limits<std::size_t>::max)()))
          most = (std::max)(most, bytes(shape));
        return most;
      }
      const Index b = given_.block > 0 ? given_.block : std::min<Index>(n_, 96);
      const Index k = given_.atoms > 0 ? given_.atoms : (std::max)(b, given_.nonzeros);
      const Index s = given_.nonzeros > 0 ? given_.nonzeros : (std::min)(b, k);
      return bytes({b, k, s});
    }

    [[nodiscard]] std::size_t bytes(const detail::DictionaryShape& shape) const {
      return detail::dictionary_bytes<T>(m_, n_, shape, storage_);
    }

    [[nodiscard]] bool stopped() const { return stop_.stopped(); }

    [[nodiscard]] BlockDictionary<T> within(std::size_t limit) {
      auto shapes = shapes_within(limit);
      if (shapes.empty()) shapes.push_back(smallest());
      shrink(shapes[shapes.size() / 2]);
      const detail::DictionaryShape shape = shapes.size() == 1 ? shapes[0] : best_of(shapes);
      detail::BlockDictionarySolver solver(Wt_, G_, weights_, shape, stop_.monitor());
      solver.run(2 * iterations_, iterations_);
      if (!is_narrow(storage_)) return packed(solver, shape);
      // What rounding took from the dictionaries, their codes make good as far as they can.
      solver.recode(atoms(dictionaries(solver, shape), shape), iterations_);
      return packed(solver, shape);
    }

   private:
    [[nodiscard]] std::vector<detail::DictionaryShape> shapes_within(std::size_t limit) const {
      return detail::dictionary_shapes<T>(m_, n_, limit, given_, most_atoms_,
                                          prefer_ == Prefer::speed, storage_);
    }

    void check() const {
      const auto& [b, k, s] = given_;
      detail::require(b >= 0 && b <= n_, [this] {
        return "compress<BlockDictionary>: blocks of a " + detail::shape_text(m_, n_) +
               " matrix have between 1 and " + std::to_string(n_) + " columns, not " +
               std::to_string(given_.block);
      });
      constexpr Index most = Index{1} << 30;  // so that sizes in bytes do not overflow
      detail::require(0 <= k && k <= most && 0 <= s && s <= (k == 0 ? most : k), [this] {
        return "compress<BlockDictionary>: there are no " + std::to_string(given_.nonzeros) +
               " nonzeros among " + std::to_string(given_.atoms) + " atoms";
      });
      detail::require(
          !is_narrow(storage_) ||
              ((k == 0 || detail::has_pattern(std::max<Index>(1, s), k)) && s < 32),
          [this] {
            return "compress<BlockDictionary>: codes in narrow storage are of 4, 8, 16 or 32 "
                   "atoms, and of fewer of them than all, not " +
                   std::to_string(given_.nonzeros) + " of " + std::to_string(given_.atoms);
          });
      detail::require(iterations_ >= 0, [this] {
        return "compress<BlockDictionary>: iterations must not be negative, but are " +
               std::to_string(iterations_);
      });
    }

    /// Shrinks the Gram matrix, once, by what suits such a shape in a short trial on at most 192
    /// rows.
    void shrink(const detail::DictionaryShape& shape) {
      if (shrunk_ || G_.size() == 0) return;
      shrunk_ = true;
      const double a =
          detail::chosen_shrinkage(calibration_, 1, stop_.monitor(), [&](const auto& folds) {
            const Index height = std::min<Index>(m_, 192);
            Matrix<double> sample(n_, height);
            Vector<double> weights(height);
            for (Index i = 0; i < height; ++i) {
              sample.col(i) = Wt_.col(i * m_ / height);
              weights(i) = weights_(i * m_ / height);
            }
            return std::function<double(double)>(
                [=, grams = detail::fold_grams(folds), Wt = std::move(sample)](double shrinkage) {
                  double sum = 0;
                  for (const std::size_t fold : {0U, 1U}) {
                    detail::BlockDictionarySolver solver(Wt, detail::shrunk(grams[fold], shrinkage),
                                                         weights, shape, {});
                    solver.run(2, 1);
                    sum += solver.loss(grams[1 - fold]);
                  }
                  return sum;
                });
          });
      G_ = detail::shrunk(std::move(G_), a);
    }

    /// The shape that does best in a short trial, on whole blocks of at most 96 columns in the
    /// middle, where there are so many, and 1024 rows.
    [[nodiscard]] detail::DictionaryShape best_of(
        const std::vector<detail::DictionaryShape>& shapes) {
      const Index stride = (m_ + 1023) / 1024;
      const Index height = (m_ + stride - 1) / stride;
      Vector<double> weights(height);
      for (Index i = 0; i < height; ++i) weights(i) = weights_(i * stride);
      const Monitor report = stop_.monitor();
      const auto count = static_cast<Index>(shapes.size());
      detail::DictionaryShape best = shapes[0];
      double least = std::numeric_limits<double>::infinity();
      for (Index i = 0; i < count; ++i) {
        const detail::DictionaryShape& shape = shapes[static_cast<std::size_t>(i)];
        const Index whole = (std::max)(Index{1}, 96 / shape.block) * shape.block;
        const Index width = (std::min)(n_, whole);
        const Index first = (n_ - width) / 2;
        Matrix<double> sample(width, height);
        for (Index row = 0; row < height; ++row)
          sample.col(row) = Wt_.block(first, row * stride, width, 1);
        const Matrix<double> G =
            G_.size() > 0 ? Matrix<double>(G_.block(first, first, width, width)) : G_;
        detail::BlockDictionarySolver solver(sample, G, weights, shape, {});
        const double all = solver.whole();
        solver.run(2, 1);
        const double loss = all > 0 ? solver.loss() / all : 0;
        // Narrow blocks come first, and are faster to fit: wider ones have to be worth it, and
        // codes that no kernel is made for a tenth of the error.
        const double worth = detail::has_pattern(shape.nonzeros, shape.atoms) ? 0.99 : 0.8;
        if (loss < (i == 0 ? 1 : worth) * least) {
          least = loss;
          best = shape;
        }
        if (report && !report({"shapes", i + 1, count, 1})) break;
        if (least <= 1e-20) break;
      }
      return best;
    }

    [[nodiscard]] BlockDictionary<T> packed(const detail::BlockDictionarySolver<>& solver,
                                            const detail::DictionaryShape& shape) const {
      const auto blocks = static_cast<Index>(solver.blocks().size());
      Matrix<T> values(m_, blocks * shape.nonzeros);
      Matrix<Index> columns(m_, blocks * shape.nonzeros);
      std::vector<Index> order(static_cast<std::size_t>(shape.nonzeros));
      for (Index j = 0; j < blocks; ++j) {
        const auto& block = solver.blocks()[static_cast<std::size_t>(j)];
        for (Index i = 0; i < m_; ++i) {
          std::iota(order.begin(), order.end(), Index{0});
          std::sort(order.begin(), order.end(), [&](Index x, Index y) {
            return block.codes.atoms(x, i) < block.codes.atoms(y, i);
          });
          for (Index e = 0; e < shape.nonzeros; ++e) {
            const Index from = order[static_cast<std::size_t>(e)];
            const Index atom = block.codes.atoms(from, i);
            values(i, j * shape.nonzeros + e) = static_cast<T>(
                block.codes.values(from, i) * (scale_ / atom_scale(block.dictionary.Dt, atom)));
            columns(i, j * shape.nonzeros + e) = j * shape.atoms + atom;
          }
        }
      }
      return BlockDictionary<T>(codes(shape, values, columns), dictionaries(solver, shape));
    }

    /// As they are stored.
    [[nodiscard]] KroneckerSparse<T> dictionaries(const detail::BlockDictionarySolver<>& solver,
                                                  const detail::DictionaryShape& shape) const {
      const auto blocks = static_cast<Index>(solver.blocks().size());
      Vector<T> values = Vector<T>::Zero(blocks * shape.atoms * shape.block);
      for (Index j = 0; j < blocks; ++j) {
        const auto& block = solver.blocks()[static_cast<std::size_t>(j)];
        for (Index k = 0; k < shape.atoms; ++k)
          values.segment((j * shape.atoms + k) * shape.block, block.width) =
              (block.dictionary.Dt.col(k) * atom_scale(block.dictionary.Dt, k)).template cast<T>();
      }
      const KroneckerPattern pattern{blocks, shape.atoms, shape.block, 1};
      return KroneckerSparse<T>(blocks * shape.atoms, n_, pattern, values).stored_as(storage_);
    }

    /// The transposed dictionaries, one by one.
    [[nodiscard]] std::vector<Matrix<double>> atoms(const KroneckerSparse<T>& dictionaries,
                                                    const detail::DictionaryShape& shape) const {
      const Vector<double> values = dictionaries.values().template cast<double>();
      std::vector<Matrix<double>> blocks;
      for (Index first = 0; first < n_; first += shape.block) {
        const Index width = (std::min)(shape.block, n_ - first);
        blocks.push_back(Eigen::Map<const Matrix<double>>(values.data() + first * shape.atoms,
                                                          width, shape.atoms));
      }
      return blocks;
    }

    /// In lanes, if there is a pattern for that.
    [[nodiscard]] DictionaryCodes<T> codes(const detail::DictionaryShape& shape,
                                           const Matrix<T>& values,
                                           const Matrix<Index>& columns) const {
      const Index blocks = values.cols() / shape.nonzeros;
      const Index cols = blocks * shape.atoms;
      if (!detail::has_pattern(shape.nonzeros, shape.atoms))
        return RowSparse<T>(cols, values, columns);
      Matrix<T> C = Matrix<T>::Zero(values.rows(), cols);
      for (Index e = 0; e < values.cols(); ++e)
        for (Index i = 0; i < values.rows(); ++i) C(i, columns(i, e)) = values(i, e);
      return SemiStructured<T>(C, {shape.nonzeros, shape.atoms}, storage_,
                               detail::code_places(blocks, shape));
    }

    /// Atoms are of length 1 in the metric, which says nothing about their entries: these are
    /// brought to about 1.
    [[nodiscard]] static double atom_scale(const Matrix<double>& Dt, Index atom) {
      return 1 / detail::power_of_two_below(Dt.col(atom).cwiseAbs().maxCoeff());
    }

    Index m_;
    Index n_;
    detail::DictionaryShape given_;
    Index iterations_;
    Prefer prefer_;
    Storage storage_;
    Index most_atoms_;  // of codes in lanes
    std::optional<Calibration<T>> steady_;
    const Calibration<T>& calibration_;  // what is fitted to
    detail::StopMonitor stop_;
    Matrix<double> Wt_{};  // scaled
    double scale_ = 1;
    Matrix<double> G_{};  // scaled; empty for the identity
    bool shrunk_ = false;
    Vector<double> weights_{};
  };
};

}  // namespace PLEAT_ABI
}  // namespace pleat
