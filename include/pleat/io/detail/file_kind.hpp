// SPDX-License-Identifier: MIT
// What a file seems to be that is not what it was taken for.
#pragma once

#include "pleat/io/detail/stream.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// "; it seems to be ..." for files that often come under a wrong name, else nothing. For messages
/// alone: what begins like one of these may be something else.
[[nodiscard]] inline std::string seems_to_be(Source& source) {
  std::string start(static_cast<std::size_t>((std::min)(source.size(), std::uint64_t{32})), '\0');
  source.read(0, std::as_writable_bytes(std::span(start)));
  struct Kind {
    std::string_view start;
    std::string_view name;
  };
  constexpr Kind kinds[] = {
      {"version https://git-lfs", "a git-lfs pointer; git lfs pull fetches the file itself"},
      {"\x93NUMPY", "a .npy file"},
      {"PK\x03\x04", "a zip archive, as torch.save and numpy.savez write"},
      {"PK\x05\x06", "a zip archive, as torch.save and numpy.savez write"},
      {"\x80\x02", "a Python pickle, as torch.save wrote"},
      {"\x80\x03", "a Python pickle"},
      {"\x80\x04", "a Python pickle"},
      {"\x80\x05", "a Python pickle"},
      {"\x1f\x8b\x08", "compressed by gzip"},
      {"\x89HDF\r\n\x1a\n", "an HDF5 file"},
      {"GGUF", "a GGUF file"},
  };
  // The length of a header, then JSON. Before others, which a length may look like.
  if (start.size() > 8 && start[8] == '{' &&
      little_endian(std::as_bytes(std::span(start)).data(), 8) <= source.size() - 8)
    return "; it seems to be a safetensors file";
  for (const Kind& kind : kinds)
    if (start.starts_with(kind.start)) return "; it seems to be " + std::string(kind.name);
  const std::size_t begin = (std::min)(start.find_first_not_of(" \t\r\n"), start.size());
  const std::string_view text = std::string_view(start).substr(begin);
  std::string word(text.substr(0, 9));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (word == "<!doctype" || word.starts_with("<html"))
    return "; it seems to be a web page, as a failed download leaves it";
  if (word.starts_with('{')) return "; it seems to be JSON";
  return {};
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
