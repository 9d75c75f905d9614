// SPDX-License-Identifier: MIT
// The header of a safetensors file: JSON in, checked tables out, and back. The only place that sees
// JSON.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/io/detail/file_kind.hpp"
#include "pleat/io/detail/json_text.hpp"
#include "pleat/io/detail/stream.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// An element type of the format; `type` is empty where the library has no such elements.
struct ElementType {
  std::string_view name;
  std::uint64_t bits;
  std::optional<DataType> type;
};

/// All of them, in the order by which the reference writer sorts tensors (last first).
inline constexpr std::array<ElementType, 22> element_types{{
    {"BOOL", 8, DataType::boolean},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, DataType::u8},
    {"I8", 8, DataType::i8},
    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, DataType::i16},
    {"U16", 16, DataType::u16},
    {"F16", 16, DataType::f16},
    {"BF16", 16, DataType::bf16},
    {"I32", 32, DataType::i32},
    {"U32", 32, DataType::u32},
    {"F32", 32, DataType::f32},
    {"C64", 64, {}},
    {"F64", 64, DataType::f64},
    {"I64", 64, DataType::i64},
    {"U64", 64, DataType::u64},
}};

/// The position in `element_types` of the type that an element of a `Tensor` has.
[[nodiscard]] constexpr std::size_t element_of(DataType type) noexcept {
  std::size_t i = 0;
  while (element_types[i].type != type) ++i;
  return i;
}

/// What the header says of one tensor. `begin` and `end` count from the first byte after the
/// header.
struct TensorInfo {
  std::size_t element = 0;  ///< position in `element_types`
  std::vector<std::int64_t> shape{};
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, TensorInfo, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};

/// The reference refuses longer headers, when reading and when writing.
inline constexpr std::uint64_t longest_header = 100'000'000;

inline constexpr std::string_view metadata_key = "__metadata__";

/// Takes the events of nlohmann's parser, and accepts no more than the format allows: that parser
/// alone would let the last of equal keys win, and read -1, 1.5 and 2^64 as sizes.
class SafetensorsHandler {
 public:
  SafetensorsHandler(std::string_view text, SafetensorsHeader& header)
      : header_(header), tokens_(text) {}

  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// Where in the text the problem lies.
  [[nodiscard]] std::uint64_t position() const noexcept {
    return parse_error_ ? *parse_error_ : tokens_.begin();
  }

  // Each is called for the next token of the text.
  /// Metadata of null are none, as the reference reads it.
  bool null() {
    if (place_ != Place::header || key_ != metadata_key) return refused("null");
    tokens_.next();
    return has_metadata_ = true;
  }
  bool boolean(bool) { return refused("a boolean"); }
  bool number_integer(std::int64_t) { return refused("a negative number"); }
  bool number_float(double, const std::string& text) { return refused("the number " + text); }
  template <class Binary>
  bool binary(Binary&) {
    return refused("binary data");
  }

  bool number_unsigned(std::uint64_t value) {
    tokens_.next();
    if (place_ != Place::shape && place_ != Place::offsets) return unexpected("a number");
    if (value > largest_extent) return unexpected("the number " + std::to_string(value));
    if (place_ == Place::shape) {
      info_.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (offsets_ == 2) return unexpected("a third number");
    (offsets_++ == 0 ? info_.begin : info_.end) = value;
    return true;
  }

  bool string(std::string& value) {
    tokens_.next();
    if (place_ == Place::metadata) {
      header_.metadata[key_] = value;
      return true;
    }
    if (place_ != Place::entry || key_ != "dtype") return unexpected("a string");
    const auto found = std::find_if(element_types.begin(), element_types.end(),
                                    [&](const ElementType& type) { return type.name == value; });
    if (found == element_types.end()) return unexpected("the element type " + json_quoted(value));
    info_.element = static_cast<std::size_t>(found - element_types.begin());
    return true;
  }

  bool key(std::string& value) {
    tokens_.next();
    key_ = value;
    switch (place_) {
      case Place::header:
        if (value == metadata_key ? has_metadata_ : header_.tensors.contains(value))
          return duplicate();
        return true;
      case Place::metadata: return header_.metadata.contains(value) ? duplicate() : true;
      default: break;
    }
    const std::size_t field = value == "dtype"          ? 0
                              : value == "shape"        ? 1
                              : value == "data_offsets" ? 2
                                                        : 3;
    if (field == 3) return unexpected("the field " + json_quoted(value));
    if (fields_[field]) return duplicate();
    return fields_[field] = true;
  }

  bool start_object(std::size_t) {
    tokens_.next();
    if (place_ == Place::document) {
      place_ = Place::header;
    } else if (place_ != Place::header) {
      return unexpected("an object");
    } else if (key_ == metadata_key) {
      has_metadata_ = true;
      place_ = Place::metadata;
    } else {
      name_ = key_;
      info_ = {};
      fields_ = {};
      offsets_ = 0;
      place_ = Place::entry;
    }
    return true;
  }

  bool end_object() {
    tokens_.next();
    if (place_ == Place::entry) {
      for (std::size_t i = 0; i < fields_.size(); ++i)
        if (!fields_[i]) {
          problem_ = "the tensor " + json_quoted(name_) + " has no " +
                     std::array{"dtype", "shape", "data_offsets"}[i];
          return false;
        }
      header_.tensors.emplace(name_, std::move(info_));
    }
    place_ = place_ == Place::header ? Place::document : Place::header;
    return true;
  }

  bool start_array(std::size_t) {
    tokens_.next();
    if (place_ != Place::entry || key_ == "dtype") return unexpected("an array");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() {
    tokens_.next();
    if (place_ == Place::offsets && offsets_ != 2) {
      problem_ = "the data_offsets of the tensor " + json_quoted(name_) + " are not two numbers";
      return false;
    }
    place_ = Place::entry;
    return true;
  }

  template <class Exception>
  bool parse_error(std::size_t position, const std::string&, const Exception& error) {
    problem_ = std::string("the header is not JSON: ") + error.what();
    parse_error_ = position == 0 ? 0 : position - 1;
    return false;
  }

 private:
  enum class Place { document, header, metadata, entry, shape, offsets };

  bool duplicate() {
    problem_ = "duplicate key " + json_quoted(key_);
    if (place_ == Place::entry) problem_ += " in the tensor " + json_quoted(name_);
    if (place_ == Place::metadata) problem_ += " in __metadata__";
    return false;
  }

  bool refused(const std::string& what) {
    tokens_.next();
    return unexpected(what);
  }

  bool unexpected(const std::string& what) {
    problem_ = "unexpected: " + what + " in ";
    switch (place_) {
      case Place::document: problem_ += "place of the header's object"; break;
      case Place::header: problem_ += "place of what " + json_quoted(key_) + " is"; break;
      case Place::metadata: problem_ += "__metadata__, which holds only strings"; break;
      case Place::entry: problem_ += "the tensor " + json_quoted(name_); break;
      case Place::shape: problem_ += "the shape of the tensor " + json_quoted(name_); break;
      case Place::offsets:
        problem_ += "the data_offsets of the tensor " + json_quoted(name_);
        break;
    }
    return false;
  }

  SafetensorsHeader& header_;
  JsonTokens tokens_;
  std::string problem_{};
  std::optional<std::uint64_t> parse_error_{};
  Place place_ = Place::document;
  std::string key_{};
  std::string name_{};
  TensorInfo info_{};
  std::array<bool, 3> fields_{};
  int offsets_ = 0;
  bool has_metadata_ = false;
};

/// Bytes of a tensor of this shape, or nothing where they are no whole number or too many.
[[nodiscard]] inline std::optional<std::uint64_t> bytes_of(std::size_t element,
                                                           const std::vector<std::int64_t>& shape) {
  std::optional<std::uint64_t> bits = 1;
  for (const std::int64_t extent : shape)
    if (bits) bits = checked_product(*bits, static_cast<std::uint64_t>(extent));
  if (bits) bits = checked_product(*bits, element_types[element].bits);
  if (!bits || *bits % 8 != 0) return {};
  return *bits / 8;
}

/// Throws `FormatError` unless the tensors tile the `data_bytes` after the header: no hole, no
/// overlap, none shorter or longer than its shape says.
inline void check_layout(const SafetensorsHeader& header, std::uint64_t data_bytes,
                         const std::string& file, std::uint64_t data_begin) {
  using Item = std::map<std::string, TensorInfo, std::less<>>::const_pointer;
  std::vector<Item> items;
  items.reserve(header.tensors.size());
  for (const auto& item : header.tensors) items.push_back(&item);
  std::sort(items.begin(), items.end(), [](Item a, Item b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t expected = 0;
  for (const Item item : items) {
    const auto& [name, info] = *item;
    if (info.begin != expected || info.end < info.begin)
      throw FormatError(file,
                        "the tensor " + json_quoted(name) + " has data_offsets [" +
                            std::to_string(info.begin) + ", " + std::to_string(info.end) +
                            "] where the data before it end at " + std::to_string(expected),
                        data_begin + info.begin);
    const std::optional<std::uint64_t> bytes = bytes_of(info.element, info.shape);
    if (!bytes)
      throw FormatError(file,
                        "the tensor " + json_quoted(name) +
                            " has a shape of too many elements, or of no whole number of bytes",
                        data_begin + info.begin);
    if (*bytes != info.end - info.begin)
      throw FormatError(file,
                        "the tensor " + json_quoted(name) + " has " +
                            std::to_string(info.end - info.begin) +
                            " bytes of data where its shape needs " + std::to_string(*bytes),
                        data_begin + info.begin);
    expected = info.end;
  }
  if (expected != data_bytes)
    throw FormatError(file,
                      "the tensors end at byte " + std::to_string(expected) +
                          " of the data, but the file holds " + std::to_string(data_bytes),
                      data_begin + (std::min)(expected, data_bytes));
}

/// Reads the header at the start of `source` and checks everything that it says; returns it and the
/// position of the data. Allocates nothing that the size of the file does not justify.
[[nodiscard]] inline std::pair<SafetensorsHeader, std::uint64_t> parse_safetensors_header(
    Source& source) {
  const std::string& file = source.file();
  if (source.size() < 8)
    throw FormatError(
        file, "is too short for a safetensors file: " + std::to_string(source.size()) + " bytes",
        source.size());
  std::array<std::byte, 8> prefix;
  source.read(0, prefix);
  const std::uint64_t length = little_endian(prefix.data(), prefix.size());
  if (length > longest_header)
    throw FormatError(file,
                      "has a header of " + std::to_string(length) + " bytes; the most is " +
                          std::to_string(longest_header),
                      0);
  if (length > source.size() - 8)
    throw FormatError(
        file, "has a header of " + std::to_string(length) + " bytes that ends after the file", 0);
  std::string text(static_cast<std::size_t>(length), '\0');
  source.read(8, std::as_writable_bytes(std::span(text)));
  // The parser takes a NUL for the end of its input, and skips a byte order mark; neither is JSON.
  if (const std::size_t nul = text.find('\0'); nul != std::string::npos)
    throw FormatError(file, "the header is not JSON: it holds a NUL", 8 + nul);
  if (text.starts_with("\xEF\xBB\xBF"))
    throw FormatError(file, "the header is not JSON: it begins with a byte order mark", 8);

  std::pair<SafetensorsHeader, std::uint64_t> result{{}, 8 + length};
  SafetensorsHandler handler(text, result.first);
  if (!nlohmann::json::sax_parse(text.data(), text.data() + text.size(), &handler))
    throw FormatError(file, handler.problem(), 8 + handler.position());
  check_layout(result.first, source.size() - result.second, file, result.second);
  return result;
}

/// The same; of a file of another kind, the error says what it seems to be.
[[nodiscard]] inline std::pair<SafetensorsHeader, std::uint64_t> read_safetensors_header(
    Source& source) {
  try {
    return parse_safetensors_header(source);
  } catch (const FormatError&) {
    std::byte first{};
    if (source.size() > 8) source.read(8, std::span(&first, 1));
    if (first == std::byte{'{'}) throw;
    const std::string kind = seems_to_be(source);
    if (kind.empty()) throw;
    throw FormatError(source.file(), "is not a safetensors file" + kind, 0);
  }
}

/// Appends `"name":{"dtype":...,"shape":[...],"data_offsets":[...]}`.
inline void append_entry(std::string& json, std::string_view name, const TensorInfo& info) {
  append_quoted(json, name);
  json += ":{\"dtype\":";
  append_quoted(json, element_types[info.element].name);
  json += ",\"shape\":[";
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    if (i > 0) json += ',';
    json += std::to_string(info.shape[i]);
  }
  json +=
      "],\"data_offsets\":[" + std::to_string(info.begin) + ',' + std::to_string(info.end) + "]}";
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
