// SPDX-License-Identifier: MIT
// The kernels of sparse rows, of every instruction set at hand, against plain loops: whole numbers,
// so that equal means equal.
#include "matrix/sparse.hpp"

#include "pleat/kernel/active.hpp"
#include "support/catch.hpp"
#include "support/guarded.hpp"
#include "support/oracle.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace pleat::test {
namespace {

enum class Columns { indices, long_indices, masks };

/// A matrix in one of the forms that the kernels take; with masks, of `entries` entries a row.
template <Real T>
struct Rows {
  Rows(const Matrix<T>& W, Columns kind, std::size_t entries) {
    const auto cols = static_cast<std::size_t>(W.cols());
    const std::size_t words = (cols + kernel::mask_cols - 1) / kernel::mask_cols;
    masks.resize(static_cast<std::size_t>(W.rows()) * words);
    for (Index i = 0; i < W.rows(); ++i) {
      starts.push_back(values.size());
      for (Index k = 0; k < W.cols(); ++k) {
        if (W(i, k) == T(0)) continue;
        const auto column = static_cast<std::uint32_t>(k);
        values.push_back(W(i, k));
        columns.push_back(static_cast<std::uint16_t>(column));
        long_columns.push_back(column);
        masks[static_cast<std::size_t>(i) * words + column / kernel::mask_cols] |=
            std::uint32_t{1} << (column % kernel::mask_cols);
      }
    }
    starts.push_back(values.size());
    view = {values.data(), starts.data(), 0, nullptr, nullptr, nullptr};
    if (kind == Columns::indices) view.columns = columns.data();
    if (kind == Columns::long_indices) view.long_columns = long_columns.data();
    if (kind == Columns::masks) {
      view.masks = masks.data();
      view.starts = nullptr;
      view.row_entries = entries;
    }
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  ~Rows() = default;

  std::vector<T> values;
  std::vector<std::uint64_t> starts;
  std::vector<std::uint16_t> columns;
  std::vector<std::uint32_t> long_columns;
  std::vector<std::uint32_t> masks;
  kernel::SparseRows<T> view{};
};

/// A matrix with `entries` nonzeros in every row, whole numbers.
template <Real T>
Matrix<T> full_rows(Random& random, std::size_t rows, std::size_t cols, std::size_t entries) {
  const auto m = static_cast<Index>(rows);
  Matrix<T> W = Matrix<T>::Zero(m, static_cast<Index>(cols));
  for (Index i = 0; i < m; ++i) {
    auto wanted = static_cast<Index>(entries);
    for (Index k = 0; k < W.cols(); ++k)
      if (random.integer(1, W.cols() - k) <= wanted) {
        --wanted;
        W(i, k) = static_cast<T>(random.integer(1, 3));
      }
  }
  return W;
}

/// The table in force: the suite runs once for each.
template <Real T>
std::vector<const kernel::Table<T>*> reached() {
  std::vector<const kernel::Table<T>*> result;
  for (const kernel::Table<T>* table : kernel::available<T>())
    if (std::string(table->arch) == kernel::active<T>().arch) result.push_back(table);
  return result;
}

/// All three kernels on memory whose ends are guarded.
template <Real T>
void check(const kernel::Table<T>& table, const kernel::SparseRows<T>& view, const Matrix<T>& W,
           std::size_t batch, Guard guard, Random& random) {
  const auto rows = static_cast<std::size_t>(W.rows());
  const auto cols = static_cast<std::size_t>(W.cols());
  const auto b = static_cast<Index>(batch);
  const Matrix<T> X = random.integers<T>(W.cols(), b, 3);
  const Matrix<T> before = random.integers<T>(W.rows(), b, 3);
  const Matrix<T> product = multiply<Matrix<T>>(W, X);
  const Guarded<T> x(std::vector<T>(X.data(), X.data() + X.size()), guard);
  const Guarded<T> y(std::vector<T>(before.data(), before.data() + before.size()), guard);
  // Rounded up to whole lines, so that it is aligned also where it ends at the guard.
  const Guarded<T> scratch((table.sparse_scratch(cols, batch) + 15) / 16 * 16, guard);
  const Eigen::Map<const Matrix<T>> in(x.data(), W.cols(), b);
  const Eigen::Map<const Matrix<T>> out(y.data(), W.rows(), b);
  const std::string arch = table.arch;
  CAPTURE(arch, rows, cols, batch, guard == Guard::before, view.row_entries);
  table.sparse_apply(view, rows, cols, batch, x.data(), cols, y.data(), rows, true, scratch.data());
  CHECK(out == before + product);
  std::fill_n(y.data(), y.size(), std::numeric_limits<T>::quiet_NaN());
  table.sparse_apply(view, rows, cols, batch, x.data(), cols, y.data(), rows, false,
                     scratch.data());
  CHECK(out == product);
  const std::size_t cut = cols / 3;
  std::fill_n(x.data(), x.size(), std::numeric_limits<T>::quiet_NaN());
  table.sparse_apply_transpose(view, rows, cols, 0, cut, batch, y.data(), rows, x.data(), cols);
  table.sparse_apply_transpose(view, rows, cols, cut, cols, batch, y.data(), rows, x.data(), cols);
  CHECK(in == multiply<Matrix<T>>(W.transpose(), product));
}

}  // namespace

TEMPLATE_TEST_CASE("sparse kernels: all forms of columns, all numbers of samples", "[kernel]",
                   float, double) {
  using T = TestType;
  Random random(91);
  for (const Columns kind : {Columns::indices, Columns::long_indices, Columns::masks})
    for (const std::size_t cols : {1U, 3U, 31U, 33U, 100U})
      for (const std::size_t entries : {std::size_t{1}, (cols + 1) / 2, cols}) {
        const Matrix<T> W = full_rows<T>(random, 9, cols, entries);
        const Rows<T> matrix(W, kind, entries);
        for (const kernel::Table<T>* table : reached<T>())
          for (std::size_t batch = 0; batch <= 140; batch += batch < 20 ? 1 : 7)
            check<T>(*table, matrix.view, W, batch, batch % 2 == 0 ? Guard::before : Guard::after,
                     random);
      }
}

TEMPLATE_TEST_CASE("sparse kernels: around the panels of rows and the tiles of columns",
                   "[kernel][slow]", float, double) {
  using T = TestType;
  Random random(92);
  for (const std::size_t rows : {1U, 4U, 7U, 255U, 256U, 257U, 530U})
    for (const std::size_t cols : {40U, 48U, 95U, 96U, 97U, 193U, 385U}) {
      const Matrix<T> uneven = sparse_integers<T>(random, Index(rows), Index(cols), 20);
      const Matrix<T> even = full_rows<T>(random, rows, cols, cols / 4);
      const Rows<T> indices(uneven, Columns::indices, 0);
      const Rows<T> masks(even, Columns::masks, cols / 4);
      for (const kernel::Table<T>* table : reached<T>())
        for (const std::size_t batch : {1U, 5U, 16U, 33U, 64U, 129U}) {
          check<T>(*table, indices.view, uneven, batch, Guard::after, random);
          check<T>(*table, masks.view, even, batch, Guard::after, random);
        }
    }
}

}  // namespace pleat::test
