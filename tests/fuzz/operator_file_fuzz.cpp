// SPDX-License-Identifier: MIT
// Fuzz target: any bytes as a file of operators. What loads must apply without a fault, and be
// saved and loaded again as the same operator.
#include "fuzz/fuzz.hpp"
#include "pleat/io/operator_file.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using pleat::AnyOperator;
using pleat::Index;
using pleat::Matrix;
using pleat::Safetensors;
using pleat::fuzz::check;

std::optional<Safetensors> read(const std::string& bytes) {
  try {
    return Safetensors::read(pleat::fuzz::stream_of(bytes), "input");
  } catch (const pleat::FormatError&) {
    return {};
  }
}

std::vector<std::string> names_in(const Safetensors& file) {
  try {
    return pleat::operator_names(file);
  } catch (const pleat::FormatError&) {
    return {};
  }
}

std::optional<AnyOperator<float>> operator_of(const Safetensors& file, const std::string& name) {
  try {
    return pleat::read_operator<float>(file, name);
  } catch (const pleat::FormatError&) {
    return {};
  }
}

/// Bits of What X for an X of small whole numbers.
std::string applied(const AnyOperator<float>& op) {
  Matrix<float> X(op.cols(), 3);
  for (Index j = 0; j < X.cols(); ++j)
    for (Index i = 0; i < X.rows(); ++i) X(i, j) = static_cast<float>((i + 2 * j) % 5 - 2);
  Matrix<float> Y(op.rows(), 3);
  op.apply(X, Y);
  op.apply_add(X, Y);
  op.apply_transpose(Y, X);
  return std::string(reinterpret_cast<const char*>(Y.data()),
                     sizeof(float) * static_cast<std::size_t>(Y.size())) +
         std::string(reinterpret_cast<const char*>(X.data()),
                     sizeof(float) * static_cast<std::size_t>(X.size()));
}

/// Whether an extent is too large for scratch memory: legal where another is 0, and no fault. Such
/// an operator must load all the same, without memory that the file does not justify.
bool is_huge(const Safetensors& file) {
  for (const std::string& name : file.names())
    for (const std::int64_t extent : file.shape(name))
      if (extent > 4096) return true;
  for (const auto& [key, value] : file.metadata())
    if ((key.ends_with("pleat.attribute.rows") || key.ends_with("pleat.attribute.cols")) &&
        value.size() > 4)
      return true;
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = read(pleat::fuzz::bytes_of(data, size));
  if (!file) return 0;
  const bool huge = is_huge(*file);
  for (const std::string& name : names_in(*file)) {
    const auto op = operator_of(*file, name);
    if (!op) continue;
    Safetensors saved;
    pleat::add_operator(saved, name, *op);
    std::ostringstream stream;
    saved.write(stream);
    const auto again = read(stream.str());
    check(again.has_value(), "what was saved can be opened");
    const auto back = operator_of(*again, name);
    check(back.has_value(), "what was saved can be loaded");
    check(pleat::describe(*back) == pleat::describe(*op), "the operator is the same");
    if (huge || op->rows() > 4096 || op->cols() > 4096) continue;
    check(applied(*back) == applied(*op), "results are the same bit for bit");
  }
  return 0;
}
