// SPDX-License-Identifier: MIT
// JSON as text: where its tokens lie, what it can hold, and how it is quoted.
#pragma once

#include "pleat/core/version.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The places of the tokens of a text, one after the other. For who follows a parser, which does
/// not say them: as far as it has come, the text is JSON.
class JsonTokens {
 public:
  explicit JsonTokens(std::string_view text) : text_(text) {}

  /// Goes to the next token; commas and colons are none.
  void next() {
    begin_ = (std::min)(text_.find_first_not_of(" \t\n\r,:", end_), text_.size());
    end_ = (std::min)(begin_ + 1, text_.size());
    const char first = begin_ < text_.size() ? text_[begin_] : '}';
    if (first == '"') {
      while (end_ < text_.size() && text_[end_] != '"') end_ += text_[end_] == '\\' ? 2 : 1;
      end_ = (std::min)(end_ + 1, text_.size());
    } else if (std::string_view("{}[]").find(first) == std::string_view::npos) {
      end_ = (std::min)(text_.find_first_of(" \t\n\r,:]}", end_), text_.size());
    }
  }

  /// Where it begins.
  [[nodiscard]] std::size_t begin() const noexcept { return begin_; }

 private:
  std::string_view text_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// Whether `text` is well-formed UTF-8: what JSON can hold.
[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) continue;
    if (lead < 0xC2 || lead > 0xF4) return false;
    const int followers = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    // The first follower also rules out overlong forms, surrogates, and what lies above U+10FFFF.
    unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    for (int k = 0; k < followers; ++k, low = 0x80, high = 0xBF) {
      if (i == text.size()) return false;
      const auto byte = static_cast<unsigned char>(text[i++]);
      if (byte < low || byte > high) return false;
    }
  }
  return true;
}

/// Appends `text` as a JSON string.
inline void append_quoted(std::string& json, std::string_view text) {
  constexpr std::string_view digits = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (byte < 0x20) {
      json += "\\u00";
      json += digits[byte >> 4];
      json += digits[byte & 15];
    } else {
      json += c;
    }
  }
  json += '"';
}

/// `text` as a JSON string: whatever is in it, a message that quotes it goes on.
[[nodiscard]] inline std::string json_quoted(std::string_view text) {
  std::string json;
  append_quoted(json, text);
  return json;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
