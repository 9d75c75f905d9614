// SPDX-License-Identifier: MIT
// Values in 16, 8, 4, 3 or 2 bits: rounded, packed for the kernels, and taken to and from files.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/matrix/detail/narrow/fitted_levels.hpp"
#include "pleat/matrix/detail/narrow/narrow_memory.hpp"
#include "pleat/matrix/detail/narrow/rounding.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What errors call the place of a stored value where all of a matrix are stored: row and column.
struct SamePlace {
  [[nodiscard]] std::pair<Index, Index> operator()(Index row, Index col) const noexcept {
    return {row, col};
  }
};

/// A rows x cols matrix in narrow storage, packed in panels for the kernels. Copies share it. What
/// the panels hold is to be multiplied by `power()`, a power of two: 1 but where the largest value
/// lies far from where the storage has its numbers.
template <Real T>
class NarrowPanels : public NarrowMemory {
 public:
  NarrowPanels() = default;

  /// Rounds each of `entry(row, col)` to the nearest that the storage has. Throws
  /// `std::invalid_argument`, naming the row and column `place(row, col)`, for a value that it has
  /// nothing near.
  template <class Entry, class Place = SamePlace>
  NarrowPanels(Storage storage, Index rows, Index cols, Entry entry, Place place = {})
      : NarrowPanels(storage, rows, cols) {
    double largest = 0;
    for (Index col = 0; col < cols && rows > 0; ++col)
      for (Index row = 0; row < rows; ++row)
        if (const T value = entry(row, col); is_finite(value))
          largest = (std::max)(largest, std::abs(to_double(value)));
    if (largest > 0) exponent_ = storage_exponent<T>(storage, largest);
    const double inverse = std::ldexp(1.0, -exponent_);
    power_ = std::ldexp(T(1), exponent_);

    const Index group = this->group();
    std::vector<double> values(static_cast<std::size_t>(group));
    if (has_fitted_levels(storage))
      set_numbers(fitted_numbers(storage, rows, cols, [&](Index row, Index col) {
        return to_double(entry(row, col)) * inverse;
      }));
    for (Index row = 0; row < rows; ++row) {
      if (group == 0) {
        for (Index col = 0; col < cols; ++col)
          require(set_half(row, col, to_double(entry(row, col)) * inverse) &&
                      (is_within(row, col) || !is_finite(entry(row, col))),
                  [&] { return no_place(place(row, col)); });
        continue;
      }
      for (Index first = 0; first < cols; first += group) {
        const Index count = (std::min)(group, cols - first);
        for (Index i = 0; i < count; ++i) {
          const T value = entry(row, first + i);
          require(is_finite(value), [&] { return no_place(place(row, first + i)); });
          values[static_cast<std::size_t>(i)] = to_double(value) * inverse;
        }
        const GroupScale scale = group_scale(storage, numbers_, values.data(), count);
        set_scale(row, first, to_single(scale.scale));
        for (Index i = 0; i < count; ++i)
          set_integer(row, first + i, scale.round(values[static_cast<std::size_t>(i)]));
        for (Index i = 0; i < count; ++i)
          require(is_within(row, first + i), [&] { return no_place(place(row, first + i)); });
      }
    }
  }

  /// The numbers given times the scales given, rows x groups, and 2^exponent: each value rounded to
  /// the nearest of them. Throws `std::invalid_argument` unless the storage has scales, of this
  /// shape, for a scale or a value that it cannot hold, and unless 2^exponent is a normal number of
  /// T.
  template <class Place = SamePlace>
  NarrowPanels(Storage storage, const Matrix<T>& values, const Matrix<float>& scales, int exponent,
               const Numbers::Levels& levels, Place place = {})
      : NarrowPanels(storage, values.rows(), values.cols()) {
    require(exponent >= std::numeric_limits<T>::min_exponent - 1 &&
                exponent < std::numeric_limits<T>::max_exponent,
            [&] { return "2^" + std::to_string(exponent) + " is no normal number"; });
    exponent_ = exponent;
    power_ = std::ldexp(T(1), exponent);
    const double inverse = std::ldexp(1.0, -exponent);
    require(kernel::scale_group(format_of(storage)) > 0, [&] {
      return "values stored as " + std::string(to_string(storage)) + " have no scales";
    });
    require(scales.rows() == rows() && scales.cols() == groups(), [&] {
      return std::string(to_string(storage)) + ": the scales of a " + shape_text(rows(), cols()) +
             " matrix are " + shape_text(rows(), groups()) + ", not " +
             shape_text(scales.rows(), scales.cols());
    });
    set_numbers(Numbers(storage, levels));
    for (Index row = 0; row < rows(); ++row)
      for (Index first = 0; first < cols(); first += group()) {
        set_scale(row, first, scales(row, first / group()));
        const float stored = scale(row, first);
        require(is_finite(stored) && !is_zero(stored), [&] {
          return "the scale of row " + std::to_string(row) + ", group " +
                 std::to_string(first / group()) + " is not finite, or 0";
        });
        const GroupScale grid{to_double(stored), numbers_};
        for (Index col = first; col < (std::min)(first + group(), cols()); ++col) {
          const T value = values(row, col);
          require(is_finite(value), [&] { return no_place(place(row, col)); });
          set_integer(row, col, grid.round(to_double(value) * inverse));
        }
      }
  }

  /// The panels from the one that begins with `row` on.
  [[nodiscard]] const std::uint8_t* data(Index row) const noexcept {
    return bytes_.data() + panel_at(row);
  }

  /// What results are to be multiplied by: 2^exponent().
  [[nodiscard]] T power() const noexcept { return power_; }
  [[nodiscard]] int exponent() const noexcept { return exponent_; }

  /// What activations are rounded to before they meet the panels; never `automatic`.
  [[nodiscard]] Activations activations() const noexcept { return activations_; }

  /// The scale of the group that an entry belongs to, and what integers stand for.
  [[nodiscard]] float scale_of(Index row, Index col) const { return this->scale(row, col); }
  [[nodiscard]] const Numbers& numbers() const noexcept { return this->numbers_; }

  /// "stored as int8, activations as int8": what there is to say of it.
  [[nodiscard]] std::string description() const { return storage_text(storage(), activations_); }

  /// Throws `std::invalid_argument` unless these activations are some that meet the storage, of
  /// floats; `automatic` stands for `chosen`.
  void set_activations(Activations activations, Activations chosen) {
    require_activations<T>(storage(), activations);
    activations_ = activations == Activations::automatic ? chosen : activations;
  }

  /// The value that is stored for an entry.
  [[nodiscard]] T operator()(Index row, Index col) const {
    if (storage() == Storage::bf16)
      return power_ * T(static_cast<float>(load<Eigen::bfloat16>(half_at(row, col))));
    if (storage() == Storage::f16)
      return power_ * T(static_cast<float>(load<Eigen::half>(half_at(row, col))));
    return power_ * (T(numbers_(integer(row, col))) * T(to_double(scale(row, col))));
  }

  /// So many rows of the same columns, of which row i is number `from(i)` of these; empty where
  /// that is negative.
  template <class From>
  [[nodiscard]] NarrowPanels with_rows(Index rows, From from) const {
    NarrowPanels result(storage(), rows, cols());
    result.set_numbers(numbers_);
    result.exponent_ = exponent_;
    result.power_ = power_;
    result.activations_ = activations_;
    for (Index row = 0; row < rows; ++row) {
      const Index own = from(row);
      for (Index col = 0; own >= 0 && col < cols(); ++col) {
        if (group() == 0) {
          result.store(result.half_at(row, col), load<std::uint16_t>(half_at(own, col)));
          continue;
        }
        if (col % group() == 0) result.set_scale(row, col, scale(own, col));
        result.store(result.byte_at(row, col), load<std::uint8_t>(byte_at(own, col)));
      }
    }
    return result;
  }

  /// Adds tensors to the parts of an operator: `name`, rows x cols in the element type of the
  /// storage, and its scales, a group a column (int4, int3, int2: bytes, in which the integers of a
  /// row, 8, 4 or 2 added to each, lie one after another, the lowest bit first), and where they are
  /// fitted its levels, of 16, 8 or 4 integers in turn; and the attributes
  /// "storage" and, unless they are 0 and native, "exponent" and "activations".
  void add_to(Parts& parts, const std::string& name) const {
    parts.attributes["storage"] = to_string(storage());
    if (exponent_ != 0) parts.attributes["exponent"] = std::to_string(exponent_);
    if (activations_ != Activations::native)
      parts.attributes["activations"] = to_string(activations_);
    if (storage() == Storage::bf16)
      parts.tensors[name] = tensor<Eigen::bfloat16>(cols(), half_as());
    if (storage() == Storage::f16) parts.tensors[name] = tensor<Eigen::half>(cols(), half_as());
    if (storage() == Storage::int8) {
      parts.tensors[name] = tensor<std::int8_t>(cols(), [this](Index row, Index col) {
        return static_cast<std::int8_t>(integer(row, col));
      });
      parts.tensors[name + "_scales"] =
          tensor<float>(groups(), [this](Index row, Index i) { return scale(row, i * group()); });
    }
    if (has_few_bits(storage())) {
      parts.attributes.emplace("cols", std::to_string(cols()));  // unless the operator has its own
      parts.tensors[name] =
          tensor<std::uint8_t>(packed_bytes(storage(), cols()), [this](Index row, Index i) {
            return PackedRow::byte(i, integer_bits(storage()), cols(), [&](Index col) {
              return integer(row, col) - integers_of(storage()).least;
            });
          });
      parts.tensors[name + "_scales"] = tensor<Eigen::half>(groups(), [this](Index row, Index i) {
        return static_cast<Eigen::half>(scale(row, i * group()));
      });
    }
    if (numbers_.are_fitted()) parts.tensors[name + "_levels"] = numbers_.tensor();
  }

  /// From what `add_to` added; of `expected` columns where the operator knows them. Throws
  /// `std::invalid_argument` unless shapes agree, scales are finite and not 0, levels are such,
  /// unused bits are 0, and the exponent is one that doubles have and that takes no number beyond
  /// those of T.
  [[nodiscard]] static NarrowPanels from(const Parts& parts, const std::string& name,
                                         std::optional<Index> expected) {
    const Storage storage = storage_named(parts.attributes.at("storage"));
    const Tensor& stored = parts.tensor(name);
    require(stored.shape.size() == 2,
            [&] { return "the tensor \"" + name + "\" is not a matrix"; });
    // A tensor without elements may claim any extent; what is computed from these must not
    // overflow.
    constexpr std::int64_t most = std::int64_t{1} << 48;
    require(stored.shape[0] <= most && stored.shape[1] <= most, [&] {
      return "the tensor \"" + name + "\" has an extent above " + std::to_string(most);
    });
    const Index rows = static_cast<Index>(stored.shape[0]);
    Index cols = static_cast<Index>(stored.shape[1]);
    if (has_few_bits(storage)) {
      const std::int64_t claimed = expected ? *expected : parts.integer("cols");
      require(claimed >= 0 && claimed <= most && packed_bytes(storage, claimed) == cols, [&] {
        return std::to_string(claimed) + " columns do not take " + std::to_string(stored.shape[1]) +
               " bytes";
      });
      cols = static_cast<Index>(claimed);
    }
    NarrowPanels result =
        storage == Storage::bf16 ? from_halves<Eigen::bfloat16>(storage, rows, cols, stored)
        : storage == Storage::f16
            ? from_halves<Eigen::half>(storage, rows, cols, stored)
            : from_integers(storage, rows, cols, stored, parts.tensor(name + "_scales"));
    if (has_fitted_levels(storage))
      result.set_numbers(Numbers::from(storage, parts.tensor(name + "_levels")));
    if (parts.attributes.contains("exponent")) result.read_exponent(parts.integer("exponent"));
    if (parts.attributes.contains("activations"))
      result.read_activations(parts.attributes.at("activations"));
    return result;
  }

  /// The storage of a name in a file; throws `std::invalid_argument` for one that is not narrow.
  [[nodiscard]] static Storage storage_named(const std::string& name) {
    for (const Storage storage :
         {Storage::bf16, Storage::f16, Storage::int8, Storage::int4, Storage::int3, Storage::int2,
          Storage::int4_fitted, Storage::int3_fitted, Storage::int2_fitted})
      if (name == to_string(storage)) return storage;
    throw std::invalid_argument("pleat: unknown storage \"" + name + '"');
  }

 private:
  NarrowPanels(Storage storage, Index rows, Index cols) : NarrowMemory(storage, rows, cols) {}

  /// Whether there is a number near the value.
  bool set_half(Index row, Index col, double value) {
    const auto set = [&](auto rounded) {
      store(half_at(row, col), rounded);
      return !is_finite(value) || is_finite(static_cast<float>(rounded));
    };
    return storage() == Storage::bf16 ? set(nearest<Eigen::bfloat16>(value))
                                      : set(nearest<Eigen::half>(value));
  }
  /// Whether a number of T is stored: one of its largest may have been rounded to what is none.
  [[nodiscard]] bool is_within(Index row, Index col) const {
    return exponent_ < std::numeric_limits<T>::max_exponent - 20 || is_finite((*this)(row, col));
  }
  [[nodiscard]] std::string no_place(std::pair<Index, Index> at) const {
    return std::string(to_string(storage())) + " holds no value near that of row " +
           std::to_string(at.first) + ", column " + std::to_string(at.second);
  }

  /// A tensor of V whose elements, or their bits, `entry` gives.
  template <class V, class Entry>
  [[nodiscard]] Tensor tensor(Index cols, Entry entry) const {
    Tensor result{data_type_of<V>, {rows(), cols}, {}};
    result.data.resize(static_cast<std::size_t>(rows() * cols) * sizeof(V));
    std::byte* to = result.data.data();
    for (Index row = 0; row < rows(); ++row)
      for (Index col = 0; col < cols; ++col, to += sizeof(V)) {
        const auto value = entry(row, col);
        static_assert(sizeof value == sizeof(V));
        std::memcpy(to, static_cast<const void*>(&value), sizeof value);
      }
    return result;
  }

  static void require_size(const Tensor& tensor, Index rows, Index cols, std::size_t element) {
    const auto count = static_cast<Index>(tensor.data.size() / element);
    require(tensor.data.size() % element == 0 && rows >= 0 && cols >= 0 &&
                (cols == 0 ? count == 0 : count % cols == 0 && count / cols == rows),
            [&] {
              return "a tensor of shape " + shape_text(rows, cols) + " holds " +
                     std::to_string(tensor.data.size()) + " bytes";
            });
  }

  template <class V>
  [[nodiscard]] static NarrowPanels from_halves(Storage storage, Index rows, Index cols,
                                                const Tensor& stored) {
    require(stored.type == data_type_of<V>,
            [&] { return "the weight is not of the type " + std::string(to_string(storage)); });
    require_size(stored, rows, cols, 2);
    NarrowPanels result(storage, rows, cols);
    const std::byte* from = stored.data.data();
    for (Index row = 0; row < rows && cols > 0; ++row)
      for (Index col = 0; col < cols; ++col, from += 2)
        std::memcpy(result.bytes_.data() + result.half_at(row, col), from, 2);
    return result;
  }

  [[nodiscard]] static NarrowPanels from_integers(Storage storage, Index rows, Index cols,
                                                  const Tensor& stored, const Tensor& scales) {
    const bool is_int8 = storage == Storage::int8;
    require(stored.type == (is_int8 ? DataType::i8 : DataType::u8) &&
                scales.type == (is_int8 ? DataType::f32 : DataType::f16),
            [&] { return "values or scales are not those of " + std::string(to_string(storage)); });
    const Index bits = integer_bits(storage);
    const Index width = packed_bytes(storage, cols);
    require_size(stored, rows, width, 1);
    const auto group = static_cast<Index>(kernel::scale_group(format_of(storage)));
    const Index groups = (cols + group - 1) / group;
    require(scales.shape == std::vector<std::int64_t>{rows, groups}, [&] {
      return std::string(to_string(storage)) + ": the scales of a " + shape_text(rows, cols) +
             " matrix are not " + shape_text(rows, groups);
    });
    const Matrix<float> factors = scales.matrix<float>();
    NarrowPanels result(storage, rows, cols);
    for (Index row = 0; row < rows && cols > 0; ++row) {
      for (Index i = 0; i < groups; ++i) {
        require(is_finite(factors(row, i)) && !is_zero(factors(row, i)), [&] {
          return "the scale of row " + std::to_string(row) + ", group " + std::to_string(i) +
                 " is not finite, or 0";
        });
        result.set_scale(row, i * group, factors(row, i));
      }
      const PackedRow packed{stored.data.data() + row * width, width};
      for (Index col = 0; col < cols; ++col) {
        const int value = packed.at(bits * col) & ((1 << bits) - 1);
        result.set_integer(row, col, is_int8 ? value : value + integers_of(storage).least);
      }
      require(bits * cols % 8 == 0 || packed.at(bits * cols) == 0,
              [&] { return "row " + std::to_string(row) + " has a value past its last column"; });
    }
    return result;
  }

  /// As a float, a double may be less than the smallest: then it is 0, as in native storage.
  void read_exponent(std::int64_t exponent) {
    constexpr std::int64_t least = std::numeric_limits<double>::min_exponent - 1;
    require(exponent >= least && exponent < std::numeric_limits<T>::max_exponent,
            [&] { return "2^" + std::to_string(exponent) + " is no number of this scalar"; });
    exponent_ = static_cast<int>(exponent);
    power_ = std::ldexp(T(1), exponent_);
  }

  /// Doubles have no narrow arithmetic: they meet what was made for it as they are.
  void read_activations(const std::string& name) {
    for (const Activations known : {Activations::int16, Activations::int8, Activations::bf16})
      if (name == to_string(known)) {
        require_activations<float>(storage(), known);
        if constexpr (std::same_as<T, float>) activations_ = known;
        return;
      }
    throw std::invalid_argument("pleat: unknown activations \"" + name + '"');
  }

  int exponent_ = 0;
  T power_ = T(1);
  Activations activations_ = Activations::native;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
