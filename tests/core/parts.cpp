// SPDX-License-Identifier: MIT
// Tensors and parts: the way there and back, and what is refused.
#include "pleat/core/parts.hpp"

#include "core/refusal.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/tolerance.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace pleat::test {
namespace {

template <class T>
void check_values(DataType type) {
  Eigen::Matrix<T, Eigen::Dynamic, 1> column(3);
  column << T(1), T(0), std::numeric_limits<T>::max();
  const Tensor tensor = Tensor::of(column);
  CHECK(tensor.type == type);
  CHECK(tensor.shape == std::vector<std::int64_t>{3, 1});
  CHECK(tensor.data.size() == 3 * size_of(type));
  CHECK(tensor.values<T>() == std::vector<T>{T(1), T(0), std::numeric_limits<T>::max()});
}

}  // namespace

TEMPLATE_TEST_CASE("a matrix goes into a tensor and back bit for bit", "[core]", float, double) {
  using T = TestType;
  Random random(61);
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {1, 9}, {9, 1}, {7, 5}, {0, 3}, {3, 0}, {0, 0}}) {
    Matrix<T> W = random.matrix<T>(rows, cols);
    if (W.size() > 3) {
      W(0) = -T(0);
      W(1) = std::numeric_limits<T>::quiet_NaN();
      W(2) = std::numeric_limits<T>::denorm_min();
    }
    const Tensor tensor = Tensor::of(W);
    CHECK(tensor.type == data_type_of<T>);
    CHECK(tensor.shape == std::vector<std::int64_t>{rows, cols});
    CHECK(difference(tensor.matrix<T>(), W) == "");
  }
}

TEST_CASE("a tensor is row-major", "[core]") {
  Matrix<float> W(2, 3);
  W << 1, 2, 3, 4, 5, 6;
  const std::vector<float> rows{1, 2, 3, 4, 5, 6};
  CHECK(Tensor::of(W).values<float>() == rows);
  CHECK(Tensor::of(W.transpose()).values<float>() == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(Tensor::of(W.block(0, 1, 2, 2)).values<float>() == std::vector<float>{2, 3, 5, 6});
  const Eigen::Matrix<float, -1, -1, Eigen::RowMajor> row_major = W;
  CHECK(Tensor::of(row_major).values<float>() == rows);
}

TEST_CASE("element types", "[core]") {
  check_values<double>(DataType::f64);
  check_values<float>(DataType::f32);
  check_values<Eigen::half>(DataType::f16);
  check_values<Eigen::bfloat16>(DataType::bf16);
  check_values<std::int64_t>(DataType::i64);
  check_values<std::int32_t>(DataType::i32);
  check_values<std::int16_t>(DataType::i16);
  check_values<std::int8_t>(DataType::i8);
  check_values<std::uint64_t>(DataType::u64);
  check_values<std::uint32_t>(DataType::u32);
  check_values<std::uint16_t>(DataType::u16);
  check_values<std::uint8_t>(DataType::u8);
  CHECK(size_of(DataType::boolean) == 1);
}

TEST_CASE("floating-point elements of any width become a matrix", "[core]") {
  Matrix<float> W(2, 2);
  W << 1, -2.5F, 0.125F, 384;  // exact in every type
  CHECK(Tensor::of(W).matrix<double>() == W.cast<double>());
  CHECK(Tensor::of(W.cast<double>()).matrix<float>() == W);
  CHECK(Tensor::of(W.cast<Eigen::half>()).matrix<float>() == W);
  CHECK(Tensor::of(W.cast<Eigen::bfloat16>()).matrix<double>() == W.cast<double>());
}

TEST_CASE("vectors and scalars become matrices", "[core]") {
  Tensor tensor = Tensor::of(Vector<float>::Constant(4, 2.0F));
  tensor.shape = {4};
  CHECK(tensor.matrix<float>() == Matrix<float>::Constant(4, 1, 2.0F));
  tensor = Tensor::of(Vector<float>::Constant(1, 3.0F));
  tensor.shape = {};
  CHECK(tensor.matrix<float>() == Matrix<float>::Constant(1, 1, 3.0F));
}

TEST_CASE("a tensor that is no matrix is refused", "[core]") {
  Tensor cube = Tensor::of(Matrix<float>::Ones(2, 4));
  cube.shape = {2, 2, 2};
  CHECK(refusal([&] { return cube.matrix<float>(); }).find("3 dimensions") != std::string::npos);
  const Tensor integers = Tensor::of(Eigen::MatrixXi::Ones(2, 2));
  CHECK(!refusal([&] { return integers.matrix<float>(); }).empty());
  CHECK(!refusal([&] { return integers.values<float>(); }).empty());
}

TEST_CASE("a shape that the bytes do not bear out is refused, however large", "[core]") {
  constexpr std::int64_t huge = std::int64_t{1} << 40;
  const std::vector<std::vector<std::int64_t>> shapes{
      {3, 4},  {4, 3},     {-2, -5},     {-10, -1}, {5},     {},     {0, 10},
      {10, 0}, {huge, 10}, {huge, huge}, {2, 6},    {1, 11}, {0, 0}, {huge, -huge}};
  for (const auto& shape : shapes) {
    Tensor tensor = Tensor::of(Matrix<float>::Ones(2, 5));
    tensor.shape = shape;
    CAPTURE(shape);
    CHECK(refusal([&] { return tensor.matrix<float>(); }).find("40 bytes") != std::string::npos);
  }
  Tensor broken = Tensor::of(Matrix<float>::Ones(2, 5));
  broken.data.pop_back();
  CHECK(!refusal([&] { return broken.matrix<float>(); }).empty());
  CHECK(!refusal([&] { return broken.values<float>(); }).empty());
}

TEST_CASE("parts name what is missing", "[core]") {
  Parts parts{"Thing",
              {{"rank", "12"},
               {"word", "twelve"},
               {"tail", "12x"},
               {"empty", ""},
               {"negative", "-3"},
               {"large", "99999999999999999999"},
               {"space", " 1"},
               {"plus", "+1"},
               {"zeros", "00"},
               {"leading", "012"},
               {"minus", "-0"},
               {"zero", "0"}},
              {{"weight", Tensor::of(Matrix<float>::Ones(2, 2))}},
              {{"child", Parts{}}}};
  CHECK(parts.integer("rank") == 12);
  CHECK(parts.integer("negative") == -3);
  CHECK(parts.integer("zero") == 0);
  for (const std::string name :
       {"word", "tail", "empty", "large", "space", "plus", "zeros", "leading", "minus"}) {
    const std::string message = refusal([&] { return parts.integer(name); });
    CHECK(message.find("Thing") != std::string::npos);
    CHECK(message.find(name) != std::string::npos);
  }
  CHECK(refusal([&] { return parts.integer("none"); }).find("\"none\"") != std::string::npos);
  CHECK(parts.tensor("weight").shape.size() == 2);
  CHECK(refusal([&] { return parts.tensor("bias"); }).find("\"bias\"") != std::string::npos);
  CHECK(parts.child("child").structure.empty());
  CHECK(refusal([&] { return parts.child("other"); }).find("\"other\"") != std::string::npos);
}

}  // namespace pleat::test
