// SPDX-License-Identifier: MIT
// What an operator is made of: named tensors, attributes and children, as a file stores them.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/scalar.hpp"

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// Element types of a stored tensor.
enum class DataType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean
};

/// Bytes of one element.
[[nodiscard]] constexpr std::size_t size_of(DataType type) noexcept {
  switch (type) {
    case DataType::f64:
    case DataType::i64:
    case DataType::u64: return 8;
    case DataType::f32:
    case DataType::i32:
    case DataType::u32: return 4;
    case DataType::f16:
    case DataType::bf16:
    case DataType::i16:
    case DataType::u16: return 2;
    case DataType::i8:
    case DataType::u8:
    case DataType::boolean: return 1;
  }
  return 0;
}

/// The element type of a tensor of T.
template <class T>
inline constexpr DataType data_type_of = [] {
  if constexpr (std::same_as<T, bool>) return DataType::boolean;
  else if constexpr (std::same_as<T, double>) return DataType::f64;
  else if constexpr (std::same_as<T, float>) return DataType::f32;
  else if constexpr (std::same_as<T, Eigen::half>) return DataType::f16;
  else if constexpr (std::same_as<T, Eigen::bfloat16>) return DataType::bf16;
  else if constexpr (std::same_as<T, std::int64_t>) return DataType::i64;
  else if constexpr (std::same_as<T, std::int32_t>) return DataType::i32;
  else if constexpr (std::same_as<T, std::int16_t>) return DataType::i16;
  else if constexpr (std::same_as<T, std::int8_t>) return DataType::i8;
  else if constexpr (std::same_as<T, std::uint64_t>) return DataType::u64;
  else if constexpr (std::same_as<T, std::uint32_t>) return DataType::u32;
  else if constexpr (std::same_as<T, std::uint16_t>) return DataType::u16;
  else if constexpr (std::same_as<T, std::uint8_t>) return DataType::u8;
  else static_assert(std::same_as<T, void>, "no tensor holds this element type");
}();

namespace detail {

/// Whether To has this value, or one near it.
template <class To, class From>
[[nodiscard]] bool is_kept(From value) noexcept {
  if constexpr (std::same_as<To, bool>) return value <= From(1);
  else if constexpr (std::same_as<To, float> && std::same_as<From, double>)
    return !is_finite(value) || is_finite(static_cast<float>(value));
  else return true;
}

/// What is to be said of an element that To does not have.
template <class To, class From>
[[nodiscard]] std::string not_kept(From value, Index row, Index col) {
  std::ostringstream text;
  text << "the entry at row " << row << ", column " << col << " is " << +value << ", ";
  if constexpr (std::same_as<To, bool>) text << "and no boolean";
  else text << "beyond the largest of " << to_string(native_storage<To>);
  return text.str();
}

}  // namespace detail

/// A tensor in memory: elements of one type, row-major, in native byte order.
struct Tensor {
  DataType type = DataType::f32;
  std::vector<std::int64_t> shape = {};
  std::vector<std::byte> data = {};

  /// A matrix as a row-major tensor of its own element type.
  template <class Derived>
  [[nodiscard]] static Tensor of(const Eigen::DenseBase<Derived>& matrix) {
    using T = typename Derived::Scalar;
    using RowMajor = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Tensor tensor{data_type_of<T>, {matrix.rows(), matrix.cols()}, {}};
    tensor.data.resize(static_cast<std::size_t>(matrix.size()) * sizeof(T));
    if (matrix.size() > 0) {
      const RowMajor rows = matrix;
      std::memcpy(tensor.data.data(), rows.data(), tensor.data.size());
    }
    return tensor;
  }

  /// The tensor as a matrix of T: floating-point elements of any width are converted, integers are
  /// not. A vector becomes one column, a scalar a 1 x 1 matrix. T may also be bool, for elements
  /// that are. Throws `std::invalid_argument` for elements of another kind, for more than two
  /// dimensions, and, naming it, for an element that T does not have: a number beyond the largest
  /// (an infinity stays one), or a boolean of a byte that is neither 0 nor 1.
  template <class T>
  requires(Real<T> || std::same_as<T, bool>) [[nodiscard]] Matrix<T> matrix() const {
    detail::require(shape.size() <= 2, [&] {
      return "a tensor of " + std::to_string(shape.size()) + " dimensions is not a matrix";
    });
    const Index rows = shape.empty() ? 1 : static_cast<Index>(shape[0]);
    const Index cols = shape.size() < 2 ? 1 : static_cast<Index>(shape[1]);
    if constexpr (std::same_as<T, bool>) {
      detail::require(type == DataType::boolean,
                      [] { return std::string("a tensor of numbers is not one of booleans"); });
      return converted<std::uint8_t, T>(rows, cols);
    } else {
      switch (type) {
        case DataType::f64: return converted<double, T>(rows, cols);
        case DataType::f32: return converted<float, T>(rows, cols);
        case DataType::f16: return converted<Eigen::half, T>(rows, cols);
        case DataType::bf16: return converted<Eigen::bfloat16, T>(rows, cols);
        default: break;
      }
      throw std::invalid_argument("pleat: a tensor of integers is not a matrix of weights");
    }
  }

  /// The elements in storage order; throws `std::invalid_argument` unless they are of type T.
  template <class T>
  requires(!std::same_as<T, bool>) [[nodiscard]] std::vector<T> values() const {
    detail::require(type == data_type_of<T>,
                    [] { return std::string("a tensor holds elements of another type"); });
    detail::require(data.size() % sizeof(T) == 0, [&] {
      return "a tensor of " + std::to_string(sizeof(T)) + "-byte elements holds " +
             std::to_string(data.size()) + " bytes";
    });
    std::vector<T> result(data.size() / sizeof(T));
    if (!data.empty()) std::memcpy(static_cast<void*>(result.data()), data.data(), data.size());
    return result;
  }

 private:
  template <class From, class To>
  Matrix<To> converted(Index rows, Index cols) const {
    using RowMajor = Eigen::Matrix<From, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    // Before anything is allocated: a shape may claim what no memory holds.
    const auto count = static_cast<Index>(data.size() / sizeof(From));
    const bool fits = data.size() % sizeof(From) == 0 && rows >= 0 && cols >= 0 &&
                      (cols == 0 ? count == 0 : count % cols == 0 && rows == count / cols);
    detail::require(fits, [&] {
      return "a tensor of shape " + detail::shape_text(rows, cols) + " holds " +
             std::to_string(data.size()) + " bytes";
    });
    // Nothing may loop over a shape without elements: a file may claim any other extent for it.
    if (data.empty()) return Matrix<To>(rows, cols);
    RowMajor values(rows, cols);
    std::memcpy(static_cast<void*>(values.data()), data.data(), data.size());
    for (Index row = 0; row < rows; ++row)
      for (Index col = 0; col < cols; ++col)
        if (!detail::is_kept<To>(values(row, col))) [[unlikely]]
          throw std::invalid_argument("pleat: " + detail::not_kept<To>(values(row, col), row, col));
    return values.template cast<To>();
  }
};

/// An operator taken apart. An operator that can be saved has
///
///     Parts parts() const;                           // everything that `from_parts` needs
///     static Op from_parts(const Parts&);            // or throws std::invalid_argument
///
/// `from_parts` trusts nothing: shapes, indices, masks and codes are checked before they are used.
struct Parts {
  std::string structure{};                          // the operator's name: "LowRank"
  std::map<std::string, std::string> attributes{};  // numbers that no tensor's shape tells
  std::map<std::string, Tensor> tensors{};
  std::map<std::string, Parts> children{};  // the operators that this one is composed of

  /// The tensor called `name`; throws `std::invalid_argument` where there is none.
  [[nodiscard]] const Tensor& tensor(const std::string& name) const {
    const auto found = tensors.find(name);
    detail::require(found != tensors.end(),
                    [&] { return structure + " has no tensor \"" + name + "\""; });
    return found->second;
  }

  /// The same as a matrix; throws also what `Tensor::matrix` throws.
  template <class T>
  [[nodiscard]] Matrix<T> matrix(const std::string& name) const {
    const Tensor& found = tensor(name);
    try {
      return found.template matrix<T>();
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string(error.what()) + " (tensor \"" + name + "\")");
    }
  }

  /// The child called `name`; throws `std::invalid_argument` where there is none.
  [[nodiscard]] const Parts& child(const std::string& name) const {
    const auto found = children.find(name);
    detail::require(found != children.end(),
                    [&] { return structure + " has no part \"" + name + "\""; });
    return found->second;
  }

  /// The attribute called `name` as a whole number; throws `std::invalid_argument` where there is
  /// none, or it is no number as `std::to_string` writes it: "01" and "-0" are none.
  [[nodiscard]] std::int64_t integer(const std::string& name) const {
    const auto found = attributes.find(name);
    detail::require(found != attributes.end(),
                    [&] { return structure + " has no attribute \"" + name + "\""; });
    const std::string& text = found->second;
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    detail::require(error == std::errc() && std::to_string(value) == text, [&] {
      return structure + ": attribute \"" + name + "\" is \"" + text + "\", not a whole number";
    });
    return value;
  }
};

/// An operator that can be taken apart, and so saved.
template <class Op>
concept HasParts = requires(const Op& op) {
  { op.parts() } -> std::same_as<Parts>;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
