// SPDX-License-Identifier: MIT
// Where the kept values of N of M lie: packed for the kernels, and taken to and from files.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/kernel/table.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Throws `std::invalid_argument` unless there are kernels for a pattern.
inline void require_pattern(SparsePattern pattern) {
  const Index group = pattern.group;
  require(group == 4 || group == 8 || group == 16 || group == 32, [&] {
    return "SemiStructured: a group has 4, 8, 16 or 32 columns, not " + std::to_string(group);
  });
  require(pattern.kept >= 1 && pattern.kept < group, [&] {
    return "SemiStructured: of " + std::to_string(group) + " columns, 1 to " +
           std::to_string(group - 1) + " can be kept, not " + std::to_string(pattern.kept);
  });
}

/// The pattern that a file names, 2:4 if it names none.
[[nodiscard]] inline SparsePattern pattern_of(const Parts& parts) {
  if (!parts.attributes.contains("pattern")) return {2, 4};
  const std::string& text = parts.attributes.at("pattern");
  for (const Index group : {4, 8, 16, 32})
    for (Index kept = 1; kept < group; ++kept)
      if (text == to_string(SparsePattern{kept, group})) return {kept, group};
  throw std::invalid_argument("pleat: SemiStructured: unknown pattern \"" + text + '"');
}

/// The columns of the matrix in a file.
[[nodiscard]] inline Index columns_of(const Parts& parts) {
  const std::int64_t claimed = parts.integer("cols");
  require(claimed >= 0 && claimed <= (std::int64_t{1} << 48),
          [&] { return "SemiStructured: " + std::to_string(claimed) + " columns"; });
  return static_cast<Index>(claimed);
}

/// What is said of the first entry that a pattern has no room for.
[[nodiscard]] inline std::string one_too_many(SparsePattern pattern, Index row, Index col) {
  return "SemiStructured: the entry at row " + std::to_string(row) + ", column " +
         std::to_string(col) + " is nonzero number " + std::to_string(pattern.kept + 1) +
         " of its group of " + std::to_string(pattern.group) + " columns";
}

/// A pattern as the kernels have it.
[[nodiscard]] constexpr kernel::SemiStructuredPattern kernel_pattern(
    SparsePattern pattern) noexcept {
  return {static_cast<std::size_t>(pattern.kept), static_cast<std::size_t>(pattern.group)};
}

/// Kept values of a row.
[[nodiscard]] constexpr Index row_values(SparsePattern pattern, Index cols) noexcept {
  return static_cast<Index>(
      kernel::row_values(kernel_pattern(pattern), static_cast<std::size_t>(cols)));
}

/// Bits of a code in a file.
[[nodiscard]] constexpr Index file_code_bits(Index group) noexcept {
  return group == 4 ? 2 : group == 8 ? 3 : group == 16 ? 4 : 5;
}

/// Bytes of the places of one row.
[[nodiscard]] constexpr Index place_bytes(SparsePattern pattern, Index cols,
                                          Places places) noexcept {
  const Index bits =
      places == Places::masks ? cols : row_values(pattern, cols) * file_code_bits(pattern.group);
  return (bits + 7) / 8;
}

/// The form that is stored where a caller asks for this one. Throws `std::invalid_argument` for
/// none.
[[nodiscard]] inline Places stored_form(Places asked) {
  require(asked <= Places::masks,
          [] { return std::string("SemiStructured: unknown form of places"); });
  return asked == Places::masks ? asked : Places::codes;
}

/// The form that takes fewer of them.
[[nodiscard]] constexpr Places smaller_places(SparsePattern pattern, Index cols) noexcept {
  return place_bytes(pattern, cols, Places::masks) < place_bytes(pattern, cols, Places::codes)
             ? Places::masks
             : Places::codes;
}

/// Bytes of an N:M matrix.
[[nodiscard]] inline std::size_t semi_structured_bytes(Index rows, Index cols,
                                                       SparsePattern pattern, Storage storage,
                                                       Places places = Places::codes) {
  return matrix_bytes(storage, static_cast<std::size_t>(rows),
                      static_cast<std::size_t>(row_values(pattern, cols))) +
         static_cast<std::size_t>(rows * place_bytes(pattern, cols, places));
}

/// For each row of an N:M matrix, and each kept value counted through all its groups, the code of
/// the place that it has in its group. Codes ascend within a group. What no column of a last group
/// is there for lies past the end. Copies share the memory.
class SemiStructuredPlaces {
  static constexpr Index panel = Index{kernel::panel_rows};

 public:
  SemiStructuredPlaces() = default;
  SemiStructuredPlaces(Index rows, Index cols, SparsePattern pattern)
      : rows_(rows),
        cols_(cols),
        values_(row_values(pattern, cols)),
        pattern_(pattern),
        words_(static_cast<std::size_t>((rows + panel - 1) / panel * panel_words())) {}

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  /// Kept values of a row.
  [[nodiscard]] Index values() const noexcept { return values_; }
  [[nodiscard]] Index groups() const noexcept {
    return (cols_ + pattern_.group - 1) / pattern_.group;
  }
  [[nodiscard]] SparsePattern pattern() const noexcept { return pattern_; }
  /// The words from the panel that begins with `row` on, as the kernels read them.
  [[nodiscard]] const std::uint32_t* data(Index row) const noexcept {
    return words_.data() + row / panel * panel_words();
  }

  /// Where a kept value lies among the values of whole panels, and how many these are.
  [[nodiscard]] Index value_at(Index row, Index value) const noexcept {
    return (row / panel * values_ + value) * panel + row % panel;
  }
  [[nodiscard]] std::size_t values_size() const noexcept {
    return static_cast<std::size_t>((rows_ + panel - 1) / panel * panel * values_);
  }

  [[nodiscard]] Index code(Index row, Index value) const noexcept {
    const auto [word, shift] = place(row, value);
    return static_cast<Index>(words_.data()[word] >> shift) & (pattern_.group - 1);
  }
  /// The column that a kept value lies in, which may be past the last.
  [[nodiscard]] Index column(Index row, Index value) const noexcept {
    return value / pattern_.kept * pattern_.group + code(row, value);
  }
  /// Throws `std::invalid_argument` if it is.
  void require_column(Index row, Index value) const {
    require(column(row, value) < cols_, [&] {
      return "SemiStructured: row " + std::to_string(row) + " keeps a value past column " +
             std::to_string(cols_ - 1);
    });
  }
  /// What is 0 so far.
  void set(Index row, Index value, Index code) noexcept {
    const auto [word, shift] = place(row, value);
    words_.data()[word] |= static_cast<std::uint32_t>(code) << shift;
  }

  /// Keeps the `count` places `codes` of a group, ascending, and as many others as it takes: next
  /// to the last of them, as far as there are columns, and before it; where there are too few, past
  /// the end. Tells `taken(value, code)` of each, in order. One matrix has one encoding.
  template <class Taken>
  void keep(Index row, Index group, const Index* codes, Index count, Taken taken) {
    const Index width = (std::min)(pattern_.group, cols_ - group * pattern_.group);
    bool kept[32] = {};
    for (Index i = 0; i < count; ++i) kept[codes[i]] = true;
    Index missing = pattern_.kept - count;
    const Index last = count > 0 ? codes[count - 1] : -1;
    for (Index k = last + 1; k < width && missing > 0; ++k, --missing) kept[k] = true;
    for (Index k = (std::min)(last, width - 1); k >= 0 && missing > 0; --k)
      if (!kept[k]) kept[k] = true, --missing;
    for (Index k = width; missing > 0; ++k, --missing) kept[k] = true;
    Index value = group * pattern_.kept;
    for (Index k = 0; k < pattern_.group; ++k)
      if (kept[k]) {
        set(row, value, k);
        taken(value++, k);
      }
  }

  /// m x `place_bytes`: the codes of a row one after another, or a bit for every column of a row
  /// that has a value, lowest bits first.
  [[nodiscard]] Tensor tensor(Places places) const {
    Eigen::Matrix<std::uint8_t, Eigen::Dynamic, Eigen::Dynamic> bytes(
        rows_, place_bytes(pattern_, cols_, places));
    bytes.setZero();
    const auto set_bit = [&](Index row, Index bit) {
      bytes(row, bit / 8) = static_cast<std::uint8_t>(bytes(row, bit / 8) | 1 << (bit % 8));
    };
    const Index bits = file_code_bits(pattern_.group);
    for (Index row = 0; row < rows_; ++row)
      for (Index value = 0; value < values_; ++value) {
        if (places == Places::masks) {
          if (column(row, value) < cols_) set_bit(row, column(row, value));
          continue;
        }
        for (Index b = 0; b < bits; ++b)
          if ((code(row, value) >> b & 1) != 0) set_bit(row, value * bits + b);
      }
    return Tensor::of(bytes);
  }

  /// From such a tensor. Throws `std::invalid_argument` unless it has the shape, codes ascend
  /// within each group, masks keep as many columns of each group as there are values, and unused
  /// bits are 0.
  [[nodiscard]] static SemiStructuredPlaces from(const Tensor& tensor, Places places, Index rows,
                                                 Index cols, SparsePattern pattern) {
    const std::vector<std::uint8_t> bytes = tensor.values<std::uint8_t>();
    const Index width = place_bytes(pattern, cols, places);
    require(tensor.shape == std::vector<std::int64_t>{rows, width} &&
                bytes.size() == static_cast<std::size_t>(rows * width),
            [&] {
              return "SemiStructured: codes or masks of a " + shape_text(rows, cols) +
                     " matrix are " + shape_text(rows, width) + " bytes";
            });
    SemiStructuredPlaces result(rows, cols, pattern);
    const auto bit = [&](Index row, Index i) {
      return bytes[static_cast<std::size_t>(row * width + i / 8)] >> (i % 8) & 1;
    };
    const Index bits = file_code_bits(pattern.group);
    const Index used = places == Places::masks ? cols : result.values_ * bits;
    for (Index row = 0; row < rows && width > 0; ++row) {
      if (places == Places::masks) result.read_masks(row, bit);
      else result.read_codes(row, bit);
      for (Index i = used; i < 8 * width; ++i)
        require(bit(row, i) == 0, [&] {
          return "SemiStructured: row " + std::to_string(row) +
                 " has a bit set past its last group of columns";
        });
    }
    return result;
  }

 private:
  [[nodiscard]] Index panel_words() const noexcept {
    return static_cast<Index>(
        kernel::panel_words(kernel_pattern(pattern_), static_cast<std::size_t>(cols_)));
  }
  /// The word of a code, and how many bits of others come before it.
  [[nodiscard]] std::pair<Index, unsigned> place(Index row, Index value) const noexcept {
    const auto [word, before] =
        kernel::code_place(kernel_pattern(pattern_), static_cast<std::size_t>(value));
    return {row / panel * panel_words() + static_cast<Index>(word) * panel + row % panel,
            static_cast<unsigned>(before) *
                kernel::code_bits(static_cast<std::size_t>(pattern_.group))};
  }

  template <class Bit>
  void read_codes(Index row, const Bit& bit) {
    const Index bits = file_code_bits(pattern_.group);
    Index before = -1;
    for (Index value = 0; value < values_; ++value) {
      Index code = 0;
      for (Index b = 0; b < bits; ++b) code |= Index{bit(row, value * bits + b)} << b;
      require(value % pattern_.kept == 0 || code > before, [&] {
        return "SemiStructured: the codes of row " + std::to_string(row) + ", group " +
               std::to_string(value / pattern_.kept) + " do not ascend";
      });
      before = code;
      set(row, value, code);
    }
  }

  template <class Bit>
  void read_masks(Index row, const Bit& bit) {
    for (Index group = 0; group < groups(); ++group) {
      const Index first = group * pattern_.group;
      const Index width = (std::min)(pattern_.group, cols_ - first);
      Index codes[32] = {};
      Index count = 0;
      for (Index k = 0; k < width; ++k)
        if (bit(row, first + k) != 0) codes[count++] = k;
      const Index expected = (std::min)(pattern_.kept, width);
      require(count == expected, [&] {
        return "SemiStructured: the mask of row " + std::to_string(row) + ", group " +
               std::to_string(group) + " keeps " + std::to_string(count) + " columns, not " +
               std::to_string(expected);
      });
      keep(row, group, codes, count, [](Index, Index) {});
    }
  }

  Index rows_ = 0;
  Index cols_ = 0;
  Index values_ = 0;
  SparsePattern pattern_ = {};
  AlignedArray<std::uint32_t> words_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
