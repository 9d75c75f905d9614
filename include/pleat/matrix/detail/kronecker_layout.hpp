// SPDX-License-Identifier: MIT
// Where the values of a Kronecker-sparse matrix lie: in the matrix, and in memory.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/kernel/table.hpp"

#include <algorithm>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

/// The pattern I_a (x) 1_{b x c} (x) I_d, of a b d rows and a c d columns: the entry at row
/// (i b + p) d + k and column (i c + q) d + k may be other than zero, for all i < a, p < b, q < c,
/// k < d. It holds a d dense b x c matrices, whose rows and columns are d apart.
///
/// (a, b, c, 1) is block-diagonal, (1, b, c, 1) dense, (1, 1, 1, d) diagonal; the two factors of a
/// Monarch matrix are (K, p, c, 1) and (1, q, r, J), and (2^l, 2, 2, 2^(L - 1 - l)) is level l of a
/// butterfly.
struct KroneckerPattern {
  Index a = 1;
  Index b = 1;
  Index c = 1;
  Index d = 1;

  /// As many b x c blocks along the diagonal as a rows x cols matrix needs to be covered.
  [[nodiscard]] static KroneckerPattern block_diagonal(Index rows, Index cols, Index b, Index c) {
    detail::require(b >= 1 && c >= 1, [&] {
      return "KroneckerPattern: there are no blocks of " + detail::shape_text(b, c);
    });
    const auto ceil = [](Index x, Index y) { return x / y + (x % y != 0 ? 1 : 0); };
    return {(std::max)({Index{1}, ceil(rows, b), ceil(cols, c)}), b, c, 1};
  }

  friend bool operator==(const KroneckerPattern&, const KroneckerPattern&) = default;
};

namespace detail {

[[nodiscard]] inline std::string text_of(const KroneckerPattern& pattern) {
  return '(' + std::to_string(pattern.a) + ", " + std::to_string(pattern.b) + ", " +
         std::to_string(pattern.c) + ", " + std::to_string(pattern.d) + ')';
}

/// The top-left rows x cols corner of a pattern, cut for the kernels.
///
/// For d = 1 and small d, and for narrow values, the unit is one b x c matrix, in the panels of a
/// dense one. From d = 16 on it is up to 16 of them, for consecutive k, with k in lanes: those read
/// and write consecutive memory. A strip is what a unit is computed by: 16 rows, or 4. Memory for
/// values is a slot for each unit in turn, of the size of a whole one.
struct KroneckerLayout {
  static constexpr Index panel = Index{kernel::panel_rows};

  /// What there is of the matrices (i, k), ..., (i, k + width - 1).
  struct Unit {
    Index first_row;  // of the matrix, where the unit begins
    Index first_col;
    Index y_size;  // from there to the end of the i-th block, or of the matrix
    Index x_size;
    Index rows;  // of the unit; the last of its first matrix
    Index cols;
    Index width;
  };

  KroneckerLayout() = default;

  /// Throws `std::invalid_argument` if the pattern is none, or does not cover the corner.
  KroneckerLayout(Index rows_, Index cols_, const KroneckerPattern& pattern_,
                  bool is_narrow = false)
      : rows(rows_), cols(cols_), pattern(pattern_) {
    // Not bound to names at once: clang before 16 lets no lambda see such names.
    const Index a = pattern.a;
    const Index b = pattern.b;
    const Index c = pattern.c;
    const Index d = pattern.d;
    require(a >= 1 && b >= 1 && c >= 1 && d >= 1, [&] {
      return "KroneckerSparse: the pattern " + text_of(pattern) + " has a size below 1";
    });
    // So that no product below overflows.
    constexpr Index most = Index{1} << 31;
    const auto fits = [&](Index x) { return x <= most && a <= most / x && d <= most / (a * x); };
    require(a <= most && d <= most && fits(b) && fits(c), [&] {
      return "KroneckerSparse: the pattern " + text_of(pattern) + " has more than 2^31 rows or " +
             "columns";
    });
    require(rows >= 0 && rows <= a * b * d && cols >= 0 && cols <= a * c * d, [&] {
      return "KroneckerSparse: the pattern " + text_of(pattern) + " is " +
             shape_text(a * b * d, a * c * d) + ", which does not cover a " +
             shape_text(rows, cols) + " matrix";
    });
    lanes = d >= panel && !is_narrow ? panel : 1;
    strip = lanes > 1 ? Index{kernel::strip_rows} : panel;
    height = (std::min)(b, ceil(rows, d));
    width = (std::min)(c, ceil(cols, d));
  }

  [[nodiscard]] static Index ceil(Index x, Index y) { return (x + y - 1) / y; }

  // Those of the rows and of the columns include units without any values.
  [[nodiscard]] Index row_blocks() const { return ceil(rows, pattern.b * pattern.d); }
  [[nodiscard]] Index col_blocks() const { return ceil(cols, pattern.c * pattern.d); }
  [[nodiscard]] Index row_units() const { return ceil((std::min)(pattern.d, rows), lanes); }
  [[nodiscard]] Index col_units() const { return ceil((std::min)(pattern.d, cols), lanes); }
  [[nodiscard]] Index strips() const { return ceil(height, strip); }

  [[nodiscard]] Index blocks() const { return (std::min)(row_blocks(), col_blocks()); }
  [[nodiscard]] Index units() const { return (std::min)(row_units(), col_units()); }

  /// Values of a slot.
  [[nodiscard]] Index slot() const {
    return (lanes == 1 ? ceil(height, panel) : height) * width * panel;
  }
  [[nodiscard]] Index slot_of(Index i, Index u) const { return (i * units() + u) * slot(); }
  /// The first row of a unit of narrow values: a slot is the panels of the tallest.
  [[nodiscard]] Index panel_row(Index i, Index u) const {
    return (i * units() + u) * ceil(height, panel) * panel;
  }

  [[nodiscard]] Unit unit(Index i, Index u) const {
    const auto& [a, b, c, d] = pattern;
    Unit result{};
    result.width = (std::min)(lanes, d - u * lanes);
    result.first_row = i * b * d + u * lanes;
    result.first_col = i * c * d + u * lanes;
    result.y_size = (std::max)(Index{0}, (std::min)(rows, (i + 1) * b * d) - result.first_row);
    result.x_size = (std::max)(Index{0}, (std::min)(cols, (i + 1) * c * d) - result.first_col);
    result.rows = ceil(result.y_size, d);
    result.cols = ceil(result.x_size, d);
    return result;
  }

  /// Where in the slot of a unit the value lies at row p and column q of its matrix number `lane`.
  [[nodiscard]] Index offset(const Unit& unit, Index p, Index q, Index lane) const {
    const Index first = p / strip * strip;
    if (lanes == 1) return (first * unit.cols) + q * panel + (p - first);
    const Index high = (std::min)(strip, unit.rows - first);
    return (first * unit.cols + q * high + (p - first)) * panel + lane;
  }

  /// How many values there are. All blocks but the last are whole.
  [[nodiscard]] Index count() const {
    const auto& [a, b, c, d] = pattern;
    const Index whole = (std::min)(rows / (b * d), cols / (c * d));
    if (whole == blocks()) return whole * b * c * d;
    const Index m = (std::min)(rows - whole * b * d, b * d);
    const Index n = (std::min)(cols - whole * c * d, c * d);
    // A matrix k has m / d rows, and one more where k < m % d; its columns are alike.
    const Index both = (std::min)(m % d, n % d);
    const Index one = (std::max)(m % d, n % d) - both;
    const Index more = m % d > n % d ? (m / d + 1) * (n / d) : (m / d) * (n / d + 1);
    return whole * b * c * d + both * (m / d + 1) * (n / d + 1) + one * more +
           (d - both - one) * (m / d) * (n / d);
  }

  Index rows = 0;
  Index cols = 0;
  KroneckerPattern pattern = {};
  Index lanes = 1;
  Index strip = panel;
  Index height = 0;  // rows and columns of the largest of the matrices
  Index width = 0;
};

/// Throws `std::invalid_argument`, naming it, for an entry that is not zero and lies outside the
/// pattern.
template <class Entries>
void require_pattern_of(const KroneckerLayout& layout, const Entries& entries) {
  const KroneckerPattern& pattern = layout.pattern;
  const Index tall = pattern.b * pattern.d;
  const Index wide = pattern.c * pattern.d;
  for (Index row = 0; row < layout.rows; ++row)
    for (Index col = 0; col < layout.cols; ++col)
      require((row / tall == col / wide && row % pattern.d == col % pattern.d) ||
                  entries.coeff(row, col) == typename Entries::Scalar(0),
              [&] {
                return "KroneckerSparse: the entry at row " + std::to_string(row) + ", column " +
                       std::to_string(col) + " is not zero, but lies outside the pattern " +
                       text_of(pattern);
              });
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
