// SPDX-License-Identifier: MIT
// Bytes in and out of files: reading at any position, and writing that replaces a file whole or not
// at all.
#pragma once

#include "pleat/core/error.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// A stream of known size that any thread may read at any position.
class Source {
 public:
  /// `file` is what errors call the stream. Throws `FormatError` if the stream cannot seek.
  Source(std::unique_ptr<std::istream> stream, std::string file)
      : stream_(std::move(stream)), file_(std::move(file)) {
    require(stream_ != nullptr, [] { return std::string("there is no stream to read"); });
    stream_->exceptions(std::ios::goodbit);
    stream_->seekg(0, std::ios::end);
    const std::streamoff end = stream_->tellg();
    if (!*stream_ || end < 0) throw FormatError(file_, "cannot be read");
    size_ = static_cast<std::uint64_t>(end);
  }

  /// Keeps the file open: whatever replaces it later, this one is read.
  [[nodiscard]] static std::shared_ptr<Source> open(const std::filesystem::path& path) {
    std::error_code error;
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status))
      throw FormatError(path.string(), "cannot be opened: " + error.message());
    if (!std::filesystem::is_regular_file(status))
      throw FormatError(path.string(), "is not a regular file");
    auto stream = std::make_unique<std::ifstream>(path, std::ios::binary);
    if (!*stream)
      throw FormatError(path.string(),
                        "cannot be opened: " + std::generic_category().message(errno));
    return std::make_shared<Source>(std::move(stream), path.string());
  }

  [[nodiscard]] const std::string& file() const noexcept { return file_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// Fills `to` with the bytes from `offset` on; throws `FormatError` if the stream ends before.
  void read(std::uint64_t offset, std::span<std::byte> to) {
    if (to.empty()) return;
    const std::lock_guard lock(mutex_);
    stream_->clear();
    stream_->seekg(static_cast<std::streamoff>(offset));
    stream_->read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
    if (stream_->gcount() != static_cast<std::streamsize>(to.size()))
      throw FormatError(file_, "ends too early, or cannot be read", offset);
  }

 private:
  std::mutex mutex_{};
  std::unique_ptr<std::istream> stream_;
  std::string file_;
  std::uint64_t size_ = 0;
};

/// Removes a file unless told to keep it.
class TemporaryFile {
 public:
  /// Creates a file that did not exist, beside `target`, so that a rename can replace that one at
  /// once.
  explicit TemporaryFile(const std::filesystem::path& target) {
    constexpr int most = 10'000;
    for (int attempt = 0;; ++attempt) {
      path_ = target.parent_path() / (".pleat-" + std::to_string(attempt) + ".tmp");
      errno = 0;
      // "x": fails where the file exists, so no two savers ever share one.
      if (std::FILE* created = std::fopen(path_.string().c_str(), "wbx")) {
        std::fclose(created);
        return;
      }
      if (errno != EEXIST || attempt == most)
        throw std::filesystem::filesystem_error("pleat: cannot save", target,
                                                std::error_code(errno, std::generic_category()));
    }
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
  void rename(const std::filesystem::path& target) {
    std::filesystem::rename(path_, target);
    path_.clear();
  }

 private:
  std::filesystem::path path_{};
};

/// The file that a path names, or would name if it existed: all symbolic links followed. Throws
/// `std::filesystem::filesystem_error` where they go round in a circle.
[[nodiscard]] inline std::filesystem::path followed(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  fs::path target = fs::weakly_canonical(path);
  // Where a link leads to nothing, `weakly_canonical` stops at the link.
  for (int links = 0; fs::is_symlink(fs::symlink_status(target)); ++links) {
    if (links == 40)  // as many as Linux follows
      throw fs::filesystem_error("pleat: cannot save", path,
                                 std::make_error_code(std::errc::too_many_symbolic_link_levels));
    target = fs::weakly_canonical(target.parent_path() / fs::read_symlink(target));
  }
  return target;
}

/// Calls `write(std::ostream&)` on a temporary file that then takes the place of `path`. Whatever
/// fails on the way, the old file stays as it was and the temporary one goes. A symbolic link is
/// followed, to where it leads even if there is nothing yet. Throws
/// `std::filesystem::filesystem_error` if the file cannot be written, and what `write` throws.
template <class Write>
void write_atomically(const std::filesystem::path& path, Write&& write) {
  namespace fs = std::filesystem;
  const fs::path target = followed(path);
  const fs::file_status old = fs::status(target);
  // To rename over a device or a directory would destroy it.
  if (fs::exists(old) && !fs::is_regular_file(old))
    throw fs::filesystem_error("pleat: cannot save over what is not a regular file", path,
                               std::make_error_code(std::errc::invalid_argument));
  TemporaryFile temporary(target);
  // While there is nothing to read yet; but it must be written in any case.
  if (fs::exists(old))
    fs::permissions(temporary.path(), old.permissions() | fs::perms::owner_write);
  errno = 0;
  std::ofstream stream(temporary.path(), std::ios::binary | std::ios::trunc);
  std::forward<Write>(write)(static_cast<std::ostream&>(stream));
  stream.close();
  if (!stream)
    throw fs::filesystem_error("pleat: cannot save", path,
                               std::error_code(errno != 0 ? errno : EIO, std::generic_category()));
  if (fs::exists(old)) fs::permissions(temporary.path(), old.permissions());
  temporary.rename(target);
}

inline void write_bytes(std::ostream& stream, std::span<const std::byte> bytes) {
  stream.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
}

/// Reverses the bytes of each element of `width` bytes.
inline void swap_bytes(std::span<std::byte> bytes, std::size_t width) {
  for (std::size_t i = 0; width > 1 && i + width <= bytes.size(); i += width)
    std::reverse(bytes.data() + i, bytes.data() + i + width);
}

/// `count` little-endian bytes at `from` as a number.
[[nodiscard]] inline std::uint64_t little_endian(const std::byte* from, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i)
    value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

/// The largest size or position that a file may state: 2^48 - 1, as the schema of safetensors has
/// it.
inline constexpr std::uint64_t largest_extent = (std::uint64_t{1} << 48) - 1;

/// a * b, or nothing where it is no longer a size of this machine.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_product(std::uint64_t a,
                                                                     std::uint64_t b) noexcept {
  constexpr auto most = static_cast<std::uint64_t>((std::numeric_limits<std::ptrdiff_t>::max)());
  if (b != 0 && a > most / b) return {};
  return a * b;
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
