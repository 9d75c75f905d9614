// SPDX-License-Identifier: MIT
// What the fuzz targets share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>

namespace pleat::fuzz {

/// Ends the program with a message unless `condition`: NDEBUG does not switch it off.
inline void check(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: not so: %s\n", what);
  std::abort();
}

inline std::unique_ptr<std::istringstream> stream_of(const std::string& bytes) {
  return std::make_unique<std::istringstream>(bytes);
}

inline std::string bytes_of(const std::uint8_t* data, std::size_t size) {
  return std::string(data, data + size);
}

}  // namespace pleat::fuzz
