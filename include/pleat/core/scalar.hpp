// SPDX-License-Identifier: MIT
// The scalars of the library, and the Eigen types through which matrices come in and go out.
#pragma once

#include "pleat/kernel/abi.hpp"

#include <Eigen/Core>

#include <bit>
#include <concepts>
#include <cstdint>

namespace pleat {
inline namespace PLEAT_ABI {

/// Sizes and positions, as Eigen counts them.
using Index = Eigen::Index;

/// The type of activations and of the arithmetic.
template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

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

}  // namespace PLEAT_ABI
}  // namespace pleat
