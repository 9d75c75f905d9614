// SPDX-License-Identifier: MIT
// How far low rank shrinks a Gram matrix: by its closed form on both folds, for some of the rows.
#pragma once

#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/square_root.hpp"
#include "pleat/solve/metric/shrinkage.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// W G_a W^T, of a calibration's Gram matrix, in two parts: W G W^T and W diag(G) W^T; of inputs
/// divided by `unit`. Where samples are held, from them: no n x n matrix.
struct OutputMoment {
  Matrix<double> whole{};
  Matrix<double> diagonal{};

  [[nodiscard]] Matrix<double> shrunk(double a) const {
    return a == 0 ? whole : Matrix<double>((1 - a) * whole + a * diagonal);
  }
};
template <Real T>
[[nodiscard]] OutputMoment output_moment(const Matrix<double>& W, const Calibration<T>& calibration,
                                         double unit) {
  Matrix<double> X = calibration.held_samples().template cast<double>();
  Vector<double> d;
  OutputMoment moment;
  if (X.size() > 0) {
    X /= unit;
    d = X.rowwise().squaredNorm();
    moment.whole = outer_gram(multiply(W, X));
  } else {
    const Matrix<double> G = calibration.gram() / (unit * unit);
    d = G.diagonal().cwiseMax(0);
    moment.whole = symmetric_part(multiply(multiply(W, G), Matrix<double>(W.transpose())));
  }
  moment.diagonal = outer_gram(Matrix<double>(W * d.cwiseSqrt().asDiagonal()));
  return moment;
}

/// The shrinkage for factors of a rank of W, by the loss that the optimal factors for one fold have
/// in the other, for at most 128 rows and as large a share of the rank. Takes W times a scale that
/// does not overflow.
template <Real T>
[[nodiscard]] double low_rank_shrinkage(const Matrix<double>& W, const Calibration<T>& calibration,
                                        Index rank, const Monitor& monitor) {
  return chosen_shrinkage(calibration, 1, monitor, [&](const auto& folds) {
    const Index height = std::min<Index>(W.rows(), 128);
    const Matrix<double> rows = some_weighted_rows(W, calibration, height);
    const double share = static_cast<double>((std::min)(height, W.cols())) /
                         static_cast<double>((std::min)(W.rows(), W.cols()));
    const auto kept = std::clamp<Index>(std::lround(share * double(rank)), 1, height);
    const double unit = input_unit(folds);
    return std::function<double(double)>(
        [kept,
         moments = std::array<OutputMoment, 2>{output_moment(rows, folds[0], unit),
                                               output_moment(rows, folds[1], unit)}](double a) {
          double sum = 0;
          for (const std::size_t fold : {0U, 1U}) {
            const auto pairs = eigenpairs(moments[fold].shrunk(a));
            const Matrix<double> lost =
                pairs.eigenvectors().leftCols(pairs.eigenvalues().size() - kept);
            sum += lost.cwiseProduct(multiply(moments[1 - fold].whole, lost)).sum();
          }
          return sum;
        });
  });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
