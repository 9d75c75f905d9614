// SPDX-License-Identifier: MIT
// A weight that is a sum of Kronecker products.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/meeting.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/kronecker_sum.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// What = sum over r < R of A_r (x) B_r, or its top left m x n corner, with A_r: m1 x n1 and B_r:
/// m2 x n2, m1 m2 >= m and n1 n2 >= n: entry (i1 m2 + i2, j1 n2 + j2) is the sum of A_r(i1, j1)
/// B_r(i2, j2). A weight of so few values can have full rank, where `LowRank` of as many has not;
/// with n1 = m2 = 1 it is `LowRank`.
///
/// Stored: R (m1 n1 + m2 n2) values, as they are or narrower (see `Storage`): all A_r in one dense
/// matrix, and all B_r in another; those that are applied first (see `KroneckerShape`) lie below
/// each other, the others side by side. Cost of `apply`: 2 R n1 m2 (n2 + m1) or 2 R m1 n2 (n1 + m2)
/// flops a sample, whichever is less, in two products of the dense kernels; samples in chunks whose
/// some 256 KiB of scratch stay in cache.
///
/// Source: C. Van Loan and N. Pitsianis, "Approximation with Kronecker products", 1993.
template <Real T>
class Kronecker : public OperatorBase<Kronecker<T>, T> {
 public:
  static constexpr std::string_view name = "Kronecker";

  struct Options {
    /// m1, the rows of A_r; 0 leaves them to the budget. B_r has m / m1 rows, rounded up.
    Index left_rows = 0;
    /// n1, the columns of A_r; 0 leaves them to the budget. B_r has n / n1 columns, rounded up.
    Index left_cols = 0;
    /// R; 0 leaves it to the budget and `rank_rule`. At most min(m1 n1, m2 n2), which is exact.
    Index terms = 0;
    /// How many terms to take of those that the budget allows.
    RankRule rank_rule = RankRule::budget;
    /// For `RankRule::energy`: the share of the squared singular values to keep, in (0, 1].
    double energy = 0.95;
    /// Rounds of half-steps in the metric of a calibration; 0 takes 20, fewer where they take long
    /// or nothing is left to gain.
    Index iterations = 0;
    /// How all A_r and B_r are stored.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the random vectors from which singular vectors of large weights are iterated.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From the matrix of all A_r and that of all B_r, of the shapes `shape.left()` and
  /// `shape.right()`. Throws `std::invalid_argument` if they have others, or the products do not
  /// cover the rows and columns.
  Kronecker(const KroneckerShape& shape, Dense<T> left, Dense<T> right)
      : sum_(shape, std::move(left), std::move(right)) {}

  /// From A_1, A_2, ... and B_1, B_2, ..., one of each a term, as they come out of training; m x n,
  /// or as large as their products are. Throws `std::invalid_argument` if there are none, or not as
  /// many of the one as of the other, or their shapes differ, or do not cover m x n.
  Kronecker(Index rows, Index cols, const std::vector<Matrix<T>>& left,
            const std::vector<Matrix<T>>& right, Storage storage = native_storage<T>)
      : Kronecker(shape_of(rows, cols, left, right), left, right, storage) {}
  Kronecker(const std::vector<Matrix<T>>& left, const std::vector<Matrix<T>>& right,
            Storage storage = native_storage<T>)
      : Kronecker(whole_shape(left, right), left, right, storage) {}

  [[nodiscard]] Index rows() const noexcept { return sum_.rows(); }
  [[nodiscard]] Index cols() const noexcept { return sum_.cols(); }
  [[nodiscard]] const KroneckerShape& shape() const noexcept { return sum_.shape(); }
  [[nodiscard]] Index left_rows() const noexcept { return shape().left_rows; }
  [[nodiscard]] Index left_cols() const noexcept { return shape().left_cols; }
  [[nodiscard]] Index right_rows() const noexcept { return shape().right_rows; }
  [[nodiscard]] Index right_cols() const noexcept { return shape().right_cols; }
  /// R.
  [[nodiscard]] Index terms() const noexcept { return shape().terms; }

  /// All A_r.
  [[nodiscard]] const Dense<T>& left() const noexcept { return sum_.left(); }
  /// All B_r.
  [[nodiscard]] const Dense<T>& right() const noexcept { return sum_.right(); }
  /// A_1, A_2, ..., as they are stored.
  [[nodiscard]] std::vector<Matrix<T>> left_terms() const {
    return apart(left(), left_rows(), left_cols(), !shape().right_first());
  }
  /// B_1, B_2, ..., as they are stored.
  [[nodiscard]] std::vector<Matrix<T>> right_terms() const {
    return apart(right(), right_rows(), right_cols(), shape().right_first());
  }

  /// The same with activations rounded as they meet narrow factors; see `Dense::with_activations`.
  [[nodiscard]] Kronecker with_activations(Activations activations) const {
    detail::require_meets(structure(), activations, left(), right());
    return Kronecker(shape(), detail::meeting(left(), activations),
                     detail::meeting(right(), activations));
  }
  [[nodiscard]] bool rounds_activations() const {
    return detail::rounds_activations(left()) || detail::rounds_activations(right());
  }
  [[nodiscard]] bool meets(Activations activations) const {
    return left().meets(activations) || right().meets(activations);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return sum_.bytes(); }
  [[nodiscard]] double flops() const noexcept { return sum_.flops(); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  /// "3 terms of 16 x 16 and 64 x 32".
  [[nodiscard]] std::string parameters() const {
    const std::string stored = left().parameters();
    return std::to_string(terms()) + (terms() == 1 ? " term of " : " terms of ") +
           detail::shape_text(left_rows(), left_cols()) + " and " +
           detail::shape_text(right_rows(), right_cols()) + (stored.empty() ? "" : ", " + stored);
  }

  /// Bytes of one of a shape.
  [[nodiscard]] static std::size_t stored_bytes(const KroneckerShape& shape,
                                                Storage storage = native_storage<T>) {
    const auto bytes = [&](std::pair<Index, Index> size) {
      return matrix_bytes(storage, static_cast<std::size_t>(size.first),
                          static_cast<std::size_t>(size.second));
    };
    return bytes(shape.left()) + bytes(shape.right());
  }

  /// "left" and "right", and the numbers of `KroneckerShape` as attributes.
  [[nodiscard]] Parts parts() const {
    const auto text = [](Index size) { return std::to_string(size); };
    return {structure(),
            {{"rows", text(rows())},
             {"cols", text(cols())},
             {"left_rows", text(left_rows())},
             {"left_cols", text(left_cols())},
             {"right_rows", text(right_rows())},
             {"right_cols", text(right_cols())},
             {"terms", text(terms())}},
            {},
            {{"left", left().parts()}, {"right", right().parts()}}};
  }
  /// Throws what the parts of the matrices, and the constructor, throw.
  [[nodiscard]] static Kronecker from_parts(const Parts& parts) {
    const auto size = [&](const char* attribute) {
      return static_cast<Index>(parts.integer(attribute));
    };
    const KroneckerShape shape{size("rows"),      size("cols"),       size("left_rows"),
                               size("left_cols"), size("right_rows"), size("right_cols"),
                               size("terms")};
    return Kronecker(shape, Dense<T>::from_parts(parts.child("left")),
                     Dense<T>::from_parts(parts.child("right")));
  }

 private:
  friend OperatorBase<Kronecker, T>;
  using Terms = std::vector<Matrix<T>>;

  Kronecker(const KroneckerShape& shape, const Terms& left, const Terms& right, Storage storage)
      : Kronecker(shape, Dense<T>(together(left, !shape.right_first()), storage),
                  Dense<T>(together(right, shape.right_first()), storage)) {}

  static KroneckerShape whole_shape(const Terms& left, const Terms& right) {
    const KroneckerShape shape = shape_of(0, 0, left, right);
    return shape_of(shape.left_rows * shape.right_rows, shape.left_cols * shape.right_cols, left,
                    right);
  }
  static KroneckerShape shape_of(Index rows, Index cols, const Terms& left, const Terms& right) {
    detail::require(!left.empty() && left.size() == right.size(), [&] {
      return "Kronecker: " + std::to_string(left.size()) + " left and " +
             std::to_string(right.size()) + " right matrices are no pairs";
    });
    for (const Terms* terms : {&left, &right})
      for (const Matrix<T>& term : *terms) {
        const Matrix<T>& head = terms->front();
        detail::require(term.rows() == head.rows() && term.cols() == head.cols(), [&] {
          return "Kronecker: a " + detail::shape_text(head.rows(), head.cols()) + " and a " +
                 detail::shape_text(term.rows(), term.cols()) +
                 " matrix are not of terms of one shape";
        });
      }
    return {rows,
            cols,
            left[0].rows(),
            left[0].cols(),
            right[0].rows(),
            right[0].cols(),
            static_cast<Index>(left.size())};
  }

  /// Below each other, or side by side.
  static Matrix<T> together(const Terms& terms, bool below) {
    const Index rows = terms[0].rows();
    const Index cols = terms[0].cols();
    const auto count = static_cast<Index>(terms.size());
    Matrix<T> all(below ? count * rows : rows, below ? cols : count * cols);
    for (Index r = 0; r < count; ++r)
      all.block(below ? r * rows : 0, below ? 0 : r * cols, rows, cols) =
          terms[static_cast<std::size_t>(r)];
    return all;
  }
  static Terms apart(const Dense<T>& brick, Index rows, Index cols, bool below) {
    const Matrix<T> all = brick.to_dense();
    Terms terms;
    const Index count = all.size() / (rows * cols);
    for (Index r = 0; r < count; ++r)
      terms.push_back(all.block(below ? r * rows : 0, below ? 0 : r * cols, rows, cols));
    return terms;
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    detail::Unchecked::apply(sum_, X, Y, update, workspace);
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    detail::Unchecked::apply_transpose(sum_, Y, X, workspace);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const { sum_.reserve(workspace, batch); }

  detail::KroneckerSum<T> sum_;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
