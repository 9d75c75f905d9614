// SPDX-License-Identifier: MIT
// Operators in and out of safetensors files: one to a file, or a whole model's.
#pragma once

#include "pleat/core/any_operator.hpp"
#include "pleat/core/error.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/factor/structures.hpp"
#include "pleat/io/detail/composites.hpp"
#include "pleat/io/safetensors.hpp"

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

// How an operator lies in a safetensors file
//
// An operator is a tree: a node has a structure, attributes, tensors, and children, which are nodes
// (`Parts`). A node has a path: the root's is the name under which the operator was added, a
// child's that of its parent, a dot, and its own name. The name "" is the root of a file that holds
// one operator and nothing else; the dot after it is left out. With P for "path.", or "" for an
// empty path:
//
//   tensors       P<tensor>                       every tensor of the node, as it is
//   __metadata__  P"pleat.structure"              the node's structure: "LowRank"
//                 P"pleat.attribute."<attribute>  every attribute of the node
//   and at the root alone
//                 P"pleat.version"                version of these rules, "1"
//                 P"pleat.rows"                   the operator's shape, in decimal
//                 P"pleat.cols"
//                 P"pleat.scalar"                 "f32" or "f64", of the operator that was saved
//
// A reader refuses a version that is newer than its own.
//
// Tensors, children and attributes have names that are not empty and hold no dot; none is "pleat".
// So a file with an operator "fc1" of structure LowRank holds the tensors "fc1.U.weight" and
// "fc1.V.weight" and the metadata "fc1.pleat.structure" = "LowRank", "fc1.U.pleat.structure" =
// "Dense", and so on.
//
// All names that begin with P belong to the operator: a reader refuses a tensor, node or attribute
// that the structure does not have, so no operator may be named "fc1.something", nor any tensor.
// The exception is metadata without "pleat." at its start or after a dot, which is left to others
// ("format": "pt").
//
// A tree is at most 16 nodes deep, the root counted. No extent of a tensor without elements exceeds
// 2^24.

namespace detail {

inline constexpr int deepest_node = 16;
inline constexpr int operator_file_version = 1;
inline constexpr std::string_view pleat_prefix = "pleat.";
inline constexpr std::string_view attribute_prefix = "attribute.";

[[nodiscard]] inline std::string prefix_of(std::string_view path) {
  return path.empty() ? std::string() : std::string(path) + '.';
}

/// Whether an operator may have this name in a file: "" is one that is alone there.
[[nodiscard]] inline bool is_operator_name(std::string_view name) {
  return !name.starts_with('.') && !name.ends_with('.');
}

/// Writes a node and those below it.
inline void add_node(Safetensors& file, const std::string& path, Parts&& parts, int depth) {
  const auto check_name = [&](const std::string& name) {
    require(!name.empty() && name != "pleat" && name.find('.') == std::string::npos, [&] {
      return "a part of " + parts.structure + " cannot be saved under the name \"" + name + "\"";
    });
  };
  require(depth <= deepest_node, [] {
    return "operators are nested more than " + std::to_string(deepest_node) + " deep";
  });
  const std::string prefix = prefix_of(path);
  const std::string own = prefix + std::string(pleat_prefix);
  file.set_metadata(own + "structure", parts.structure);
  for (auto& [name, value] : parts.attributes) {
    check_name(name);
    file.set_metadata(own + std::string(attribute_prefix) + name, value);
  }
  for (auto& [name, tensor] : parts.tensors) {
    check_name(name);
    file.add(prefix + name, std::move(tensor));
  }
  for (auto& [name, child] : parts.children) {
    check_name(name);
    add_node(file, prefix + name, std::move(child), depth + 1);
  }
}

/// Reads the nodes of one operator; all that it throws for is a fault of the file.
class NodeReader {
 public:
  explicit NodeReader(const Safetensors& file) : file_(file) {}

  [[nodiscard]] Parts read(const std::string& path, int depth = 1) const {
    if (depth > deepest_node)
      throw FormatError(file_.file(),
                        "operators are nested more than " + std::to_string(deepest_node) + " deep");
    const std::string prefix = prefix_of(path);
    const std::string own = prefix + std::string(pleat_prefix);
    Parts parts{value(own + "structure"), {}, {}, {}};
    for (const std::string& name : file_.names(prefix)) {
      const std::string rest = name.substr(prefix.size());
      const std::size_t dot = rest.find('.');
      if (dot == std::string::npos) parts.tensors.emplace(rest, tensor(name));
      else parts.children.try_emplace(rest.substr(0, dot));
    }
    for (auto at = file_.metadata().lower_bound(prefix);
         at != file_.metadata().end() && at->first.starts_with(prefix); ++at) {
      const std::string_view rest = std::string_view(at->first).substr(prefix.size());
      if (rest.starts_with(pleat_prefix)) {
        const std::string_view property = rest.substr(pleat_prefix.size());
        if (property.starts_with(attribute_prefix))
          parts.attributes.emplace(property.substr(attribute_prefix.size()), at->second);
        else if (property != "structure" && (depth > 1 || !is_root_property(property)))
          throw FormatError(file_.file(), "unknown metadata \"" + at->first + '"');
      } else if (rest.find(".pleat.") != std::string_view::npos) {
        parts.children.try_emplace(std::string(rest.substr(0, rest.find('.'))));
      }
    }
    for (auto& [name, child] : parts.children) {
      if (name.empty()) throw FormatError(file_.file(), "has a part without a name");
      child = read(prefix + name, depth + 1);
    }
    return parts;
  }

  [[nodiscard]] const std::string& value(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end())
      throw FormatError(file_.file(), "has no metadata \"" + key + '"');
    return found->second;
  }

  [[nodiscard]] std::int64_t integer(const std::string& key) const {
    const std::string& text = value(key);
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || std::to_string(number) != text)
      throw FormatError(file_.file(),
                        "the metadata \"" + key + "\" is \"" + text + "\", not a number");
    return number;
  }

 private:
  /// A tensor of the operator. What the format allows, but no operator needs, is an extent of 2^48
  /// that costs no byte of the file because another is 0: who loops over it would not come back.
  [[nodiscard]] Tensor tensor(const std::string& name) const {
    constexpr std::int64_t most = std::int64_t{1} << 24;
    Tensor result = file_.tensor(name);
    if (result.data.empty() && std::any_of(result.shape.begin(), result.shape.end(),
                                           [](std::int64_t extent) { return extent > most; }))
      throw FormatError(
          file_.file(),
          "the tensor \"" + name + "\" is empty, but of an extent above " + std::to_string(most));
    return result;
  }

  static bool is_root_property(std::string_view property) {
    return property == "version" || property == "rows" || property == "cols" ||
           property == "scalar";
  }

  const Safetensors& file_;
};

/// Builds operators from their parts, whatever the structure. Throws `std::invalid_argument`.
template <Real T, LinearOperator... Own>
class OperatorBuilder {
 public:
  [[nodiscard]] static AnyOperator<T> build(const Parts& parts) {
    std::optional<AnyOperator<T>> op;
    (try_type<Own>(parts, op), ...);
    try_types(parts, op, Structures<T>());
    if (op) return *op;
    if (parts.structure == LoadedSum<T>::name) return LoadedSum<T>(operands(parts));
    if (parts.structure == LoadedProduct<T>::name) return LoadedProduct<T>(operands(parts));
    throw std::invalid_argument("pleat: there is no structure \"" + parts.structure + '"');
  }

 private:
  template <class Op>
  static void try_type(const Parts& parts, std::optional<AnyOperator<T>>& op) {
    if (!op && parts.structure == Op::name) op.emplace(Op::from_parts(parts));
  }

  template <class... Ops>
  static void try_types(const Parts& parts, std::optional<AnyOperator<T>>& op, TypeList<Ops...>) {
    (try_type<Ops>(parts, op), ...);
  }

  static std::vector<AnyOperator<T>> operands(const Parts& parts) {
    std::vector<AnyOperator<T>> result;
    for (std::size_t i = 0; i < parts.children.size(); ++i)
      result.push_back(build(parts.child(std::to_string(i))));
    return result;
  }
};

/// Throws `std::invalid_argument` unless two nodes are alike in all but values: structures, shapes,
/// and which attributes, tensors and children there are. `from_parts` sees to what it needs;
/// comparing the operator's own parts with those of the file finds what it does not need, and never
/// looked at.
inline void require_alike(const Parts& read, const Parts& made, const std::string& path) {
  const auto where = [&] { return " in \"" + path + "\" (" + made.structure + ')'; };
  const auto require_same = [&](const auto& a, const auto& b, const std::string& what) {
    for (const auto& item : a)
      require(b.contains(item.first),
              [&] { return "unknown " + what + " \"" + item.first + '"' + where(); });
    for (const auto& item : b)
      require(a.contains(item.first),
              [&] { return "missing " + what + " \"" + item.first + '"' + where(); });
  };
  require(read.structure == made.structure,
          [&] { return "a part of structure \"" + read.structure + "\" stands" + where(); });
  require_same(read.attributes, made.attributes, "attribute");
  require_same(read.tensors, made.tensors, "tensor");
  require_same(read.children, made.children, "part");
  for (const auto& item : read.tensors)
    require(item.second.shape == made.tensors.at(item.first).shape,
            [&] { return "the tensor \"" + item.first + "\" has the wrong shape" + where(); });
  for (const auto& [name, child] : read.children)
    require_alike(child, made.children.at(name), prefix_of(path) + name);
}

}  // namespace detail

/// Adds an operator to a file in the making under a name, "" if it is to be alone there. Throws
/// `std::invalid_argument` if the operator, or one inside it, has no parts; if it is nested more
/// than 16 deep; or if the file holds something of that name, or of a name that begins with it and
/// a dot.
template <LinearOperator Op>
requires HasParts<Op>
void add_operator(Safetensors& file, const std::string& name, const Op& op) {
  const std::string prefix = detail::prefix_of(name);
  const std::string own = prefix + std::string(detail::pleat_prefix);
  detail::require(detail::is_operator_name(name),
                  [&] { return "\"" + name + "\" cannot be the name of an operator"; });
  detail::require(!file.contains(name) && file.names(prefix).empty(),
                  [&] { return "there are tensors under the name \"" + name + "\" already"; });
  detail::require_outside(file.metadata(), "operator", name);
  Safetensors added;
  detail::add_node(added, name, op.parts(), 1);
  added.set_metadata(own + "version", std::to_string(detail::operator_file_version));
  added.set_metadata(own + "rows", std::to_string(op.rows()));
  added.set_metadata(own + "cols", std::to_string(op.cols()));
  added.set_metadata(own + "scalar", std::same_as<typename Op::Scalar, float> ? "f32" : "f64");
  file.add(std::move(added));
}

/// The names of the operators in a file, sorted. Throws `FormatError` on a name that `add_operator`
/// would have refused.
[[nodiscard]] inline std::vector<std::string> operator_names(const Safetensors& file) {
  constexpr std::string_view key = "pleat.version";
  std::vector<std::string> names;
  for (const auto& [name, value] : file.metadata()) {
    if (name == key) names.emplace_back();
    if (!name.ends_with('.' + std::string(key))) continue;
    names.push_back(name.substr(0, name.size() - key.size() - 1));
    if (names.back().empty() || !detail::is_operator_name(names.back()))
      throw FormatError(file.file(),
                        '"' + names.back() + "\" cannot be the name of an operator in a file");
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The operator that was added under a name, converted to the scalar T. A structure of the user's
/// own, with a `static constexpr std::string_view name` and `from_parts`, is read if it is given as
/// one of `Own`. Throws `std::invalid_argument` if there is no such operator, and `FormatError` if
/// it is not what it claims: every shape, index, mask and code is checked.
template <Real T, LinearOperator... Own>
[[nodiscard]] AnyOperator<T> read_operator(const Safetensors& file, const std::string& name) {
  const std::string own = detail::prefix_of(name) + std::string(detail::pleat_prefix);
  detail::require(file.metadata().contains(own + "version"),
                  [&] { return "there is no operator \"" + name + "\" in " + file.file(); });
  const detail::NodeReader reader(file);
  // First of all: nothing else can be relied on in a file of rules yet unknown.
  const std::int64_t version = reader.integer(own + "version");
  if (version < 1 || version > detail::operator_file_version)
    throw FormatError(file.file(), "the operator \"" + name + "\" is of format version " +
                                       std::to_string(version) + "; this version of pleat knows " +
                                       std::to_string(detail::operator_file_version));
  const std::string& scalar = reader.value(own + "scalar");
  if (scalar != "f32" && scalar != "f64")
    throw FormatError(file.file(), "the scalar \"" + scalar + "\" is neither f32 nor f64");
  const std::int64_t rows = reader.integer(own + "rows");
  const std::int64_t cols = reader.integer(own + "cols");
  const Parts parts = reader.read(name);
  try {
    const AnyOperator<T> op = detail::OperatorBuilder<T, Own...>::build(parts);
    detail::require(op.rows() == rows && op.cols() == cols, [&] {
      return "the metadata state " + std::to_string(rows) + " x " + std::to_string(cols) +
             ", but the operator is " + detail::shape_text(op.rows(), op.cols());
    });
    detail::require_alike(parts, op.parts(), name);
    return op;
  } catch (const std::invalid_argument& error) {
    throw FormatError(file.file(), "the operator \"" + name + "\" cannot be read: " + error.what());
  }
}

/// Saves one operator as a safetensors file, which replaces what was there at once, or not at all.
/// Throws `std::invalid_argument` as `add_operator` does, and `std::filesystem::filesystem_error`
/// if the file cannot be written.
template <LinearOperator Op>
requires HasParts<Op>
void save(const std::filesystem::path& path, const Op& op) {
  Safetensors file;
  pleat::add_operator(file, "", op);
  file.save(path);
}

/// Loads what `save` saved, converted to the scalar T. Throws `FormatError`. A `Sum` or `Product`
/// comes back as an operator that applies the same, bit for bit, but is of an internal type,
/// because the file tells the number of its operands: `get_if<Sum<...>>()` is null.
template <Real T, LinearOperator... Own>
[[nodiscard]] AnyOperator<T> load(const std::filesystem::path& path) {
  const Safetensors file = Safetensors::open(path);
  if (!file.metadata().contains("pleat.version"))
    throw FormatError(file.file(), "holds no operator, or more than one");
  return read_operator<T, Own...>(file, "");
}

}  // namespace PLEAT_ABI
}  // namespace pleat
