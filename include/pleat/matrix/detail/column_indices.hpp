// SPDX-License-Identifier: MIT
// Column indices of sparse rows, as narrow as the number of columns allows.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A tensor of the values at `data`; there may be none.
template <class T>
[[nodiscard]] Tensor tensor_of(const T* data, std::vector<std::int64_t> shape) {
  std::size_t size = sizeof(T);
  for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
  Tensor tensor{data_type_of<T>, std::move(shape), std::vector<std::byte>(size)};
  if (size > 0) std::memcpy(tensor.data.data(), data, size);
  return tensor;
}

/// The number of columns, if 32-bit indices can tell them apart.
[[nodiscard]] inline Index checked_cols(std::string_view structure, std::int64_t cols) {
  require(cols >= 0 && cols <= (std::int64_t{1} << 32),
          [&] { return std::string(structure) + ": " + std::to_string(cols) + " columns"; });
  return static_cast<Index>(cols);
}

/// An array of column indices: 16 bits each where that is enough, else 32.
class ColumnIndices {
 public:
  ColumnIndices() = default;
  ColumnIndices(Index size, Index cols)
      : short_(static_cast<std::size_t>(is_long(cols) ? 0 : size)),
        long_(static_cast<std::size_t>(is_long(cols) ? size : 0)),
        size_(size),
        is_long_(is_long(cols)) {}

  /// Bytes of one index into so many columns.
  [[nodiscard]] static std::size_t index_size(Index cols) noexcept {
    return is_long(cols) ? sizeof(std::uint32_t) : sizeof(std::uint16_t);
  }

  [[nodiscard]] const std::uint16_t* short_data() const noexcept { return short_.data(); }
  [[nodiscard]] const std::uint32_t* long_data() const noexcept { return long_.data(); }

  [[nodiscard]] Index operator[](Index i) const noexcept {
    return is_long_ ? static_cast<Index>(long_.data()[i]) : static_cast<Index>(short_.data()[i]);
  }
  void set(Index i, Index column) noexcept {
    if (is_long_) long_.data()[i] = static_cast<std::uint32_t>(column);
    else short_.data()[i] = static_cast<std::uint16_t>(column);
  }

  [[nodiscard]] Tensor tensor(std::vector<std::int64_t> shape) const {
    return is_long_ ? tensor_of(long_.data(), std::move(shape))
                    : tensor_of(short_.data(), std::move(shape));
  }
  /// Throws `std::invalid_argument` unless the tensor has that shape, and elements as wide as ours.
  void read(const Tensor& tensor, const std::vector<std::int64_t>& shape,
            std::string_view structure) {
    require(tensor.shape == shape, [&] {
      return std::string(structure) + ": the columns do not have the shape of the values";
    });
    if (is_long_) copy(tensor.values<std::uint32_t>(), long_.data(), structure);
    else copy(tensor.values<std::uint16_t>(), short_.data(), structure);
  }

  /// Throws `std::invalid_argument` unless the indices [begin, end), those of a row, ascend and are
  /// less than `cols`.
  void require_ascending(Index begin, Index end, Index cols, std::string_view structure,
                         Index row) const {
    for (Index i = begin; i < end; ++i) {
      const Index column = (*this)[i];
      require(column < cols, [&] {
        return std::string(structure) + ": row " + std::to_string(row) +
               " has an entry in column " + std::to_string(column) + " of " + std::to_string(cols);
      });
      require(i == begin || (*this)[i - 1] < column, [&] {
        return std::string(structure) + ": the columns of row " + std::to_string(row) +
               " do not ascend";
      });
    }
  }

 private:
  [[nodiscard]] static bool is_long(Index cols) noexcept { return cols > (Index{1} << 16); }

  template <class Column>
  void copy(const std::vector<Column>& from, Column* to, std::string_view structure) const {
    require(static_cast<Index>(from.size()) == size_, [&] {
      return std::string(structure) + ": " + std::to_string(from.size()) + " columns for " +
             std::to_string(size_) + " values";
    });
    std::copy(from.begin(), from.end(), to);
  }

  AlignedArray<std::uint16_t> short_ = {};
  AlignedArray<std::uint32_t> long_ = {};
  Index size_ = 0;
  bool is_long_ = false;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
