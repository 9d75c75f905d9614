// SPDX-License-Identifier: MIT
// The kernels of interleaved matrices against plain loops: whole numbers, so that equal means
// equal.
#include "pleat/kernel/active.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

namespace pleat::test {
namespace {

using kernel::panel_rows;
using kernel::strip_rows;

/// What a call is given: up to `width` matrices of which the last rows and columns may be short.
struct Call {
  std::size_t y_size, x_size, distance, width, batch, gap;

  [[nodiscard]] std::size_t rows() const { return (y_size + distance - 1) / distance; }
  [[nodiscard]] std::size_t cols() const { return (x_size + distance - 1) / distance; }
  [[nodiscard]] bool has(std::size_t p, std::size_t q, std::size_t k) const {
    return k < width && p * distance + k < y_size && q * distance + k < x_size;
  }
  /// Where the table's contract puts a value.
  [[nodiscard]] std::size_t at(std::size_t p, std::size_t q, std::size_t k) const {
    const std::size_t first = p / strip_rows * strip_rows;
    const std::size_t height = std::min(strip_rows, rows() - first);
    return (first * cols() + q * height + p - first) * panel_rows + k;
  }
};

/// Memory that begins at a multiple of 64 bytes, because its last page ends there.
std::size_t aligned_size(std::size_t size) {
  return (size + panel_rows - 1) / panel_rows * panel_rows;
}

template <Real T>
void check(const Call& call, Guard guard, Random& random) {
  const auto& table = kernel::active<T>();
  CAPTURE(call.y_size, call.x_size, call.distance, call.width, call.batch, call.gap);
  const auto vector = [&](std::size_t size) {
    std::vector<T> values(size);
    for (T& value : values) value = static_cast<T>(random.integer(-3, 3));
    return values;
  };
  const std::size_t ldx = call.x_size + call.gap;
  const std::size_t ldy = call.y_size + call.gap;
  const auto memory = [&](std::size_t size, std::size_t ld) {
    return size == 0 || call.batch == 0 ? std::size_t{0} : (call.batch - 1) * ld + size;
  };
  std::vector<T> w(call.rows() * call.cols() * panel_rows, T(0));
  for (std::size_t p = 0; p < call.rows(); ++p)
    for (std::size_t q = 0; q < call.cols(); ++q)
      for (std::size_t k = 0; k < panel_rows; ++k)
        if (call.has(p, q, k)) w[call.at(p, q, k)] = static_cast<T>(random.integer(-3, 3));
  const Guarded<T> values(w, guard);
  const Guarded<T> x(vector(memory(call.x_size, ldx)), guard);
  const std::vector<T> before = vector(memory(call.y_size, ldy));
  const Guarded<T> scratch(
      aligned_size(table.interleaved_scratch(std::max(call.rows(), call.cols()), call.batch)),
      guard);
  for (const bool add : {false, true}) {
    std::vector<T> expected = before;
    std::vector<T> start = before;
    for (std::size_t j = 0; j < call.batch; ++j)
      for (std::size_t r = 0; r < call.y_size; ++r) {
        const std::size_t k = r % call.distance;
        if (k >= call.width) continue;  // between two rows: not to be touched
        T sum = add ? before[j * ldy + r] : T(0);
        for (std::size_t q = 0; q < call.cols(); ++q)
          if (call.has(r / call.distance, q, k))
            sum += w[call.at(r / call.distance, q, k)] * x.data()[j * ldx + q * call.distance + k];
        expected[j * ldy + r] = sum;
        if (!add) start[j * ldy + r] = std::numeric_limits<T>::quiet_NaN();
      }
    const Guarded<T> y(start, guard);
    table.interleaved_apply(call.y_size, call.x_size, call.distance, call.width, values.data(),
                            call.batch, x.data(), ldx, y.data(), ldy, add, scratch.data());
    CHECK(std::vector<T>(y.data(), y.data() + y.size()) == expected);
  }
  const Guarded<T> y(before, guard);
  const std::size_t first = call.cols() / 3;
  for (const std::size_t last : {first, (first + call.cols() + 1) / 2, call.cols()}) {
    std::vector<T> expected(x.data(), x.data() + x.size());
    std::vector<T> start = expected;
    for (std::size_t j = 0; j < call.batch; ++j)
      for (std::size_t c = first * call.distance; c < std::min(last * call.distance, call.x_size);
           ++c) {
        const std::size_t k = c % call.distance;
        if (k >= call.width) continue;
        T sum = 0;
        for (std::size_t p = 0; p < call.rows(); ++p)
          if (call.has(p, c / call.distance, k))
            sum += w[call.at(p, c / call.distance, k)] * before[j * ldy + p * call.distance + k];
        expected[j * ldx + c] = sum;
        start[j * ldx + c] = std::numeric_limits<T>::quiet_NaN();
      }
    const Guarded<T> back(start, guard);
    table.interleaved_apply_transpose(call.y_size, call.x_size, call.distance, call.width, first,
                                      last, values.data(), call.batch, y.data(), ldy, back.data(),
                                      ldx, scratch.data());
    CHECK(std::vector<T>(back.data(), back.data() + back.size()) == expected);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("interleaved matrices: all heights, widths and ends, and nothing outside",
                   "[kernel][guard]", float, double) {
  Random random(9);
  for (const std::size_t distance : {16U, 19U, 64U})
    for (const std::size_t width : {16U, 11U, 1U})
      for (const std::size_t rows : {1U, 2U, 3U, 4U, 5U, 8U, 11U})
        for (const std::size_t cols : {1U, 2U, 7U})
          for (const std::size_t batch : {0U, 1U, 2U, 3U, 5U, 6U, 7U, 13U})
            for (const std::size_t end : {1U, 10U, 16U})
              check<TestType>({(rows - 1) * distance + std::min<std::size_t>(end, distance),
                               (cols - 1) * distance + (end == 16U ? 5U : 16U), distance, width,
                               batch, batch % 2 == 0 ? 3U : 0U},
                              batch % 3 == 0 ? Guard::before : Guard::after, random);
}

TEMPLATE_TEST_CASE("interleaved matrices: around the blocks of columns, rows and samples",
                   "[kernel][guard][slow]", float, double) {
  Random random(10);
  for (const std::size_t depth : {0U, 63U, 64U, 65U, 128U, 129U, 257U})
    for (const std::size_t batch : {1U, 23U, 24U, 25U, 47U, 49U, 97U})
      for (const Guard guard : {Guard::before, Guard::after}) {
        check<TestType>({5 * 17, depth * 17, 17, 16, batch, 1}, guard, random);
        check<TestType>({depth * 17, 3 * 17, 17, 16, batch, 1}, guard, random);
      }
}

}  // namespace pleat::test
