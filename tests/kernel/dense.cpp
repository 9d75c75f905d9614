// SPDX-License-Identifier: MIT
// The dense kernels against plain loops: whole numbers, so that equal means equal.
#include "pleat/kernel/active.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

using kernel::panel_rows;

template <class T>
constexpr T canary = T(-77.25);

/// Memory aligned as the table asks of weights.
template <Real T>
class Aligned {
 public:
  explicit Aligned(std::size_t size) : memory_(size + 64 / sizeof(T), T(0)) {
    void* begin = memory_.data();
    std::size_t space = memory_.size() * sizeof(T);
    data_ = static_cast<T*>(std::align(64, size * sizeof(T), begin, space));
  }
  [[nodiscard]] T* data() noexcept { return data_; }

 private:
  std::vector<T> memory_;
  T* data_;
};

/// Writes the panels of a rows x cols matrix as the table's contract lays them out.
template <Real T>
void fill_panels(const Matrix<T>& W, std::size_t rows, T* panels) {
  const auto cols = static_cast<std::size_t>(W.cols());
  for (std::size_t p = 0; p * panel_rows < rows; ++p)
    for (std::size_t k = 0; k < cols; ++k)
      for (std::size_t i = 0; i < panel_rows; ++i) {
        const std::size_t row = p * panel_rows + i;
        panels[(p * cols + k) * panel_rows + i] =
            row < rows ? W(static_cast<Index>(row), static_cast<Index>(k)) : T(0);
      }
}

std::size_t panels_size(std::size_t rows, std::size_t cols) {
  return (rows + panel_rows - 1) / panel_rows * panel_rows * cols;
}

template <Real T>
Matrix<T> multiply_plainly(const Matrix<T>& A, const Matrix<T>& B) {
  Matrix<T> C = Matrix<T>::Zero(A.rows(), B.cols());
  for (Index j = 0; j < B.cols(); ++j)
    for (Index k = 0; k < A.cols(); ++k)
      for (Index i = 0; i < A.rows(); ++i) C(i, j) += A(i, k) * B(k, j);
  return C;
}

/// Where a rows x cols block with leading dimension `ld` differs from `expected`, or what lies
/// around it from the canary; empty if nowhere.
template <Real T>
std::string wrong(const std::vector<T>& memory, std::size_t rows, std::size_t cols, std::size_t ld,
                  const Matrix<T>& expected) {
  for (std::size_t at = 0; at < memory.size(); ++at) {
    const std::size_t i = at % ld;
    const std::size_t j = at / ld;
    const bool inside = i < rows && j < cols;
    const T value = inside ? expected(static_cast<Index>(i), static_cast<Index>(j)) : canary<T>;
    if (memory[at] == value) continue;
    return (inside ? "output (" : "gap (") + std::to_string(i) + ", " + std::to_string(j) +
           ") is " + std::to_string(memory[at]) + ", not " + std::to_string(value);
  }
  return {};
}

/// The largest problem of a sweep; the smaller ones are its leading parts.
template <Real T>
struct Problem {
  Problem(std::size_t rows, std::size_t cols, std::size_t batch, Random& random)
      : W(random.integers<T>(static_cast<Index>(rows), static_cast<Index>(cols), 3)),
        X(random.integers<T>(static_cast<Index>(cols), static_cast<Index>(batch), 3)),
        Y(random.integers<T>(static_cast<Index>(rows), static_cast<Index>(batch), 3)),
        product(multiply_plainly<T>(W, X)) {}

  Matrix<T> W;
  Matrix<T> X;
  Matrix<T> Y;  // what `add` adds to, and what the transpose takes
  Matrix<T> product;
};

template <Real T>
std::vector<T> with_gaps(const Matrix<T>& matrix, std::size_t rows, std::size_t cols,
                         std::size_t ld) {
  std::vector<T> memory(ld * cols + 1, canary<T>);
  for (std::size_t j = 0; j < cols; ++j)
    for (std::size_t i = 0; i < rows; ++i)
      memory[j * ld + i] = matrix(static_cast<Index>(i), static_cast<Index>(j));
  return memory;
}

template <Real T>
void check_apply(const Problem<T>& problem, const T* panels, std::size_t rows, std::size_t batch,
                 std::size_t gap, bool add) {
  const auto& table = kernel::active<T>();
  const auto cols = static_cast<std::size_t>(problem.W.cols());
  const std::size_t ldx = cols + gap;
  const std::size_t ldy = std::max<std::size_t>(1, rows + gap);
  const std::vector<T> x = with_gaps<T>(problem.X, cols, batch, ldx);
  std::vector<T> y = with_gaps<T>(problem.Y, rows, batch, ldy);
  const auto m = static_cast<Index>(rows);
  const auto b = static_cast<Index>(batch);
  Matrix<T> expected = problem.product.topLeftCorner(m, b);
  if (add) expected += problem.Y.topLeftCorner(m, b);
  else
    for (std::size_t j = 0; j < batch; ++j)  // what is overwritten must not be read
      for (std::size_t i = 0; i < rows; ++i) y[j * ldy + i] = std::numeric_limits<T>::quiet_NaN();
  const std::size_t needed = table.dense_scratch(rows, cols, batch);
  std::vector<T> scratch(needed + 1, canary<T>);
  table.dense_apply(rows, cols, panels, batch, x.data(), ldx, y.data(), ldy, add, scratch.data());
  CAPTURE(rows, cols, batch, gap, add);
  CHECK(wrong<T>(y, rows, batch, ldy, expected) == "");
  CHECK(scratch[needed] == canary<T>);
}

template <Real T>
void sweep_apply(std::size_t cols, const std::vector<std::size_t>& heights,
                 const std::vector<std::size_t>& batches, Random& random) {
  const std::size_t most_rows = *std::max_element(heights.begin(), heights.end());
  const std::size_t most_batch = *std::max_element(batches.begin(), batches.end());
  const Problem<T> problem(most_rows, cols, most_batch, random);
  for (const std::size_t rows : heights) {
    Aligned<T> panels(panels_size(rows, cols));
    fill_panels<T>(problem.W, rows, panels.data());
    for (const std::size_t batch : batches) {
      check_apply<T>(problem, panels.data(), rows, batch, 0, false);
      check_apply<T>(problem, panels.data(), rows, batch, 5, true);
    }
  }
}

std::vector<std::size_t> up_to(std::size_t last) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i <= last; ++i) result.push_back(i);
  return result;
}

/// X = W^T Y for the columns `first`, ..., `last - 1` of W.
template <Real T>
void check_transpose(const Problem<T>& problem, const T* panels, std::size_t rows,
                     std::size_t first, std::size_t last, std::size_t batch, std::size_t gap) {
  const auto& table = kernel::active<T>();
  const auto cols = static_cast<std::size_t>(problem.W.cols());
  const std::size_t width = last - first;
  const std::size_t ldy = rows + gap;
  const std::size_t ldx = std::max<std::size_t>(1, width + gap);
  const std::vector<T> y = with_gaps<T>(problem.Y, rows, batch, ldy);
  std::vector<T> x(ldx * batch + 1, canary<T>);
  for (std::size_t j = 0; j < batch; ++j)
    for (std::size_t i = 0; i < width; ++i) x[j * ldx + i] = std::numeric_limits<T>::quiet_NaN();
  const Matrix<T> part = problem.W.block(0, static_cast<Index>(first), static_cast<Index>(rows),
                                         static_cast<Index>(width));
  const Matrix<T> expected = multiply_plainly<T>(
      part.transpose(),
      problem.Y.topLeftCorner(static_cast<Index>(rows), static_cast<Index>(batch)));
  table.dense_apply_transpose(rows, width, panels + first * panel_rows, cols * panel_rows, batch,
                              y.data(), ldy, x.data(), ldx);
  CAPTURE(rows, cols, first, last, batch, gap);
  CHECK(wrong<T>(x, width, batch, ldx, expected) == "");
}

}  // namespace

TEMPLATE_TEST_CASE("the table in force names its instruction set", "[kernel]", float, double) {
  const std::string arch = kernel::active<TestType>().arch;
  const std::string base = arch.substr(0, arch.find('+'));
  CHECK((arch == "sse2" || arch == "fma3+avx2" || arch == "avx2+vnni" || base == "avx512" ||
         base == "neon64"));
#if defined(__AVX2__) && defined(__FMA__) && !defined(PLEAT_DISPATCH)
  CHECK(arch != "sse2");
#endif
}

TEMPLATE_TEST_CASE("dense_apply: all heights and batches of narrow matrices", "[kernel]", float,
                   double) {
  Random random(1);
  for (const std::size_t cols : {0U, 1U, 2U, 3U, 8U, 13U})
    sweep_apply<TestType>(cols, up_to(40), up_to(60), random);
}

TEMPLATE_TEST_CASE("dense_apply: around the blocks of columns", "[kernel]", float, double) {
  Random random(2);
  for (const std::size_t cols : {511U, 512U, 513U, 1023U, 1024U, 1025U, 2049U})
    sweep_apply<TestType>(cols, {1, 15, 16, 17, 33, 64}, {1, 2, 6, 7, 12, 13, 24, 25}, random);
}

TEMPLATE_TEST_CASE("dense_apply: around the blocks of samples", "[kernel]", float, double) {
  Random random(3);
  for (const std::size_t cols : {7U, 385U})
    sweep_apply<TestType>(cols, {1, 16, 47, 131}, {16, 17, 47, 48, 49, 95, 96, 97, 191, 193, 200},
                          random);
}

TEMPLATE_TEST_CASE("dense_apply: many panels, so that tiles span several", "[kernel]", float,
                   double) {
  Random random(4);
  sweep_apply<TestType>(11, {63, 64, 65, 80, 127, 128, 129, 160, 200, 255}, up_to(13), random);
}

TEMPLATE_TEST_CASE("dense_apply: cutting rows or samples changes no bit", "[kernel]", float,
                   double) {
  using T = TestType;
  Random random(5);
  const auto& table = kernel::active<T>();
  constexpr std::size_t rows = 75;
  constexpr std::size_t cols = 391;
  constexpr std::size_t batch = 103;
  const Matrix<T> W = random.matrix<T>(rows, cols);
  const Matrix<T> X = random.matrix<T>(cols, batch);
  const Matrix<T> base = random.matrix<T>(rows, batch);
  Aligned<T> panels(panels_size(rows, cols));
  fill_panels<T>(W, rows, panels.data());
  std::vector<T> scratch(table.dense_scratch(rows, cols, batch) + 1);
  for (const bool add : {false, true}) {
    Matrix<T> whole = base;
    table.dense_apply(rows, cols, panels.data(), batch, X.data(), cols, whole.data(), rows, add,
                      scratch.data());
    for (const std::size_t samples : {1U, 2U, 5U, 13U, 40U})
      for (const std::size_t height : {16U, 32U, 64U}) {
        Matrix<T> cut = base;
        for (std::size_t j = 0; j < batch; j += samples)
          for (std::size_t r = 0; r < rows; r += height)
            table.dense_apply(std::min(height, rows - r), cols, panels.data() + r * cols,
                              std::min(samples, batch - j), X.data() + j * cols, cols,
                              cut.data() + j * rows + r, rows, add, scratch.data());
        CAPTURE(add, samples, height);
        CHECK(std::memcmp(cut.data(), whole.data(), rows * batch * sizeof(T)) == 0);
      }
  }
}

TEMPLATE_TEST_CASE("dense_apply_transpose: all heights and ranges of columns", "[kernel]", float,
                   double) {
  using T = TestType;
  Random random(6);
  constexpr std::size_t cols = 27;
  const Problem<T> problem(40, cols, 9, random);
  for (const std::size_t rows : up_to(40)) {
    Aligned<T> panels(panels_size(rows, cols));
    fill_panels<T>(problem.W, rows, panels.data());
    for (const std::size_t first : {0U, 1U, 8U, 16U, 19U})
      for (const std::size_t last : {19U, 20U, 24U, 26U, 27U})
        for (const std::size_t batch : {0U, 1U, 2U, 9U}) {
          check_transpose<T>(problem, panels.data(), rows, first, last, batch, 0);
          check_transpose<T>(problem, panels.data(), rows, first, last, batch, 3);
        }
  }
}

TEMPLATE_TEST_CASE("dense_apply_transpose: larger", "[kernel]", float, double) {
  using T = TestType;
  Random random(7);
  for (const std::size_t cols : {0U, 1U, 383U, 385U})
    for (const std::size_t rows : {1U, 16U, 129U, 250U}) {
      const Problem<T> problem(rows, cols, 65, random);
      Aligned<T> panels(panels_size(rows, cols));
      fill_panels<T>(problem.W, rows, panels.data());
      for (const std::size_t batch : {0U, 1U, 17U, 65U})
        check_transpose<T>(problem, panels.data(), rows, 0, cols, batch, 1);
    }
}

TEMPLATE_TEST_CASE("the dense kernels touch nothing outside what they are given", "[kernel][guard]",
                   float, double) {
  using T = TestType;
  Random random(8);
  const auto& table = kernel::active<T>();
  for (const Guard guard : {Guard::before, Guard::after})
    for (const std::size_t rows : {1U, 7U, 15U, 16U, 17U, 31U, 33U, 64U, 70U})
      for (const std::size_t cols : {1U, 2U, 3U, 9U, 385U})
        for (const std::size_t batch : {1U, 2U, 3U, 5U, 6U, 7U, 12U, 13U, 25U, 97U})
          for (const std::size_t gap : {0U, 3U}) {
            const Problem<T> problem(rows, cols, batch, random);
            // No gap after the last column: a matrix ends where its last value does.
            const auto compact = [&](const Matrix<T>& matrix, std::size_t height) {
              std::vector<T> memory = with_gaps<T>(matrix, height, batch, height + gap);
              memory.resize((batch - 1) * (height + gap) + height);
              return memory;
            };
            std::vector<T> laid_out(panels_size(rows, cols));
            fill_panels<T>(problem.W, rows, laid_out.data());
            const Guarded<T> panels(laid_out, guard);
            const Guarded<T> x(compact(problem.X, cols), guard);
            const Guarded<T> y(compact(problem.Y, rows), guard);
            const Guarded<T> scratch(table.dense_scratch(rows, cols, batch), guard);
            CAPTURE(guard == Guard::before, rows, cols, batch, gap);
            const auto y_is = [&](const Matrix<T>& expected) {
              for (std::size_t j = 0; j < batch; ++j)
                for (std::size_t i = 0; i < rows; ++i)
                  if (y.data()[j * (rows + gap) + i] !=
                      expected(static_cast<Index>(i), static_cast<Index>(j)))
                    return false;
              return true;
            };
            table.dense_apply(rows, cols, panels.data(), batch, x.data(), cols + gap, y.data(),
                              rows + gap, true, scratch.data());
            CHECK(y_is(problem.product + problem.Y));
            table.dense_apply(rows, cols, panels.data(), batch, x.data(), cols + gap, y.data(),
                              rows + gap, false, scratch.data());
            CHECK(y_is(problem.product));
            table.dense_apply_transpose(rows, cols, panels.data(), cols * panel_rows, batch,
                                        y.data(), rows + gap, x.data(), cols + gap);
            const Matrix<T> back = multiply_plainly<T>(problem.W.transpose(), problem.product);
            bool equal = true;
            for (std::size_t j = 0; j < batch; ++j)
              for (std::size_t i = 0; i < cols; ++i)
                equal = equal && x.data()[j * (cols + gap) + i] ==
                                     back(static_cast<Index>(i), static_cast<Index>(j));
            CHECK(equal);
          }
}

}  // namespace pleat::test
