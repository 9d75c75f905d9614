// SPDX-License-Identifier: MIT
// The scalars of the library, and the Eigen types through which matrices come in and go out.
#pragma once

#include "pleat/core/abi.hpp"

#include <Eigen/Core>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

namespace pleat {
inline namespace PLEAT_ABI {

/// Sizes and positions, as Eigen counts them.
using Index = Eigen::Index;

/// The type of activations and of the arithmetic.
template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

/// How the values of a brick are stored. Arithmetic is in the scalar of the operator in any case.
enum class Storage : std::uint8_t {
  f32,          ///< as they are, in an operator of float
  f64,          ///< as they are, in an operator of double
  bf16,         ///< 16 bits: the exponent of f32, 8 bits of precision
  f16,          ///< IEEE half precision: 11 bits of precision, up to 65504
  int8,         ///< 8 bits, times one f32 scale for each 64 values along a row
  int4,         ///< 4 bits, -8 to 7, times one f16 scale for each 32 values along a row
  int3,         ///< 3 bits, -4 to 3, the same
  int2,         ///< 2 bits, -2 to 1, the same
  int4_fitted,  ///< as int4, but each of its 16 integers stands for a number fitted to the matrix
  int3_fitted,  ///< as int3, 8 numbers
  int2_fitted,  ///< as int2, 4 numbers
};

/// The storage that changes no value.
template <Real T>
inline constexpr Storage native_storage = std::same_as<T, float> ? Storage::f32 : Storage::f64;

/// Whether values are stored in fewer bits than a scalar of any operator has.
[[nodiscard]] constexpr bool is_narrow(Storage storage) noexcept {
  return storage != Storage::f32 && storage != Storage::f64;
}

/// "f32", "int4", ...
[[nodiscard]] constexpr std::string_view to_string(Storage storage) noexcept {
  constexpr std::string_view names[] = {"f32",         "f64",         "bf16",       "f16",
                                        "int8",        "int4",        "int3",       "int2",
                                        "int4_fitted", "int3_fitted", "int2_fitted"};
  return names[static_cast<std::size_t>(storage)];
}

/// Which numbers, times a scale, the values of int4, int3 and int2 are rounded to.
enum class Levels : std::uint8_t {
  uniform,  ///< integers
  fitted    ///< those closest to the matrix, in a table of its own: `Storage::int4_fitted`, ...
};

/// What activations are rounded to before they meet narrow weights, as the call runs.
enum class Activations : std::uint8_t {
  automatic,  ///< what is fastest here; kept by the operator as one of the others
  native,     ///< nothing: weights are widened to the scalar
  int16,      ///< integers up to 32767 and a scale for each 64 of a sample, for int8 weights
  int8,       ///< integers up to 127, likewise, for weights of 8 bits and less
  bf16        ///< 16-bit floats, for bf16 weights
};

/// "automatic", "int8", ...
[[nodiscard]] constexpr std::string_view to_string(Activations activations) noexcept {
  constexpr std::string_view names[] = {"automatic", "native", "int16", "int8", "bf16"};
  return names[static_cast<std::size_t>(activations)];
}

namespace detail {

/// "stored as int8, activations as int8": what a description says of narrow weights.
[[nodiscard]] inline std::string storage_text(Storage storage, Activations activations) {
  std::string text = "stored as " + std::string(to_string(storage));
  if (activations != Activations::native)
    text += ", activations as " + std::string(to_string(activations));
  return text;
}

/// The bits of an integer of the storage, 0 where it has none.
[[nodiscard]] constexpr int integer_bits(Storage storage) noexcept {
  switch (storage) {
    case Storage::int8: return 8;
    case Storage::int4:
    case Storage::int4_fitted: return 4;
    case Storage::int3:
    case Storage::int3_fitted: return 3;
    case Storage::int2:
    case Storage::int2_fitted: return 2;
    default: return 0;
  }
}

/// Whether integers stand for numbers of a table.
[[nodiscard]] constexpr bool has_fitted_levels(Storage storage) noexcept {
  return storage >= Storage::int4_fitted;
}

/// The bytes of so many of them, one after another.
[[nodiscard]] constexpr Index packed_bytes(Storage storage, Index count) noexcept {
  return (integer_bits(storage) * count + 7) / 8;
}

/// Whether a storage has integers with f16 scales: int4, int3, int2, with any levels.
[[nodiscard]] constexpr bool has_few_bits(Storage storage) noexcept {
  return integer_bits(storage) > 0 && storage != Storage::int8;
}

}  // namespace detail

/// Bytes of one row of `cols` values, scales included; see `matrix_bytes` for those of a matrix.
[[nodiscard]] constexpr std::size_t row_bytes(Storage storage, std::size_t cols) noexcept {
  switch (storage) {
    case Storage::f32: return 4 * cols;
    case Storage::f64: return 8 * cols;
    case Storage::bf16:
    case Storage::f16: return 2 * cols;
    case Storage::int8: return cols + 4 * ((cols + 63) / 64);
    case Storage::int4:
    case Storage::int3:
    case Storage::int2:
    case Storage::int4_fitted:
    case Storage::int3_fitted:
    case Storage::int2_fitted:
      return static_cast<std::size_t>(detail::packed_bytes(storage, static_cast<Index>(cols))) +
             2 * ((cols + 31) / 32);
  }
  return 0;
}

/// Bytes of the table of fitted levels that a matrix has: one each; 0 in other storage.
[[nodiscard]] constexpr std::size_t level_bytes(Storage storage) noexcept {
  return detail::has_fitted_levels(storage) ? std::size_t{1} << detail::integer_bits(storage) : 0;
}

/// Bytes of a rows x cols matrix, scales and levels included.
[[nodiscard]] constexpr std::size_t matrix_bytes(Storage storage, std::size_t rows,
                                                 std::size_t cols) noexcept {
  return rows * row_bytes(storage, cols) + level_bytes(storage);
}

/// A matrix of any size, column-major.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

/// A column of any size.
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/// Column-major matrix to read: binds without a copy to a `MatrixX`, a `VectorX`, a `Map` of a raw
/// pointer, or a block of columns or rows of one. One sample per column.
template <class T>
using ConstMatrixRef = Eigen::Ref<const Matrix<T>, 0, Eigen::OuterStride<>>;

/// Column-major matrix to write: binds to the same things.
template <class T>
using MatrixRef = Eigen::Ref<Matrix<T>, 0, Eigen::OuterStride<>>;

/// Whether `value` is neither NaN nor infinite, judged by its exponent bits: `std::isfinite` is
/// folded to true under `-ffast-math`, and a header-only library inherits the flags of its user.
[[nodiscard]] constexpr bool is_finite(float value) noexcept {
  constexpr std::uint32_t exponent = 0x7f80'0000U;
  return (std::bit_cast<std::uint32_t>(value) & exponent) != exponent;
}

[[nodiscard]] constexpr bool is_finite(double value) noexcept {
  constexpr std::uint64_t exponent = 0x7ff0'0000'0000'0000U;
  return (std::bit_cast<std::uint64_t>(value) & exponent) != exponent;
}

namespace detail {

/// The 16-bit number nearest to `value`, of two that are as near the even one; beyond the largest,
/// an infinity. Rounded once, by bits: Eigen takes a double to a float first, which may land in the
/// middle between two halves, and `-ffast-math` flushes small numbers.
template <class Narrow, Real T>
[[nodiscard]] Narrow nearest(T value) noexcept {
  constexpr bool is_half = std::is_same_v<Narrow, Eigen::half>;
  static_assert(is_half || std::is_same_v<Narrow, Eigen::bfloat16>);
  using Bits = std::conditional_t<std::is_same_v<T, float>, std::uint32_t, std::uint64_t>;
  constexpr int from_fraction = std::numeric_limits<T>::digits - 1;
  constexpr int fraction = is_half ? 10 : 7;
  constexpr int rebias = (is_half ? 15 : 127) - (std::numeric_limits<T>::max_exponent - 1);
  constexpr std::uint32_t infinity = is_half ? 0x7c00U : 0x7f80U;

  const auto bits = std::bit_cast<Bits>(value);
  const auto sign = static_cast<std::uint32_t>(bits >> (8 * sizeof(T) - 1)) << 15;
  const Bits magnitude = bits & ~(Bits{1} << (8 * sizeof(T) - 1));
  const Bits own = magnitude & ((Bits{1} << from_fraction) - 1);
  const int stated = static_cast<int>(magnitude >> from_fraction);
  std::uint32_t result = infinity;
  if (!is_finite(value)) {
    if (own != 0) result |= 1U << (fraction - 1);  // a quiet NaN
  } else {
    const Bits digits = stated > 0 ? own | Bits{1} << from_fraction : own;
    const int exponent = (stated > 0 ? stated : 1) + rebias;
    // Below the normal numbers, more digits are lost. The leading one is that of the exponent, and
    // so is a carry out of the digits.
    const int lost = from_fraction - fraction + (exponent > 0 ? 0 : 1 - exponent);
    Bits kept = 0;
    if (lost <= from_fraction + 1) {
      kept = digits >> lost;
      const Bits rest = digits & ((Bits{1} << lost) - 1);
      const Bits half = Bits{1} << (lost - 1);
      if (rest > half || (rest == half && (kept & 1U) != 0)) ++kept;
    }
    if (exponent < static_cast<int>(infinity >> fraction))
      result = static_cast<std::uint32_t>(kept) +
               (exponent > 1 ? static_cast<std::uint32_t>(exponent - 1) << fraction : 0U);
  }
  return Eigen::numext::bit_cast<Narrow>(static_cast<std::uint16_t>(sign | result));
}

}  // namespace detail

}  // namespace PLEAT_ABI
}  // namespace pleat
