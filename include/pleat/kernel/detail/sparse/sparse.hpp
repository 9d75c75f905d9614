// SPDX-License-Identifier: MIT
// Sparse rows times activations: rows side by side for few samples, tiles of columns for many.
#pragma once

#include "pleat/kernel/detail/dense/columns.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/transpose.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over the rows of a sparse matrix (see `Table::sparse_apply`). In every one, an output is
/// one chain of multiply-adds over the entries of its row in ascending order of columns, which
/// starts from zero, or from the output itself where it is added to. So results depend neither on
/// the batch, nor on the tile, nor on the split between threads.
template <class Arch, class T>
struct Sparse {
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;

  // Samples that are worked on at once. Their inputs are transposed once, samples side by side, so
  // that an entry is one broadcast and a multiply-add for every vector of them.
  static constexpr std::size_t most_vectors = 8;
  static constexpr std::size_t most_samples = most_vectors * lanes;

  static constexpr std::size_t tall = 256;  // rows of the private panel of Y
  // Up to so many vectors, several rows at once: one alone would wait for its own sums.
  static constexpr std::size_t few_vectors = 2;
  // Of the inputs, so much is kept in the first-level cache.
  static constexpr std::size_t tile_bytes = 24 * 1024;
  static constexpr std::size_t tile_size = tile_bytes / sizeof(T);
  // So many rows before it is needed, the next part of a row is fetched from memory.
  static constexpr std::size_t ahead = 8;

  /// Position of the first entry of a row among all; for the row after the last, their number.
  static std::size_t first_entry(const SparseRows<T>& matrix, std::size_t row) {
    return matrix.starts != nullptr ? static_cast<std::size_t>(matrix.starts[row])
                                    : row * matrix.row_entries;
  }

  /// Calls `body` with the columns of a matrix, whatever they are stored as.
  template <class Body>
  static void with_columns(const SparseRows<T>& matrix, std::size_t cols, const Body& body) {
    if (matrix.masks != nullptr)
      body(MaskColumns<Arch>{matrix.masks, (cols + mask_cols - 1) / mask_cols});
    else if (matrix.long_columns != nullptr)
      body(IndexColumns<Arch, std::uint32_t>{matrix.long_columns});
    else body(IndexColumns<Arch, std::uint16_t>{matrix.columns});
  }

  // A vector of V = T is a single sample.
  template <class V>
  static V load(const T* from) {
    if constexpr (sizeof(V) == sizeof(T)) return *from;
    else return V::load_aligned(from);
  }
  template <class V>
  static void store(const V& value, T* to) {
    if constexpr (sizeof(V) == sizeof(T)) *to = value;
    else value.store_aligned(to);
  }

  /// The rows row, ..., row + G - 1 by R vectors of samples, whole: in step while all of them have
  /// entries in a span of columns, then one after the other.
  template <std::size_t G, std::size_t R, class V, class Columns>
  static void rows_at_once(const SparseRows<T>& matrix, const Columns& columns, std::size_t row,
                           std::size_t cols, const T* inputs, T* panel) {
    constexpr std::size_t width = R * sizeof(V) / sizeof(T);
    V sum[G][R];
    std::size_t entry[G];
    std::size_t end[G];
#pragma GCC unroll 16
    for (std::size_t g = 0; g < G; ++g) {
      entry[g] = first_entry(matrix, row + g);
      end[g] = first_entry(matrix, row + g + 1);
#pragma GCC unroll 16
      for (std::size_t v = 0; v < R; ++v) sum[g][v] = load<V>(panel + g * width + v * (width / R));
    }
    for (std::size_t k = 0; k < cols; k += Columns::span < cols - k ? Columns::span : cols - k) {
      typename Columns::Memory memory[G];
      const typename Columns::Position* position[G];
      std::size_t count[G];
      std::size_t common = ~std::size_t{0};
#pragma GCC unroll 16
      for (std::size_t g = 0; g < G; ++g) {
        position[g] = columns.find(row + g, entry[g], end[g], k, memory[g], count[g]);
        common = count[g] < common ? count[g] : common;
      }
      const auto step = [&](std::size_t g, std::size_t i) {
        const V weight(matrix.values[entry[g] + i]);
        const T* in = inputs + (k + position[g][i]) * width;
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R; ++v)
          sum[g][v] = MultiplyAdd<Arch, T>::of(weight, load<V>(in + v * (width / R)), sum[g][v]);
      };
      for (std::size_t i = 0; i < common; ++i)
#pragma GCC unroll 16
        for (std::size_t g = 0; g < G; ++g) step(g, i);
#pragma GCC unroll 16
      for (std::size_t g = 0; g < G; ++g) {
        for (std::size_t i = common; i < count[g]; ++i) step(g, i);
        entry[g] += count[g];
      }
    }
#pragma GCC unroll 16
    for (std::size_t g = 0; g < G; ++g)
#pragma GCC unroll 16
      for (std::size_t v = 0; v < R; ++v) store<V>(sum[g][v], panel + g * width + v * (width / R));
  }

  template <std::size_t R, class V, class Columns>
  static void whole_rows(const SparseRows<T>& matrix, const Columns& columns, std::size_t first,
                         std::size_t rows, std::size_t cols, const T* inputs, T* panel) {
    constexpr std::size_t together = 4;
    constexpr std::size_t width = R * sizeof(V) / sizeof(T);
    std::size_t r = 0;
    for (; r + together <= rows; r += together)
      rows_at_once<together, R, V>(matrix, columns, first + r, cols, inputs, panel + r * width);
    for (; r < rows; ++r)
      rows_at_once<1, R, V>(matrix, columns, first + r, cols, inputs, panel + r * width);
  }

  /// `rows` rows from `first` on by R vectors of samples, a tile of columns after the other.
  template <std::size_t R, class Columns>
  static void tiled_rows(const SparseRows<T>& matrix, const Columns& columns, std::size_t first,
                         std::size_t rows, std::size_t cols, const T* inputs, T* tile, T* panel) {
    constexpr std::size_t width = R * lanes;
    constexpr std::size_t depth = tile_size / width / Columns::grain * Columns::grain;
    static_assert(depth > 0);
    constexpr std::size_t line = 64 / sizeof(T);  // of the cache
    const T* const values = matrix.values;
    std::size_t entry[tall];
    std::size_t recent = depth;  // entries of the last row in the tile: a guess for the next ones
    for (std::size_t r = 0; r < rows; ++r) entry[r] = first_entry(matrix, first + r);
    for (std::size_t k = 0; k < cols; k += depth) {
      const std::size_t end = cols - k < depth ? cols : k + depth;
      // In order, which the hardware prefetches; the rows then jump about in it.
      for (std::size_t i = k * width; i < end * width; i += lanes)
        Batch::load_aligned(inputs + i).store_aligned(tile + i - k * width);
      for (std::size_t r = 0; r < rows; ++r) {
        Batch sum[R];
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R; ++v)
          sum[v] = Batch::load_aligned(panel + r * width + v * lanes);
        // Where a row goes on is far from where the row before did, which no hardware prefetches.
        // Not in a function of its own: it would have no result, and g++ leaves out calls of such.
        if (r + ahead < rows) {
          const std::size_t next = entry[r + ahead];
          const std::size_t left = first_entry(matrix, first + r + ahead + 1) - next;
          const std::size_t count = left < recent + line ? left : recent + line;
          for (std::size_t i = 0; i < count; i += line) __builtin_prefetch(values + next + i);
          for (std::size_t i = 0; i < count; i += Columns::line_entries)
            __builtin_prefetch(columns.address(first + r + ahead, next + i, k));
        }
        const std::size_t begin = entry[r];
        entry[r] = columns.each(first + r, entry[r], first_entry(matrix, first + r + 1), k, end,
                                [&](std::size_t i, std::size_t column) {
                                  const T* in = tile + (column - k) * width;
                                  const Batch weight(values[i]);
#pragma GCC unroll 16
                                  for (std::size_t v = 0; v < R; ++v)
                                    sum[v] = MultiplyAdd<Arch, T>::of(
                                        weight, Batch::load_aligned(in + v * lanes), sum[v]);
                                });
#pragma GCC unroll 16
        for (std::size_t v = 0; v < R; ++v) sum[v].store_aligned(panel + r * width + v * lanes);
        recent = entry[r] - begin;
      }
    }
  }

  /// Samples in columns, transposed to rows of `width`, zeros after the last sample.
  static void transpose_in(std::size_t rows, std::size_t samples, std::size_t width, const T* from,
                           std::size_t ld, T* to) {
    Transpose<Arch, T>::apply(rows, samples, from, ld, to, width);
    for (std::size_t i = 0; i < rows; ++i)
      for (std::size_t j = samples; j < width; ++j) to[i * width + j] = T(0);
  }

  template <std::size_t R = most_vectors, class Columns>
  static void transposed(std::size_t samples, const SparseRows<T>& matrix, const Columns& columns,
                         std::size_t rows, std::size_t cols, const T* x, std::size_t ldx, T* y,
                         std::size_t ldy, bool add, T* scratch) {
    if constexpr (R > 1)
      if (samples <= (R - 1) * lanes)
        return transposed<R - 1>(samples, matrix, columns, rows, cols, x, ldx, y, ldy, add,
                                 scratch);
    constexpr std::size_t width = R * lanes;
    T* const tile = scratch;
    T* const panel = tile + tile_size;
    T* const inputs = panel + tall * width;
    transpose_in(cols, samples, width, x, ldx, inputs);
    for (std::size_t r = 0; r < rows; r += tall) {
      const std::size_t height = rows - r < tall ? rows - r : tall;
      if (add) transpose_in(height, samples, width, y + r, ldy, panel);
      else
        for (std::size_t i = 0; i < height * width; ++i) panel[i] = T(0);
      if constexpr (R <= few_vectors)
        whole_rows<R, Batch>(matrix, columns, r, height, cols, inputs, panel);
      else tiled_rows<R>(matrix, columns, r, height, cols, inputs, tile, panel);
      Transpose<Arch, T>::apply(samples, height, panel, width, y + r, ldy);
    }
  }

  template <class Columns>
  static void apply_of(const SparseRows<T>& matrix, const Columns& columns, std::size_t rows,
                       std::size_t cols, std::size_t batch, const T* x, std::size_t ldx, T* y,
                       std::size_t ldy, bool add, T* scratch) {
    for (std::size_t j = 0; j < batch; j += most_samples) {
      const std::size_t samples = batch - j < most_samples ? batch - j : most_samples;
      if (samples > 1) {
        transposed(samples, matrix, columns, rows, cols, x + j * ldx, ldx, y + j * ldy, ldy, add,
                   scratch);
        continue;
      }
      if (!add)
        for (std::size_t r = 0; r < rows; ++r) y[j * ldy + r] = T(0);
      whole_rows<1, T>(matrix, columns, 0, rows, cols, x + j * ldx, y + j * ldy);
    }
  }

  static void apply(const SparseRows<T>& matrix, std::size_t rows, std::size_t cols,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    with_columns(matrix, cols, [&](const auto& columns) {
      apply_of(matrix, columns, rows, cols, batch, x, ldx, y, ldy, add, scratch);
    });
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    if (batch < 2) return 0;
    const std::size_t samples = batch < most_samples ? batch : most_samples;
    return tile_size + (tall + cols) * ((samples + lanes - 1) / lanes * lanes);
  }

  /// X = W^T Y for the columns [first, last). Plain loops: training is not what this is for.
  static void apply_transpose(const SparseRows<T>& matrix, std::size_t rows, std::size_t cols,
                              std::size_t first, std::size_t last, std::size_t batch, const T* y,
                              std::size_t ldy, T* x, std::size_t ldx) {
    with_columns(matrix, cols, [&](const auto& columns) {
      for (std::size_t j = 0; j < batch; ++j) {
        T* const out = x + j * ldx;
        for (std::size_t c = first; c < last; ++c) out[c] = T(0);
        for (std::size_t r = 0; r < rows; ++r) {
          const T scale = y[j * ldy + r];
          if (scale == T(0)) continue;  // most are, where errors are measured row by row
          columns.each(r, first_entry(matrix, r), first_entry(matrix, r + 1), 0, cols,
                       [&](std::size_t i, std::size_t c) {
                         if (c >= first && c < last) out[c] += matrix.values[i] * scale;
                       });
        }
      }
    });
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
