// SPDX-License-Identifier: MIT
// The weights of a TensorFlow.js graph model: model.json and the binary shards beside it.
#pragma once

#include <nlohmann/json.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace tfjs {

/// Float tensors by name, row-major.
using Weights = std::map<std::string, std::vector<float>>;

inline std::vector<char> read_file(const std::filesystem::path& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);  // a directory has none
  if (error) throw std::runtime_error(path.string() + ": " + error.message());
  std::vector<char> bytes(size);
  std::ifstream stream(path, std::ios::binary);
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(size)))
    throw std::runtime_error(path.string() + ": cannot be read");
  return bytes;
}

/// The float32 tensors that `model_json` lists; others (axes, shapes) are passed over. The shards
/// of a group, one after the other, are its tensors in the order of the manifest, little-endian and
/// without padding. Throws `std::runtime_error` if the shards and the manifest disagree.
inline Weights read_weights(const std::filesystem::path& model_json) {
  static_assert(std::endian::native == std::endian::little);
  const auto wrong = [&](const std::string& problem) {
    return std::runtime_error(model_json.string() + ": " + problem);
  };

  Weights weights;
  const std::vector<char> text = read_file(model_json);
  try {
    const nlohmann::json model = nlohmann::json::parse(text);
    for (const auto& group : model.at("weightsManifest")) {
      std::vector<char> bytes;
      std::string sizes;  // of the shards, for people
      for (const auto& shard : group.at("paths")) {
        const auto name = shard.get<std::string>();
        const auto more = read_file(model_json.parent_path() / name);
        bytes.insert(bytes.end(), more.begin(), more.end());
        sizes += "\n  " + name + ": " + std::to_string(more.size()) + " bytes";
      }

      std::uint64_t begin = 0;
      for (const auto& entry : group.at("weights")) {
        const auto name = entry.at("name").get<std::string>();
        const auto type = entry.at("dtype").get<std::string>();
        if ((type != "float32" && type != "int32") || entry.contains("quantization"))
          throw wrong(name + " is quantized or of type " + type + ", which is not read here");

        std::uint64_t count = 1;
        for (const auto& extent : entry.at("shape")) {
          count *= extent.get<std::uint32_t>();
          if (count > std::numeric_limits<std::uint32_t>::max())
            throw wrong(name + " is too large");
        }
        const std::uint64_t end = begin + 4 * count;  // both types have four bytes
        if (type == "float32" && end <= bytes.size()) {
          std::vector<float> values(count);
          std::memcpy(values.data(), bytes.data() + begin, 4 * count);
          weights[name] = std::move(values);
        }
        begin = end;
      }
      if (begin != bytes.size())
        throw wrong("the weights it lists take " + std::to_string(begin) +
                    " bytes, but its shards have " + std::to_string(bytes.size()) + ':' + sizes);
    }
  } catch (const nlohmann::json::exception&) {
    throw wrong("this is not the model.json of a TensorFlow.js graph model");
  }
  return weights;
}

}  // namespace tfjs
