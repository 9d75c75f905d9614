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
  require(storage <= Storage::int2_fitted, [] { return std::string("unknown storage"); });
  require(is_narrow(storage) || storage == native_storage<T>, [&] {
    return "an operator of " + std::string(to_string(native_storage<T>)) + " cannot store " +
           std::string(to_string(storage));
  });
  return storage;
}

/// Integers that stand for such levels; throws `std::invalid_argument` for others than int4, int3
/// and int2 if they are to be fitted.
[[nodiscard]] inline Storage with_levels(Storage storage, Levels levels) {
  require(levels <= Levels::fitted, [] { return std::string("unknown levels"); });
  if (levels == Levels::uniform || has_fitted_levels(storage)) return storage;
  require(has_few_bits(storage), [&] {
    return "levels are fitted for int4, int3 and int2, not for " + std::string(to_string(storage));
  });
  return storage == Storage::int4   ? Storage::int4_fitted
         : storage == Storage::int3 ? Storage::int3_fitted
                                    : Storage::int2_fitted;
}

/// Whether an operator of T whose weights are stored so can have them meet such activations: int8
/// weights int8 and int16, those of fewer bits int8, bf16 weights bf16, all of float; and any
/// weights automatic and native ones.
template <Real T>
[[nodiscard]] constexpr bool meets(Storage storage, Activations activations) noexcept {
  const bool is_float = std::same_as<T, float>;
  const bool is_half = storage == Storage::bf16 || storage == Storage::f16;
  switch (activations) {
    case Activations::automatic:
    case Activations::native: return true;
    case Activations::int16: return is_float && storage == Storage::int8;
    case Activations::int8: return is_float && is_narrow(storage) && !is_half;
    case Activations::bf16: return is_float && storage == Storage::bf16;
  }
  return false;
}

/// Throws `std::invalid_argument` unless it can.
template <Real T>
void require_activations(Storage storage, Activations activations) {
  require(activations <= Activations::bf16, [] { return std::string("unknown activations"); });
  require(meets<T>(storage, activations), [&] {
    return "weights stored as " + std::string(to_string(storage)) + " of an operator of " +
           std::string(to_string(native_storage<T>)) + " do not meet activations rounded to " +
           std::string(to_string(activations));
  });
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

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
