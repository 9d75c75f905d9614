// SPDX-License-Identifier: MIT
// Files of named tensors in the safetensors format: read strictly and on demand, written whole or
// not at all.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/io/detail/safetensors_header.hpp"
#include "pleat/io/detail/stream.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <istream>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// What a file that holds the operator "fc1" has, with a dot after the name, in its dictionary; see
/// pleat/io/operator_file.hpp.
inline constexpr std::string_view operator_key = "pleat.version";

/// Throws `std::invalid_argument` if `name` is that of an operator, or lies inside one.
inline void require_outside(const std::map<std::string, std::string>& metadata,
                            std::string_view what, std::string_view name) {
  const auto check = [&](const std::string& prefix) {
    require(!metadata.contains(prefix + std::string(operator_key)), [&] {
      const std::string op = prefix.substr(0, prefix.empty() ? 0 : prefix.size() - 1);
      return "the " + std::string(what) + " \"" + std::string(name) +
             "\" would lie inside the operator \"" + op + "\": " +
             (op.empty() ? "one of that name is alone in its file"
                         : "all names from \"" + prefix + "\" on are its own");
    });
  };
  check("");
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos;
       dot = name.find('.', dot + 1))
    check(std::string(name.substr(0, dot + 1)));
  check(std::string(name) + '.');
}

/// Throws `std::invalid_argument` if an operator of `inner` is one of `outer`, or lies inside one.
inline void require_operators_outside(const std::map<std::string, std::string>& outer,
                                      const std::map<std::string, std::string>& inner) {
  for (const auto& item : inner) {
    const std::string_view key = item.first;
    if (key == operator_key) require_outside(outer, "operator", "");
    else if (key.ends_with('.' + std::string(operator_key)))
      require_outside(outer, "operator", key.substr(0, key.size() - operator_key.size() - 1));
  }
}

}  // namespace detail

/// Named tensors and a dictionary of strings: what a safetensors file holds. Empty when made, to be
/// filled and saved; or opened from a file, which it keeps open and reads tensor by tensor when
/// asked, so that opening a file of many gigabytes costs as much as its header.
///
/// The file: 8 bytes with the little-endian length N of the header, N bytes of JSON, then the data.
/// Every rule of the format is checked when a file is opened. Two things that the reference reader
/// lets pass are refused, because they hide data: equal keys, and unknown fields of a tensor.
///
/// A value: copies share what they read from, and any number of threads may read at once.
class Safetensors {
 public:
  /// Nothing yet, to be filled with `add` and `set_metadata`.
  Safetensors() = default;

  /// Opens a file and checks its header. Throws `FormatError`.
  [[nodiscard]] static Safetensors open(const std::filesystem::path& path) {
    return Safetensors(detail::Source::open(path));
  }

  /// The same for any stream that can seek; errors call it `file`.
  [[nodiscard]] static Safetensors read(std::unique_ptr<std::istream> stream, std::string file) {
    return Safetensors(std::make_shared<detail::Source>(std::move(stream), std::move(file)));
  }

  /// The name of the file that was opened.
  [[nodiscard]] std::string file() const {
    return source_ ? source_->file() : std::string("safetensors in memory");
  }

  /// The names of the tensors that begin with `prefix`, sorted.
  [[nodiscard]] std::vector<std::string> names(std::string_view prefix = {}) const {
    std::vector<std::string> result;
    for (auto at = entries_.lower_bound(prefix);
         at != entries_.end() && at->first.starts_with(prefix); ++at)
      result.push_back(at->first);
    return result;
  }

  /// Whether there is a tensor of this name.
  [[nodiscard]] bool contains(std::string_view name) const { return entries_.contains(name); }

  /// The type of the elements of a tensor. Throws `std::invalid_argument` if there is no such
  /// tensor, and `FormatError` if its elements are of a type that `Tensor` cannot hold (F8, F6, F4,
  /// C64).
  [[nodiscard]] DataType data_type(std::string_view name) const {
    const detail::ElementType& element = detail::element_types[find(name).info.element];
    if (!element.type)
      throw FormatError(file(), "the tensor \"" + std::string(name) + "\" has elements of type " +
                                    std::string(element.name) + ", which pleat cannot read");
    return *element.type;
  }

  /// The shape of a tensor. Throws `std::invalid_argument` if there is no such tensor.
  [[nodiscard]] const std::vector<std::int64_t>& shape(std::string_view name) const {
    return find(name).info.shape;
  }

  /// A tensor, read from the file now. Throws as `data_type` does, and `FormatError` if the file
  /// has shrunk since it was opened.
  [[nodiscard]] Tensor tensor(std::string_view name) const {
    const Entry& entry = find(name);
    const DataType type = data_type(name);
    if (entry.memory) return *entry.memory;
    Tensor result{type, entry.info.shape, {}};
    result.data.resize(static_cast<std::size_t>(entry.info.end - entry.info.begin));
    entry.source->read(entry.info.begin, result.data);
    if constexpr (std::endian::native == std::endian::big)
      detail::swap_bytes(result.data, size_of(type));
    return result;
  }

  /// A tensor of floating-point elements as a matrix of T: a vector becomes one column, a scalar 1
  /// x 1. Also one of booleans, where T is bool. Throws as `tensor` does, and
  /// `std::invalid_argument` if it is no matrix, holds elements of another kind, or a number beyond
  /// the largest of T.
  template <class T>
  requires(Real<T> || std::same_as<T, bool>)
      [[nodiscard]] Matrix<T> matrix(std::string_view name) const {
    const Tensor values = tensor(name);
    try {
      return values.template matrix<T>();
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument(std::string(error.what()) + " (tensor \"" + std::string(name) +
                                  "\" of " + file() + ')');
    }
  }

  /// The dictionary of strings.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept {
    return metadata_;
  }

  /// Sets an entry of the dictionary. Throws `std::invalid_argument` if either text is not UTF-8.
  void set_metadata(std::string key, std::string value) {
    detail::require(detail::is_utf8(key) && detail::is_utf8(value),
                    [] { return std::string("metadata must be UTF-8"); });
    metadata_.insert_or_assign(std::move(key), std::move(value));
  }

  /// Adds a tensor. Throws `std::invalid_argument` if there is one of this name, if the name is
  /// `__metadata__` or no UTF-8, if it belongs to an operator of the file, or if the shape does not
  /// agree with the data.
  void add(std::string name, Tensor tensor) {
    detail::require(!entries_.contains(name),
                    [&] { return "there is a tensor \"" + name + "\" already"; });
    detail::require_outside(metadata_, "tensor", name);
    detail::require(name != detail::metadata_key && detail::is_utf8(name), [&] {
      return "\"" + name + "\" cannot be the name of a tensor: it is reserved, or not UTF-8";
    });
    detail::TensorInfo info{detail::element_of(tensor.type), tensor.shape, 0, tensor.data.size()};
    const bool sane = std::all_of(info.shape.begin(), info.shape.end(), [](std::int64_t extent) {
      return extent >= 0 && static_cast<std::uint64_t>(extent) <= detail::largest_extent;
    });
    detail::require(sane && detail::bytes_of(info.element, info.shape) == info.end, [&] {
      return "the shape of the tensor \"" + name + "\" does not agree with its " +
             std::to_string(tensor.data.size()) + " bytes";
    });
    entries_.emplace(
        std::move(name),
        Entry{std::move(info), std::make_shared<const Tensor>(std::move(tensor)), nullptr});
  }

  /// Adds all that another one holds; what lies in its file stays there. Throws
  /// `std::invalid_argument` if both have a tensor or operator of one name, if a tensor or operator
  /// of one would lie inside an operator of the other, or if there are different values of one
  /// entry of the dictionary.
  void add(Safetensors other) {
    for (const auto& item : other.entries_) {
      detail::require(!entries_.contains(item.first),
                      [&] { return "there is a tensor \"" + item.first + "\" already"; });
      detail::require_outside(metadata_, "tensor", item.first);
    }
    for (const auto& item : entries_)
      detail::require_outside(other.metadata_, "tensor", item.first);
    detail::require_operators_outside(other.metadata_, metadata_);
    detail::require_operators_outside(metadata_, other.metadata_);
    for (const auto& item : other.metadata_) {
      const auto found = metadata_.find(item.first);
      detail::require(found == metadata_.end() || found->second == item.second, [&] {
        return "there is another value of the metadata \"" + item.first + "\" already";
      });
    }
    entries_.merge(other.entries_);
    metadata_.merge(other.metadata_);
  }

  /// Adds a matrix of any type that `data_type_of` knows, row-major as the format wants it; what is
  /// a column by its type becomes a tensor of one dimension.
  template <class Derived>
  void add(std::string name, const Eigen::DenseBase<Derived>& matrix) {
    Tensor tensor = Tensor::of(matrix);
    if constexpr (Derived::ColsAtCompileTime == 1) tensor.shape.pop_back();
    add(std::move(name), std::move(tensor));
  }

  /// The same, each value rounded once, to F64, F32, F16 or BF16. Throws `std::invalid_argument`
  /// for another type, and for a value beyond its largest number; what is infinite stays so.
  template <class Derived>
  void add(std::string name, const Eigen::DenseBase<Derived>& matrix, DataType stored_as) {
    const auto& values = matrix.derived();
    const auto narrowed = [&]<class Narrow>(Narrow) {
      using Rounded = Eigen::Matrix<Narrow, Eigen::Dynamic, Derived::ColsAtCompileTime>;
      const Eigen::Matrix<double, Eigen::Dynamic, Derived::ColsAtCompileTime> wide =
          values.template cast<double>();
      Rounded rounded(wide.rows(), wide.cols());
      for (Index col = 0; col < wide.cols(); ++col)
        for (Index row = 0; row < wide.rows(); ++row) {
          const double value = wide(row, col);
          if constexpr (std::same_as<Narrow, float>) rounded(row, col) = static_cast<float>(value);
          else rounded(row, col) = detail::nearest<Narrow>(value);
          const bool kept = !is_finite(value) || is_finite(static_cast<float>(rounded(row, col)));
          detail::require(kept, [&] {
            return "the tensor \"" + name + "\" cannot be stored as " +
                   std::string(detail::element_types[detail::element_of(stored_as)].name) +
                   ": the entry at row " + std::to_string(row) + ", column " + std::to_string(col) +
                   " is beyond its largest number";
          });
        }
      return rounded;
    };
    switch (stored_as) {
      case DataType::f64: return add(std::move(name), values.template cast<double>());
      case DataType::f32: return add(name, narrowed(float()));
      case DataType::f16: return add(name, narrowed(Eigen::half()));
      case DataType::bf16: return add(name, narrowed(Eigen::bfloat16()));
      default: break;
    }
    throw std::invalid_argument(
        "pleat: weights are stored as F64, F32, F16 or BF16, not as integers");
  }

  /// Writes the file as the reference does: tensors of wide elements first, then by name, the
  /// header padded with spaces to a multiple of 8. What was there is replaced at once, or not at
  /// all if anything fails; it may be the very file that was opened. Throws
  /// `std::filesystem::filesystem_error` if the file cannot be written, `std::invalid_argument` if
  /// there is more to write than the format can say.
  void save(const std::filesystem::path& path) const {
    detail::write_atomically(path, [&](std::ostream& stream) { write(stream); });
  }

  /// Writes the same bytes to a stream.
  void write(std::ostream& stream) const {
    std::vector<Item> items;
    items.reserve(entries_.size());
    for (const auto& item : entries_) items.push_back(&item);
    std::stable_sort(items.begin(), items.end(), [](Item a, Item b) {
      return a->second.info.element > b->second.info.element;
    });
    const std::string header = header_text(items);
    std::array<std::byte, 8> length;
    for (std::size_t i = 0; i < length.size(); ++i)
      length[i] = static_cast<std::byte>(std::uint64_t{header.size()} >> (8 * i));
    detail::write_bytes(stream, length);
    detail::write_bytes(stream, std::as_bytes(std::span(header)));
    for (const Item item : items) write_data(stream, item->second);
  }

 private:
  struct Entry {
    detail::TensorInfo info;  // begin and end count from the start of the source
    std::shared_ptr<const Tensor> memory;
    std::shared_ptr<detail::Source> source;  // where the data are if not in memory
  };
  using Entries = std::map<std::string, Entry, std::less<>>;
  using Item = Entries::const_pointer;

  explicit Safetensors(std::shared_ptr<detail::Source> source) : source_(std::move(source)) {
    auto [header, data_begin] = detail::read_safetensors_header(*source_);
    metadata_ = std::move(header.metadata);
    for (auto& [name, info] : header.tensors) {
      info.begin += data_begin;
      info.end += data_begin;
      entries_.emplace_hint(entries_.end(), name, Entry{std::move(info), nullptr, source_});
    }
  }

  [[nodiscard]] const Entry& find(std::string_view name) const {
    const auto found = entries_.find(name);
    detail::require(found != entries_.end(), [&] {
      return "there is no tensor \"" + std::string(name) + "\" in " + file();
    });
    return found->second;
  }

  [[nodiscard]] std::string header_text(const std::vector<Item>& items) const {
    std::string text = "{";
    const auto comma = [&] { text += text.size() > 1 ? "," : ""; };
    if (!metadata_.empty()) {
      detail::append_quoted(text, detail::metadata_key);
      char separator = ':';
      for (const auto& [key, value] : metadata_) {
        text += separator == ':' ? ":{" : ",";
        separator = ',';
        detail::append_quoted(text, key);
        text += ':';
        detail::append_quoted(text, value);
      }
      text += '}';
    }
    std::uint64_t position = 0;
    for (const Item item : items) {
      detail::TensorInfo info = item->second.info;
      const std::uint64_t bytes = info.end - info.begin;
      info.begin = position;
      info.end = position += bytes;
      comma();
      detail::append_entry(text, item->first, info);
    }
    text += '}';
    text.resize((text.size() + 7) / 8 * 8, ' ');
    detail::require(
        text.size() <= detail::longest_header && position <= detail::largest_extent, [] {
          return std::string("these tensors are too many, or too large, for a safetensors file");
        });
    return text;
  }

  static void write_data(std::ostream& stream, const Entry& entry) {
    if (!entry.memory) {
      std::vector<std::byte> block;
      for (std::uint64_t at = entry.info.begin; at < entry.info.end && stream; at += block.size()) {
        constexpr std::uint64_t most = std::uint64_t{1} << 20;
        block.resize(static_cast<std::size_t>((std::min)(most, entry.info.end - at)));
        entry.source->read(at, block);
        detail::write_bytes(stream, block);
      }
    } else if constexpr (std::endian::native == std::endian::big) {
      std::vector<std::byte> swapped = entry.memory->data;
      detail::swap_bytes(swapped, size_of(entry.memory->type));
      detail::write_bytes(stream, swapped);
    } else {
      detail::write_bytes(stream, entry.memory->data);
    }
  }

  std::shared_ptr<detail::Source> source_{};
  Entries entries_{};
  std::map<std::string, std::string> metadata_{};
};

}  // namespace PLEAT_ABI
}  // namespace pleat
