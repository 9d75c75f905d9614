// SPDX-License-Identifier: MIT
// What a compression may cost: a share of dense, a number of bytes, or an error.
#pragma once

#include "pleat/core/error.hpp"

#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {

/// What an operator may cost. Made by `keep`, `bytes` and `error`.
class Budget {
 public:
  enum class Kind : std::uint8_t { keep, bytes, error };

  [[nodiscard]] Kind kind() const noexcept { return kind_; }

  /// Whether the budget bounds the error instead of the size.
  [[nodiscard]] bool bounds_error() const noexcept { return kind_ == Kind::error; }

  /// The same for what stands beside something of so many bytes, which count as well.
  [[nodiscard]] Budget beside(std::size_t taken) const noexcept {
    Budget result = *this;
    result.taken_ = taken;
    return result;
  }
  /// Those bytes; 0 at first.
  [[nodiscard]] std::size_t taken() const noexcept { return taken_; }

  /// The largest `op.bytes()` for an m x n matrix of so many bytes a value; no bound for `error`.
  [[nodiscard]] std::size_t max_bytes(Index rows, Index cols,
                                      std::size_t scalar_size) const noexcept {
    constexpr auto unbounded = (std::numeric_limits<std::size_t>::max)();
    if (kind_ == Kind::error) return unbounded;
    if (kind_ == Kind::bytes) return left_of(bytes_);
    const double limit = value_ * static_cast<double>(rows) * static_cast<double>(cols) *
                         static_cast<double>(scalar_size);
    // A share such as 0.1 is no binary fraction: what misses a whole byte by rounding is that byte.
    const double whole = std::floor(limit * (1 + 1e-14));
    return left_of(whole < static_cast<double>(unbounded) ? static_cast<std::size_t>(whole)
                                                          : unbounded);
  }

  /// The largest relative error; infinite unless the budget bounds the error.
  [[nodiscard]] double max_error() const noexcept {
    return kind_ == Kind::error ? value_ : std::numeric_limits<double>::infinity();
  }

  /// For messages: "keep(0.5)".
  [[nodiscard]] std::string text() const {
    switch (kind_) {
      case Kind::keep: return "keep(" + number(value_) + ")";
      case Kind::bytes: return "bytes(" + std::to_string(bytes_) + ")";
      case Kind::error: break;
    }
    return "error(" + number(value_) + ")";
  }

 private:
  friend Budget keep(double fraction);
  friend Budget bytes(std::int64_t count);
  friend Budget error(double relative_error);

  Budget(Kind kind, double value, std::size_t bytes) : kind_(kind), value_(value), bytes_(bytes) {}

  [[nodiscard]] std::size_t left_of(std::size_t limit) const noexcept {
    return limit > taken_ ? limit - taken_ : 0;
  }

  static std::string number(double value) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, value);
    return {text, end.ptr};
  }

  Kind kind_;
  double value_;
  std::size_t bytes_;
  std::size_t taken_ = 0;
};

/// `op.bytes()` at most this fraction of dense, which is 4 m n bytes for float and 8 m n for
/// double. Throws `std::invalid_argument` unless it is positive and finite.
[[nodiscard]] inline Budget keep(double fraction) {
  detail::require(is_finite(fraction) && fraction > 0, [&] {
    return "keep: the fraction must be positive, not " + std::to_string(fraction);
  });
  return {Budget::Kind::keep, fraction, 0};
}

/// `op.bytes()` at most `count`. Throws `std::invalid_argument` unless it is positive.
[[nodiscard]] inline Budget bytes(std::int64_t count) {
  detail::require(count > 0, [&] {
    return "bytes: the number of bytes must be positive, not " + std::to_string(count);
  });
  return {Budget::Kind::bytes, 0, static_cast<std::size_t>(count)};
}

/// The smallest operator found whose relative error, calibrated where a calibration is given, is at
/// most this. Throws `std::invalid_argument` if it is negative or not finite.
[[nodiscard]] inline Budget error(double relative_error) {
  detail::require(is_finite(relative_error) && relative_error >= 0, [&] {
    return "error: the relative error must be 0 or more, not " + std::to_string(relative_error);
  });
  return {Budget::Kind::error, relative_error, 0};
}

namespace detail {

/// No bound but that of memory.
[[nodiscard]] inline Budget any_size() { return bytes((std::numeric_limits<std::int64_t>::max)()); }

/// "1.25e-07", the same in every locale.
[[nodiscard]] inline std::string scientific(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific, 2);
  return {text, end.ptr};
}

/// What every structure says when its smallest operator is still too large.
inline void require_budget(const char* structure, Index rows, Index cols, const Budget& budget,
                           std::size_t scalar_size, std::size_t smallest, const char* what) {
  require(smallest <= budget.max_bytes(rows, cols, scalar_size), [&] {
    return std::string("compress<") + structure + ">: " + budget.text() + " of a " +
           shape_text(rows, cols) + " matrix allows " +
           std::to_string(budget.beside(0).max_bytes(rows, cols, scalar_size)) + " bytes, but " +
           what + " needs " + std::to_string(smallest + budget.taken()) +
           (budget.taken() > 0 ? ", rotated" : "");
  });
}

}  // namespace detail

}  // namespace PLEAT_ABI
}  // namespace pleat
