// SPDX-License-Identifier: MIT
// NumPy's .npy files: matrices in and out.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/io/detail/file_kind.hpp"
#include "pleat/io/detail/stream.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// What the header of a .npy file says.
struct NpyHeader {
  std::string descr{};
  bool fortran_order = false;
  std::vector<std::uint64_t> shape{};
  std::uint64_t descr_at = 0;  ///< in the file
  std::uint64_t shape_at = 0;
};

/// Reads the Python dictionary in a .npy header: exactly the keys descr, fortran_order and shape,
/// in any order. Not an evaluator: it knows plain strings, True, False, and tuples of whole
/// numbers.
class NpyHeaderParser {
 public:
  /// `begin` is the position of `text` in `file`.
  NpyHeaderParser(std::string_view text, std::string file, std::uint64_t begin)
      : text_(text), file_(std::move(file)), begin_(begin) {}

  [[nodiscard]] NpyHeader parse() {
    NpyHeader header;
    std::array<bool, 3> seen{};
    expect('{');
    while (!accept('}')) {
      const std::size_t key_at = at_;
      const std::string key = string();
      const std::size_t field = key == "descr"           ? 0
                                : key == "fortran_order" ? 1
                                : key == "shape"         ? 2
                                                         : 3;
      if (field == 3) fail("has the unknown key '" + key + "'", key_at);
      if (seen[field]) fail("has the key '" + key + "' twice", key_at);
      seen[field] = true;
      expect(':');
      skip_space();
      if (field == 0) header.descr_at = begin_ + at_;
      if (field == 2) header.shape_at = begin_ + at_;
      if (field == 0) header.descr = string();
      else if (field == 1) header.fortran_order = boolean();
      else header.shape = tuple();
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) fail("goes on after its dictionary", at_);
    for (std::size_t i = 0; i < seen.size(); ++i)
      if (!seen[i])
        fail(std::string("has no ") + std::array{"descr", "fortran_order", "shape"}[i], at_);
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, std::size_t at) const {
    throw FormatError(file_, "the .npy header " + problem, begin_ + at);
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n'))
      ++at_;
  }

  bool accept(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) fail(std::string("lacks a '") + c + '\'', at_);
  }

  std::string string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') fail("has something else where a string was expected", at_);
    const std::size_t end = text_.find(quote, at_ + 1);
    const std::string_view value = text_.substr(at_ + 1, end - at_ - 1);
    if (end == std::string_view::npos || value.find_first_of("\\\n") != std::string_view::npos)
      fail("has a string that does not end, or escapes", at_);
    at_ = end + 1;
    return std::string(value);
  }

  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    fail("has a fortran_order that is neither True nor False", at_);
  }

  std::uint64_t number() {
    skip_space();
    const std::size_t first = at_;
    std::uint64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = 10 * value + static_cast<std::uint64_t>(text_[at_] - '0');
      if (value > largest_extent) fail("has an extent that is too large", first);
    }
    if (at_ == first || (text_[first] == '0' && at_ - first > 1))
      fail("has a shape that is no tuple of whole numbers", first);
    // Files of Python 2 may say 3L.
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;
    return value;
  }

  std::vector<std::uint64_t> tuple() {
    std::vector<std::uint64_t> values;
    expect('(');
    while (!accept(')')) {
      values.push_back(number());
      if (accept(',')) continue;
      // (3) is a number in brackets, not a tuple.
      if (values.size() == 1) fail("has a shape that is no tuple", at_);
      expect(')');
      break;
    }
    return values;
  }

  std::string_view text_;
  std::string file_;
  std::uint64_t begin_;
  std::size_t at_ = 0;
};

/// The data of a .npy file as a matrix of T, from elements of type From; there are some.
template <class From, Real T>
Matrix<T> read_npy_data(Source& source, std::uint64_t begin, Index rows, Index cols,
                        bool fortran_order, bool swapped) {
  // A row-major matrix is its transpose, column-major.
  Matrix<From> values(fortran_order ? rows : cols, fortran_order ? cols : rows);
  const std::span<std::byte> bytes(reinterpret_cast<std::byte*>(values.data()),
                                   static_cast<std::size_t>(values.size()) * sizeof(From));
  source.read(begin, bytes);
  if (swapped) swap_bytes(bytes, sizeof(From));
  for (Index col = 0; col < values.cols(); ++col)
    for (Index row = 0; row < values.rows(); ++row)
      if (!is_kept<T>(values(row, col))) [[unlikely]]
        throw FormatError(
            source.file(),
            not_kept<T>(values(row, col), fortran_order ? row : col, fortran_order ? col : row),
            begin + static_cast<std::uint64_t>(col * values.rows() + row) * sizeof(From));
  if (fortran_order) return values.template cast<T>();
  return values.transpose().template cast<T>();
}

template <Real T>
Matrix<T> read_npy(Source& source) {
  const std::string& file = source.file();
  std::array<std::byte, 12> start{};
  const auto available =
      static_cast<std::size_t>(std::min<std::uint64_t>(source.size(), start.size()));
  source.read(0, std::span(start).first(available));
  constexpr std::string_view magic = "\x93NUMPY";
  const bool is_npy =
      available >= 10 && std::equal(magic.begin(), magic.end(), start.begin(),
                                    [](char c, std::byte b) { return std::byte(c) == b; });
  if (!is_npy) throw FormatError(file, "is not a .npy file" + seems_to_be(source), 0);
  const int major = std::to_integer<int>(start[6]);
  const int minor = std::to_integer<int>(start[7]);
  if (major < 1 || major > 3 || minor != 0)
    throw FormatError(file,
                      "is a .npy file of the unknown version " + std::to_string(major) + '.' +
                          std::to_string(minor),
                      6);
  const std::size_t width = major == 1 ? 2 : 4;
  const std::uint64_t header_begin = 8 + width;
  if (available < header_begin) throw FormatError(file, "ends within the .npy header", available);
  const std::uint64_t length = little_endian(start.data() + 8, width);
  constexpr std::uint64_t longest = 65'536;
  if (length > longest)
    throw FormatError(file,
                      "has a .npy header of " + std::to_string(length) + " bytes; the most is " +
                          std::to_string(longest),
                      8);
  if (length > source.size() - header_begin)
    throw FormatError(
        file, "has a .npy header of " + std::to_string(length) + " bytes that ends after the file",
        8);
  std::string text(static_cast<std::size_t>(length), '\0');
  source.read(header_begin, std::as_writable_bytes(std::span(text)));
  const NpyHeader header = NpyHeaderParser(text, file, header_begin).parse();

  const std::string_view descr = header.descr;
  const bool known = descr.size() == 3 && (descr[0] == '<' || descr[0] == '>') && descr[1] == 'f' &&
                     (descr[2] == '2' || descr[2] == '4' || descr[2] == '8');
  if (!known)
    throw FormatError(file,
                      "holds elements of type '" + header.descr +
                          "'; only floating-point numbers of 2, 4 or 8 bytes can be read",
                      header.descr_at);
  if (header.shape.size() > 2)
    throw FormatError(file,
                      "holds an array of " + std::to_string(header.shape.size()) +
                          " dimensions, which is not a matrix",
                      header.shape_at);
  const std::uint64_t rows = header.shape.empty() ? 1 : header.shape[0];
  const std::uint64_t cols = header.shape.size() < 2 ? 1 : header.shape[1];
  const auto size = static_cast<std::uint64_t>(descr[2] - '0');
  const std::uint64_t data_begin = header_begin + length;
  std::optional<std::uint64_t> bytes = checked_product(rows, cols);
  if (bytes) bytes = checked_product(*bytes, size);
  // Before anything is allocated. Bytes after the array are legal: such files can be concatenated.
  if (!bytes || *bytes > source.size() - data_begin)
    throw FormatError(file,
                      "states a " + std::to_string(rows) + " x " + std::to_string(cols) +
                          " array, but holds only " + std::to_string(source.size() - data_begin) +
                          " bytes of data",
                      data_begin);
  // No file size limits the other extent of an empty array, so nothing may go through it: a file
  // may state 0 x 2^48, and Eigen would visit every empty column.
  if (*bytes == 0) return Matrix<T>(static_cast<Index>(rows), static_cast<Index>(cols));
  const bool swapped = (descr[0] == '<') != (std::endian::native == std::endian::little);
  const auto read = [&]<class From>(From) {
    return read_npy_data<From, T>(source, data_begin, static_cast<Index>(rows),
                                  static_cast<Index>(cols), header.fortran_order, swapped);
  };
  if (size == 2) return read(Eigen::half());
  if (size == 4) return read(float());
  return read(double());
}

/// A matrix as the bytes of a .npy file: version 1.0, row-major, its data at a multiple of 64
/// bytes.
template <class Derived>
std::string npy_bytes(const Eigen::DenseBase<Derived>& matrix) {
  using T = typename Derived::Scalar;
  const char order = std::endian::native == std::endian::little ? '<' : '>';
  const std::string cols =
      Derived::ColsAtCompileTime == 1 ? "" : ' ' + std::to_string(matrix.cols());
  const std::string dictionary =
      std::string("{'descr': '") + order + 'f' + std::to_string(sizeof(T)) +
      "', 'fortran_order': False, 'shape': (" + std::to_string(matrix.rows()) + ',' + cols + "), }";
  const std::size_t total = (10 + dictionary.size() + 1 + 63) / 64 * 64;
  std::string bytes = "\x93NUMPY\x01";
  bytes += '\0';
  bytes += static_cast<char>((total - 10) & 0xFF);
  bytes += static_cast<char>((total - 10) >> 8);
  bytes += dictionary;
  bytes.resize(total - 1, ' ');
  bytes += '\n';
  if (matrix.size() > 0) {
    // The transpose, column-major, is the matrix, row-major.
    const Matrix<T> transposed = matrix.derived().transpose();
    bytes.append(reinterpret_cast<const char*>(transposed.data()),
                 static_cast<std::size_t>(transposed.size()) * sizeof(T));
  }
  return bytes;
}

}  // namespace detail

/// A .npy file of versions 1.0 to 3.0 as a matrix of T. Elements: 2, 4 or 8 bytes of floating
/// point, of either byte order, converted to T; either storage order. An array of one dimension
/// becomes one column, of none a 1 x 1 matrix. Bytes after the array are ignored. Throws
/// `FormatError`, before it allocates anything that the size of the file does not justify; also for
/// a number beyond the largest of T.
template <Real T>
[[nodiscard]] Matrix<T> load_npy(const std::filesystem::path& path) {
  return detail::read_npy<T>(*detail::Source::open(path));
}

/// Writes a matrix of float, double or `Eigen::half` as `numpy.save` does: version 1.0, row-major,
/// native byte order; what is a column by its type becomes an array of one dimension. What was
/// there is replaced at once, or not at all if anything fails: then throws
/// `std::filesystem::filesystem_error`.
template <class Derived>
requires(Real<typename Derived::Scalar> ||
         std::same_as<typename Derived::Scalar,
                      Eigen::half>) void save_npy(const std::filesystem::path& path,
                                                  const Eigen::DenseBase<Derived>& matrix) {
  // Evaluated before the file is touched.
  const std::string bytes = detail::npy_bytes(matrix);
  detail::write_atomically(path, [&](std::ostream& stream) {
    detail::write_bytes(stream, std::as_bytes(std::span(bytes)));
  });
}

}  // namespace PLEAT_ABI
}  // namespace pleat
