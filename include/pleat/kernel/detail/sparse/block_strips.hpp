// SPDX-License-Identifier: MIT
// Strips of kept blocks: the rows that kernels compute at once, and where their blocks lie.
#pragma once

#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// The strips of `BlockRows`. Of an instruction set, so that no two objects have one alike.
template <class Arch, class T>
struct BlockStrips {
  /// Some blocks of a strip: at most `panel_rows` rows of a block row.
  struct Strip {
    const T* values;                    // column by column, `height` of each
    std::size_t pitch;                  // from one column to the next
    const std::uint16_t* columns;       // where the blocks lie, in blocks; one pointer is null
    const std::uint32_t* long_columns;  //
    std::size_t blocks;
    std::size_t height;
    T* y;

    [[nodiscard]] std::size_t column(std::size_t i) const {
      return columns != nullptr ? std::size_t{columns[i]} : std::size_t{long_columns[i]};
    }
    /// Without so many of its blocks; not its values.
    void leave(std::size_t some) {
      if (columns != nullptr) columns += some;
      else long_columns += some;
      blocks -= some;
    }
  };

  /// The inputs that strips are multiplied by: the columns [first, first + cols) of W.
  struct Inputs {
    std::size_t width;  // of a block
    std::size_t first;  // in blocks
    std::size_t cols;
    const T* x;  // samples side by side
  };

  /// A strip that has no values yet, and what says where they are.
  struct Part {
    Strip strip;
    std::size_t row;     // its block row, how many rows this has, and how many of them are above
    std::size_t height;  //
    std::size_t above;   //
    std::size_t before;  // kept columns left of it
  };

  const BlockRows<T>& matrix;
  std::size_t rows;
  std::size_t each;   // of every block row
  std::size_t count;  // of all of them

  BlockStrips(const BlockRows<T>& matrix_, std::size_t rows_)
      : matrix(matrix_),
        rows(rows_),
        each((matrix_.block_rows + panel_rows - 1) / panel_rows),
        count(rows_ / matrix_.block_rows * each +
              (rows_ % matrix_.block_rows + panel_rows - 1) / panel_rows) {}

  /// The first of the entries [begin, end) that is not left of a block.
  [[nodiscard]] std::size_t from(std::size_t begin, std::size_t end, std::size_t column) const {
    while (begin < end) {
      const std::size_t middle = begin + (end - begin) / 2;
      const std::size_t at = matrix.columns != nullptr ? std::size_t{matrix.columns[middle]}
                                                       : std::size_t{matrix.long_columns[middle]};
      if (at < column) begin = middle + 1;
      else end = middle;
    }
    return begin;
  }

  /// The first row of a strip.
  [[nodiscard]] std::size_t top(std::size_t strip) const {
    return strip / each * matrix.block_rows + strip % each * panel_rows;
  }

  /// Those blocks of a strip that lie in [first, last), and its rows of `y`.
  [[nodiscard]] Part part(std::size_t strip, std::size_t first, std::size_t last, T* y) const {
    const std::size_t row = strip / each;
    const std::size_t above = strip % each * panel_rows;
    const std::size_t own = row * matrix.block_rows;
    const std::size_t height = rows - own < matrix.block_rows ? rows - own : matrix.block_rows;
    const auto start = static_cast<std::size_t>(matrix.starts[row]);
    const auto end = static_cast<std::size_t>(matrix.starts[row + 1]);
    const std::size_t begin = from(start, end, first);
    const std::size_t high = height - above < panel_rows ? height - above : panel_rows;
    return {{nullptr, high, matrix.columns != nullptr ? matrix.columns + begin : nullptr,
             matrix.columns != nullptr ? nullptr : matrix.long_columns + begin,
             from(begin, end, last) - begin, high, y + own + above},
            row,
            height,
            above,
            (begin - start) * matrix.block_cols};
  }

  /// The same with values, as they are.
  [[nodiscard]] Strip at(std::size_t strip, std::size_t first, std::size_t last, T* y) const {
    Part found = part(strip, first, last, y);
    const auto offset = static_cast<std::size_t>(matrix.offsets[found.row]);
    const std::size_t kept =
        (static_cast<std::size_t>(matrix.offsets[found.row + 1]) - offset) / found.height;
    found.strip.values =
        matrix.values + offset + found.above * kept + found.before * found.strip.height;
    return found.strip;
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
