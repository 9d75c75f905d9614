// SPDX-License-Identifier: MIT
// What compressed layers before it make of a layer's inputs: moments of the difference.
#pragma once

#include "pleat/solve/linear/multiply.hpp"

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// For pairs of inputs, x as they were and x' as compressed layers before make them, with the
/// difference delta = x - x': the sums over samples of
///
///     D = delta x'^T,   Q = delta delta^T,   n x n, in double.
///
/// With G' = sum of x' x'^T these say all of how well any What x' stands for W x: with N = What -
/// W,
///
///     || What X' - W X ||^2 = tr(N G' N^T) - 2 tr(N D^T W^T) + tr(W Q W^T).
///
/// The difference, and not x x'^T: where layers before changed little, that would be the small
/// difference of large sums. Both are empty while nothing differs.
template <class = void>
struct CrossMoment {
  Matrix<double> D{};
  Matrix<double> Q{};

  [[nodiscard]] bool empty() const noexcept { return D.size() == 0; }

  /// Adds samples: their differences and x', n x any number.
  void add(const Matrix<double>& differences, const Matrix<double>& compressed) {
    if (differences.size() == 0 || !(differences.cwiseAbs().maxCoeff() > 0)) return;
    *this += CrossMoment{multiply(differences, Matrix<double>(compressed.transpose())),
                         outer_gram(differences)};
  }

  CrossMoment& operator+=(const CrossMoment& other) {
    if (empty()) return *this = other;
    if (other.empty()) return *this;
    D += other.D;
    Q += other.Q;
    return *this;
  }

  /// What the sum has more than one of its parts.
  CrossMoment& operator-=(const CrossMoment& part) {
    if (part.empty()) return *this;
    D -= part.D;
    Q -= part.Q;
    return *this;
  }

  /// Forgets inputs of x' that were never seen but for rounding.
  void forget(Index input) {
    if (!empty()) D.col(input).setZero();
  }

  /// The Gram matrix of x, from that of x'.
  [[nodiscard]] Matrix<double> original_gram(Matrix<double> compressed_gram) const {
    if (empty()) return compressed_gram;
    return symmetric_part(Matrix<double>(compressed_gram + D + D.transpose() + Q));
  }

  void swap(CrossMoment& other) noexcept {
    D.swap(other.D);
    Q.swap(other.Q);
  }
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
