// SPDX-License-Identifier: MIT
// Fuzz target: any bytes as a safetensors file. What opens must obey the rules of the format as a
// second, naive reader sees them, and be written and read again as the same tensors.
#include "fuzz/fuzz.hpp"
#include "pleat/io/safetensors.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using pleat::Safetensors;
using pleat::fuzz::check;

std::optional<Safetensors> read(const std::string& bytes) {
  try {
    return Safetensors::read(pleat::fuzz::stream_of(bytes), "input");
  } catch (const pleat::FormatError&) {
    return {};
  }
}

std::string written(const Safetensors& file) {
  std::ostringstream stream;
  file.write(stream);
  return stream.str();
}

/// The data of a tensor; nothing if it is of a type that cannot be read.
std::optional<std::vector<std::byte>> data_of(const Safetensors& file, const std::string& name) {
  try {
    return file.tensor(name).data;
  } catch (const pleat::FormatError&) {
    return {};
  }
}

/// Compares what was read with the document tree of a general JSON parser.
void compare_with_tree(const Safetensors& file, const std::string& bytes) {
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = 256 * length + static_cast<unsigned char>(bytes[i]);
  const auto tree = nlohmann::json::parse(bytes.substr(8, length));
  std::uint64_t covered = 0;
  std::size_t tensors = 0;
  for (const auto& [name, value] : tree.items()) {
    if (name == "__metadata__") {
      using Dictionary = std::map<std::string, std::string>;
      check(file.metadata() == (value.is_null() ? Dictionary() : value.get<Dictionary>()),
            "metadata agree");
      continue;
    }
    ++tensors;
    check(file.contains(name), "every tensor is there");
    check(file.shape(name) == value.at("shape").get<std::vector<std::int64_t>>(), "shapes agree");
    const auto begin = value.at("data_offsets").at(0).get<std::uint64_t>();
    const auto end = value.at("data_offsets").at(1).get<std::uint64_t>();
    check(begin <= end && 8 + length + end <= bytes.size(), "data lie in the file");
    covered += end - begin;
    if (const auto data = data_of(file, name)) {
      const std::string expected = bytes.substr(8 + length + begin, end - begin);
      check(std::equal(data->begin(), data->end(), expected.begin(), expected.end(),
                       [](std::byte a, char b) { return a == std::byte(b); }),
            "data agree");
    }
  }
  check(tensors == file.names().size(), "there is no other tensor");
  check(covered == bytes.size() - 8 - length, "every byte belongs to a tensor");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes = pleat::fuzz::bytes_of(data, size);
  const auto file = read(bytes);
  if (!file) return 0;
  compare_with_tree(*file, bytes);
  const std::string first = written(*file);
  const auto again = read(first);
  check(again.has_value(), "what was written can be read");
  check(again->names() == file->names(), "names stay");
  check(again->metadata() == file->metadata(), "metadata stay");
  for (const std::string& name : file->names()) {
    check(again->shape(name) == file->shape(name), "shapes stay");
    check(data_of(*again, name) == data_of(*file, name), "data stay");
  }
  check(written(*again) == first, "writing is idempotent");
  return 0;
}
