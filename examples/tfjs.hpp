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
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tfjs {

/// Float tensors by name, row-major.
using Weights = std::map<std::string, std::vector<float>>;

inline std::vector<char> read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path.string() + ": cannot be opened");
  std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (stream.bad()) throw std::runtime_error(path.string() + ": cannot be read");
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
      for (const auto& shard : group.at("paths")) {
        const auto more = read_file(model_json.parent_path() / shard.get<std::string>());
        bytes.insert(bytes.end(), more.begin(), more.end());
      }

      std::size_t begin = 0;
      for (const auto& entry : group.at("weights")) {
        const auto name = entry.at("name").get<std::string>();
        const auto type = entry.at("dtype").get<std::string>();
        if ((type != "float32" && type != "int32") || entry.contains("quantization"))
          throw wrong(name + " is quantized or of type " + type + ", which is not read here");

        std::size_t count = 1;
        for (const auto& extent : entry.at("shape")) {
          count *= extent.get<std::uint32_t>();
          if (count > bytes.size()) throw wrong("the shards end before " + name + " does");
        }
        const std::size_t size = 4 * count;  // both types have four bytes
        if (size > bytes.size() - begin) throw wrong("the shards end before " + name + " does");
        if (type == "float32") {
          std::vector<float> values(count);
          std::memcpy(values.data(), bytes.data() + begin, size);
          weights[name] = std::move(values);
        }
        begin += size;
      }
      if (begin != bytes.size())
        throw wrong(std::to_string(bytes.size() - begin) +
                    " bytes of the shards belong to no tensor");
    }
  } catch (const nlohmann::json::exception& error) {
    throw wrong(error.what());
  }
  return weights;
}

}  // namespace tfjs
