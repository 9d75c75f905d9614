// SPDX-License-Identifier: MIT
// The two exceptions of the library, and the checks that throw them.
#pragma once

#include "pleat/core/scalar.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// A file that is not what it claims. `what()` names the file, and the byte offset if there is one.
class FormatError : public std::runtime_error {
 public:
  FormatError(std::string file, std::string problem, std::optional<std::uint64_t> offset = {})
      : std::runtime_error(file + ": " + problem +
                           (offset ? " (at byte " + std::to_string(*offset) + ")" : std::string())),
        file_(std::move(file)),
        problem_(std::move(problem)),
        offset_(offset) {}

  /// The name of the file, or what a stream was called.
  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  /// What is wrong, without file and offset.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// Bytes from the start of the file to where it goes wrong, if that is one place.
  [[nodiscard]] std::optional<std::uint64_t> offset() const noexcept { return offset_; }

 private:
  std::string file_;
  std::string problem_;
  std::optional<std::uint64_t> offset_;
};

namespace detail {

inline std::string shape_text(Index rows, Index cols) {
  return std::to_string(rows) + " x " + std::to_string(cols);
}

/// Throws `std::invalid_argument` with `message()` unless `condition`; the text is made only then.
template <class Message>
void require(bool condition, Message&& message) {
  if (!condition) [[unlikely]]
    throw std::invalid_argument("pleat: " + std::string(std::forward<Message>(message)()));
}

/// The storage, if an operator of T can have it; throws `std::invalid_argument` otherwise.
template <Real T>
Storage require_storage(Storage storage) {
  require(storage <= Storage::int4, [] { return std::string("unknown storage"); });
  require(is_narrow(storage) || storage == native_storage<T>, [&] {
    return "an operator of " + std::string(to_string(native_storage<T>)) + " cannot store " +
           std::string(to_string(storage));
  });
  return storage;
}

/// Throws unless every entry is finite; the message names the first offender, column by column.
template <class Derived>
void require_finite(const Eigen::DenseBase<Derived>& values, std::string_view what) {
  // A product has no entries before it is evaluated; what lies in memory is not copied.
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  const Eigen::Ref<const typename Derived::PlainObject, 0, Strides> entries(values.derived());
  for (Index col = 0; col < values.cols(); ++col)
    for (Index row = 0; row < values.rows(); ++row)
      if (!is_finite(entries.coeff(row, col))) [[unlikely]]
        throw std::invalid_argument("pleat: " + std::string(what) +
                                    " must be finite, but the entry at row " + std::to_string(row) +
                                    ", column " + std::to_string(col) + " is NaN or infinite");
}

/// A strided column-major block of memory, in bytes: where it begins, how long a column is, how far
/// the next one lies, how many there are.
struct Extent {
  std::uintptr_t begin;
  std::uintptr_t column;
  std::uintptr_t stride;
  std::uintptr_t count;
};

template <class Derived>
Extent extent_of(const Derived& matrix) {
  constexpr std::uintptr_t size = sizeof(typename Derived::Scalar);
  const auto rows = static_cast<std::uintptr_t>(matrix.rows()) * size;
  const auto stride = static_cast<std::uintptr_t>(matrix.outerStride()) * size;
  return {reinterpret_cast<std::uintptr_t>(matrix.data()), rows, stride > rows ? stride : rows,
          rows == 0 ? 0 : static_cast<std::uintptr_t>(matrix.cols())};
}

/// Whether two strided blocks share a byte. Exact: two blocks of rows of one matrix interleave in
/// memory and yet do not overlap. O(1) where the address ranges are disjoint, else O(columns).
inline bool overlap(const Extent& a, const Extent& b) noexcept {
  if (a.count == 0 || b.count == 0) return false;
  const std::uintptr_t a_end = a.begin + (a.count - 1) * a.stride + a.column;
  const std::uintptr_t b_end = b.begin + (b.count - 1) * b.stride + b.column;
  if (a_end <= b.begin || b_end <= a.begin) return false;
  for (std::uintptr_t j = 0; j < a.count; ++j) {
    const std::uintptr_t begin = a.begin + j * a.stride;
    const std::uintptr_t end = begin + a.column;
    if (end <= b.begin || begin >= b_end) continue;
    // The last column of b that begins before `end` is the only one that can reach into [begin,
    // end) from the left; all later ones begin at or after `end`.
    const std::uintptr_t last = (end - 1 - b.begin) / b.stride;
    const std::uintptr_t column = last < b.count - 1 ? last : b.count - 1;
    if (b.begin + column * b.stride + b.column > begin) return true;
  }
  return false;
}

}  // namespace detail

}  // namespace PLEAT_ABI
}  // namespace pleat
