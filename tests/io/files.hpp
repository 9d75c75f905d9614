// SPDX-License-Identifier: MIT
// Files for tests of the io room: a directory that goes with the test, and bytes put together by
// hand.
#pragma once

#include "pleat/core/error.hpp"
#include "support/catch.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace pleat::test {

/// An empty directory that is removed with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "pleat-io-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const {
    return path_ / name;
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  REQUIRE(stream);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

inline std::filesystem::path write_file(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  stream.close();
  REQUIRE(stream);
  return path;
}

/// `value` as `count` little-endian bytes.
inline std::string little(std::uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFF);
  return bytes;
}

inline std::string safetensors_bytes(const std::string& header, const std::string& data = {}) {
  return little(header.size(), 8) + header + data;
}

inline std::string npy_bytes(int major, int minor, const std::string& header,
                             const std::string& data = {}) {
  return std::string("\x93NUMPY") + static_cast<char>(major) + static_cast<char>(minor) +
         little(header.size(), major == 1 ? 2 : 4) + header + data;
}

/// What the `FormatError` says that `read()` throws; "accepted" if it throws none.
template <class Read>
std::string refusal(Read&& read) {
  try {
    read();
  } catch (const FormatError& error) {
    // Every message names the file first.
    REQUIRE(std::string(error.what()).starts_with(error.file()));
    return error.what();
  }
  return "accepted";
}

}  // namespace pleat::test
