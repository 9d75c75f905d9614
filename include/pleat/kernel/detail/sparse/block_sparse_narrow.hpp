// SPDX-License-Identifier: MIT
// Kept blocks of narrow values: widened strip by strip, then multiplied as those that are as they
// are.
#pragma once

#include "pleat/kernel/detail/dense/dense_narrow.hpp"
#include "pleat/kernel/detail/sparse/block_sparse.hpp"
#include "pleat/kernel/detail/sparse/block_strips.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over kept blocks of narrow values (see `Table::block_sparse_narrow_apply`). An output is
/// the same chain of multiply-adds as in `BlockSparse`, of widened values: bit for bit what that
/// makes of them.
template <class Arch, class T>
struct BlockSparseNarrow {
  using Native = BlockSparse<Arch, T>;
  using Strip = typename Native::Strip;
  using Inputs = typename Native::Inputs;
  using Part = typename Native::Strips::Part;
  static constexpr std::size_t most_together = 4;  // strips of `Native::few_samples`

  // Columns of a strip that are widened at once for few samples, as whole blocks: those of four
  // strips stay in the first-level cache.
  static constexpr std::size_t piece_cols = 256 / sizeof(T);
  static constexpr std::size_t step = 8;  // columns begin to be widened at a multiple of it

  static constexpr std::size_t piece_blocks(std::size_t block_cols) {
    return block_cols < piece_cols ? piece_cols / block_cols : 1;
  }
  /// Values that widened columns take, with those before the first, back to a multiple of `step`.
  static constexpr std::size_t widened(std::size_t cols) { return (cols + step - 1) * panel_rows; }
  static std::size_t piece_values(std::size_t cols, std::size_t block_cols) {
    const std::size_t most = piece_blocks(block_cols) * block_cols;
    return widened(cols < most ? cols : most);
  }
  static std::size_t tile_values(std::size_t cols, std::size_t block_cols, std::size_t batch) {
    const std::size_t few = most_together * piece_values(cols, block_cols);
    if (batch < 2) return few;
    const std::size_t depth = Native::depth_of(block_cols);
    const std::size_t many = widened(cols < depth ? cols : depth);
    return few < many ? many : few;
  }

  /// Strips whose values are in a panel, and where they are widened.
  struct Strips {
    typename Native::Strips all;
    Format format;
    const std::uint8_t* panel;
    std::size_t cols;
    T* tile;
    std::size_t count;

    Strips(Format format_, const BlockRows<T>& matrix, const std::uint8_t* panel_,
           std::size_t rows_, std::size_t cols_, T* tile_)
        : all(matrix, rows_),
          format(format_),
          panel(panel_),
          cols(cols_),
          tile(tile_),
          count(all.count) {}

    /// Kept columns of the panel left of a part.
    [[nodiscard]] std::size_t left_of(const Part& part) const {
      const auto offset = static_cast<std::size_t>(all.matrix.offsets[part.row]);
      const std::size_t strips = (part.height + panel_rows - 1) / panel_rows;
      const std::size_t each =
          (static_cast<std::size_t>(all.matrix.offsets[part.row + 1]) - offset) / strips;
      return offset + part.above / panel_rows * each + part.before;
    }

    /// The blocks [begin, begin + blocks) of a part, of which `left` columns of the panel are left,
    /// with their values widened to `to`.
    [[nodiscard]] Strip piece(const Part& part, std::size_t left, std::size_t begin,
                              std::size_t blocks, T* to) const {
      Strip strip = part.strip;
      strip.leave(begin);
      strip.blocks = blocks;
      strip.pitch = panel_rows;
      strip.values = to;
      if (blocks == 0) return strip;
      const std::size_t width = all.matrix.block_cols;
      const std::size_t last = strip.column(blocks - 1) * width;
      const std::size_t kept = (blocks - 1) * width + (cols - last < width ? cols - last : width);
      const std::size_t first = left + begin * width;
      const std::size_t early = first % step;
      DenseNarrow<Arch, T>::decode_any(format, panel, first - early, early + kept, to);
      strip.values = to + early * panel_rows;
      return strip;
    }

    /// All blocks of a strip in [first, last).
    [[nodiscard]] Strip at(std::size_t strip, std::size_t first, std::size_t last, T* y) const {
      const Part part = all.part(strip, first, last, y);
      return piece(part, left_of(part), 0, part.strip.blocks, tile);
    }
  };

  /// The blocks of a part from `begin` on by no more samples than a tile takes.
  template <std::size_t N>
  static void one_part(const Strips& strips, const Part& part, std::size_t left, std::size_t begin,
                       const Inputs& in, std::size_t samples, std::size_t ldy, bool add) {
    const std::size_t most = piece_blocks(in.width);
    do {  // at least once: no block still means that Y is overwritten
      const std::size_t rest = part.strip.blocks - begin;
      const std::size_t count = rest < most ? rest : most;
      Native::template one_strip<N>(strips.piece(part, left, begin, count, strips.tile), in,
                                    samples, ldy, add);
      begin += count;
      add = true;
    } while (begin < part.strip.blocks);
  }

  /// As `BlockSparse::few_samples`.
  template <std::size_t N = Native::tile_samples>
  static void few_samples(std::size_t width, const Strips& strips, const Inputs& in,
                          std::size_t samples, T* y, std::size_t ldy, bool add) {
    if constexpr (N > 1)
      if (width < N)
        return few_samples<Native::narrower(N)>(width, strips, in, samples, y, ldy, add);
    constexpr std::size_t most = Native::accumulators / (Native::vectors * N);
    constexpr std::size_t together = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    static_assert(together <= most_together);
    const std::size_t last = in.first + (in.cols + in.width - 1) / in.width;
    std::size_t done = 0;
    if constexpr (together > 1) {
      const std::size_t size = piece_values(strips.cols, in.width);
      const std::size_t at_once = piece_blocks(in.width);
      const std::size_t quarter = strips.count / together;
      for (std::size_t i = 0; i < quarter; ++i) {
        Part parts[together];
        std::size_t left[together];
        std::size_t common = ~std::size_t{0};
        for (std::size_t g = 0; g < together; ++g) {
          parts[g] = strips.all.part(g * quarter + i, in.first, last, y);
          left[g] = strips.left_of(parts[g]);
          const Strip& own = parts[g].strip;
          std::size_t whole = own.height == panel_rows ? own.blocks : 0;
          if (whole > 0 && (own.column(whole - 1) - in.first + 1) * in.width > in.cols) --whole;
          common = whole < common ? whole : common;
        }
        if (samples < N) common = 0;
        for (std::size_t b = 0; b < common; b += at_once) {
          const std::size_t count = common - b < at_once ? common - b : at_once;
          Strip set[together];
          for (std::size_t g = 0; g < together; ++g)
            set[g] = strips.piece(parts[g], left[g], b, count, strips.tile + g * size);
          Native::template tile<together, N, Native::vectors>(set, count, in, ldy, add || b > 0);
        }
        for (std::size_t g = 0; g < together; ++g)
          if (common == 0 || common < parts[g].strip.blocks)
            one_part<N>(strips, parts[g], left[g], common, in, samples, ldy, add || common > 0);
      }
      done = quarter * together;
    }
    for (; done < strips.count; ++done) {
      const Part part = strips.all.part(done, in.first, last, y);
      one_part<N>(strips, part, strips.left_of(part), 0, in, samples, ldy, add);
    }
  }

  static void apply(Format format, const BlockRows<T>& matrix, const std::uint8_t* panel,
                    std::size_t rows, std::size_t cols, std::size_t batch, const T* x,
                    std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    const Strips strips(format, matrix, panel, rows, cols, scratch);
    const std::size_t width = matrix.block_cols;
    if (batch == 1) return few_samples<1>(1, strips, {width, 0, cols, x}, 1, y, ldy, add);
    Native::in_packs(width, strips, cols, batch, x, ldx, y, ldy, add,
                     scratch + tile_values(cols, width, batch),
                     [&](const Inputs& in, std::size_t samples, T* to, bool adds) {
                       few_samples(Native::padded(samples), strips, in, samples, to, ldy, adds);
                     });
  }

  static std::size_t scratch(std::size_t cols, std::size_t block_cols, std::size_t batch) {
    return tile_values(cols, block_cols, batch) + Native::scratch(cols, block_cols, batch);
  }

  /// X = W^T Y for the columns [first, last), whole blocks.
  static void apply_transpose(Format format, const BlockRows<T>& matrix, const std::uint8_t* panel,
                              std::size_t rows, std::size_t cols, std::size_t first,
                              std::size_t last, std::size_t batch, const T* y, std::size_t ldy,
                              T* x, std::size_t ldx, T* scratch) {
    for (std::size_t j = 0; j < batch; ++j)
      for (std::size_t k = first; k < last; ++k) x[j * ldx + k] = T(0);
    const std::size_t width = matrix.block_cols;
    const Strips strips(format, matrix, panel, rows, cols, scratch);
    const std::size_t most = piece_blocks(width);
    for (std::size_t s = 0; s < strips.count; ++s) {
      const Part part = strips.all.part(s, first / width, (last + width - 1) / width, nullptr);
      const std::size_t left = strips.left_of(part);
      const T* const own = y + strips.all.top(s);
      bool any = false;
      for (std::size_t j = 0; j < batch && !any; ++j)
        for (std::size_t i = 0; i < part.strip.height; ++i)
          any = any || !(own[j * ldy + i] == T(0));
      for (std::size_t b = 0; any && b < part.strip.blocks; b += most) {
        const std::size_t rest = part.strip.blocks - b;
        const Strip strip = strips.piece(part, left, b, rest < most ? rest : most, scratch);
        for (std::size_t j = 0; j < batch; ++j)
          Native::transposed_strip(strip, own + j * ldy, width, cols, x + j * ldx);
      }
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
