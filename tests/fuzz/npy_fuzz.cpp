// SPDX-License-Identifier: MIT
// Fuzz target: any bytes as a .npy file. What opens must be written and read again as the same
// matrix.
#include "fuzz/fuzz.hpp"
#include "pleat/io/npy.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

namespace {

using pleat::Index;
using pleat::Matrix;
using pleat::fuzz::check;

template <class T>
std::optional<Matrix<T>> read(const std::string& bytes) {
  pleat::detail::Source source(pleat::fuzz::stream_of(bytes), "input");
  try {
    return pleat::detail::read_npy<T>(source);
  } catch (const pleat::FormatError&) {
    return {};
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes = pleat::fuzz::bytes_of(data, size);
  const auto matrix = read<double>(bytes);
  const auto single = read<float>(bytes);
  if (!matrix) {
    check(!single, "both scalars agree on what is no file");
    return 0;
  }
  // But for a number that is beyond the largest float. Nothing goes through empty columns, of which
  // there may be any number.
  const bool fits = matrix->size() == 0 ||
                    ((matrix->array() != matrix->array()) || matrix->cwiseAbs().array().isInf() ||
                     matrix->cwiseAbs().cast<float>().array().isFinite())
                        .all();
  check(single.has_value() == fits, "both scalars agree on what is a file");
  check(static_cast<std::size_t>(matrix->size()) * 2 <= size, "no value comes from nowhere");
  const auto again = read<double>(pleat::detail::npy_bytes(*matrix));
  check(again.has_value(), "what was written can be read");
  check(again->rows() == matrix->rows() && again->cols() == matrix->cols(), "the shape stays");
  check(matrix->size() == 0 ||
            std::memcmp(again->data(), matrix->data(),
                        static_cast<std::size_t>(matrix->size()) * sizeof(double)) == 0,
        "every bit stays");
  return 0;
}
