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
  // strips stay in the first-level cache. Wider blocks are widened whole, up to a limit, and then
  // in parts, so that no block asks for much scratch.
  static constexpr std::size_t piece_cols = 256 / sizeof(T);
  static constexpr std::size_t widest = 4 * piece_cols;
  static constexpr std::size_t step = 8;  // columns begin to be widened at a multiple of it

  static constexpr std::size_t piece_blocks(std::size_t block_cols) {
    return block_cols < piece_cols ? piece_cols / block_cols : 1;
  }
  /// Values that widened columns take, with those before the first, back to a multiple of `step`.
  static constexpr std::size_t widened(std::size_t cols) { return (cols + step - 1) * panel_rows; }
  static std::size_t piece_values(std::size_t cols) {
    return widened(cols < widest ? cols : widest);
  }
  static std::size_t tile_values(std::size_t cols, std::size_t batch) {
    const std::size_t few = most_together * piece_values(cols);
    const std::size_t many = widened(cols < Native::most_cols ? cols : Native::most_cols);
    return batch < 2 || many < few ? few : many;
  }
  /// Samples at once: of blocks that are too wide to be widened once for many, those of a tile.
  static constexpr std::size_t together_of(std::size_t block_cols, std::size_t batch) {
    return block_cols > Native::most_cols && batch > Native::tile_samples ? Native::tile_samples
                                                                          : batch;
  }
  static_assert(!Native::Wide::serves(Native::tile_samples));

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

    /// Columns of a block of a part.
    [[nodiscard]] std::size_t width_of(const Part& part, std::size_t block) const {
      const std::size_t width = all.matrix.block_cols;
      const std::size_t first = part.strip.column(block) * width;
      return cols - first < width ? cols - first : width;
    }

    /// `kept` columns of a part, after `skipped` ones of a block, as a strip of so many blocks with
    /// their values widened to `to`; `left` columns of the panel are left of the part.
    [[nodiscard]] Strip piece(const Part& part, std::size_t left, std::size_t block,
                              std::size_t skipped, std::size_t blocks, std::size_t kept,
                              T* to) const {
      const std::size_t first = left + block * all.matrix.block_cols + skipped;
      const std::size_t early = first % step;
      Strip strip = part.strip;
      strip.leave(block);
      strip.blocks = blocks;
      strip.pitch = panel_rows;
      strip.values = to + early * panel_rows;
      if (kept > 0)
        DenseNarrow<Arch, T>::decode_any(format, panel, first - early, early + kept, to);
      return strip;
    }
    /// Some whole blocks of a part.
    [[nodiscard]] Strip piece(const Part& part, std::size_t left, std::size_t begin,
                              std::size_t blocks, T* to) const {
      std::size_t kept = 0;
      if (blocks > 0)
        kept = (blocks - 1) * all.matrix.block_cols + width_of(part, begin + blocks - 1);
      return piece(part, left, begin, 0, blocks, kept, to);
    }

    /// Calls body(strip, skipped, end) for the blocks of a part from `begin` on, some of them at a
    /// time: whole ones, or of one the columns after `skipped` ones, which are those that it would
    /// have if the matrix ended at `end`.
    template <class Body>
    void pieces(const Part& part, std::size_t begin, const Body& body) const {
      const std::size_t left = left_of(part);
      const std::size_t width = all.matrix.block_cols;
      const std::size_t blocks = part.strip.blocks;
      const std::size_t most = piece_blocks(width);
      for (std::size_t b = begin; b < blocks; b += most) {
        if (width <= widest) {
          const std::size_t rest = blocks - b;
          body(piece(part, left, b, rest < most ? rest : most, tile), std::size_t{0}, cols);
          continue;
        }
        const std::size_t own = width_of(part, b);
        for (std::size_t skipped = 0; skipped < own; skipped += widest) {
          const std::size_t kept = own - skipped < widest ? own - skipped : widest;
          body(piece(part, left, b, skipped, 1, kept, tile), skipped,
               part.strip.column(b) * width + kept);
        }
      }
    }

    /// All blocks of a strip in [first, last).
    [[nodiscard]] Strip at(std::size_t strip, std::size_t first, std::size_t last, T* y) const {
      const Part part = all.part(strip, first, last, y);
      return piece(part, left_of(part), 0, part.strip.blocks, tile);
    }
  };

  /// The blocks of a part from `begin` on by no more samples than a tile takes.
  template <std::size_t N>
  static void one_part(const Strips& strips, const Part& part, std::size_t begin, const Inputs& in,
                       std::size_t samples, std::size_t ldy, bool add) {
    if (begin == part.strip.blocks && !add)  // no block still means that Y is overwritten
      return Native::template one_strip<N>(strips.piece(part, 0, begin, 0, strips.tile), in,
                                           samples, ldy, add);
    strips.pieces(part, begin, [&](const Strip& strip, std::size_t skipped, std::size_t end) {
      Inputs own = in;
      if (end - in.first * in.width < in.cols) own.cols = end - in.first * in.width;
      own.x += skipped * N;
      Native::template one_strip<N>(strip, own, samples, ldy, add);
      add = true;
    });
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
      const std::size_t size = piece_values(strips.cols);
      const std::size_t at_once = piece_blocks(in.width);
      const std::size_t quarter = in.width <= widest ? strips.count / together : 0;
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
          one_part<N>(strips, parts[g], common, in, samples, ldy, add || common > 0);
      }
      done = quarter * together;
    }
    for (; done < strips.count; ++done)
      one_part<N>(strips, strips.all.part(done, in.first, last, y), 0, in, samples, ldy, add);
  }

  static void apply(Format format, const BlockRows<T>& matrix, const std::uint8_t* panel,
                    std::size_t rows, std::size_t cols, std::size_t batch, const T* x,
                    std::size_t ldx, T* y, std::size_t ldy, bool add, T* scratch) {
    const Strips strips(format, matrix, panel, rows, cols, scratch);
    const std::size_t width = matrix.block_cols;
    const std::size_t most = together_of(width, batch);
    T* const packed = scratch + tile_values(cols, batch);
    for (std::size_t j = 0; j < batch; j += most) {
      const std::size_t some = batch - j < most ? batch - j : most;
      if (some == 1)
        few_samples<1>(1, strips, {width, 0, cols, x + j * ldx}, 1, y + j * ldy, ldy, add);
      else
        Native::in_packs(width, strips, cols, some, x + j * ldx, ldx, y + j * ldy, ldy, add, packed,
                         [&](const Inputs& in, std::size_t samples, T* to, bool adds) {
                           few_samples(Native::padded(samples), strips, in, samples, to, ldy, adds);
                         });
    }
  }

  static std::size_t scratch(std::size_t cols, std::size_t block_cols, std::size_t batch) {
    return tile_values(cols, batch) +
           Native::scratch(cols, block_cols, together_of(block_cols, batch));
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
    for (std::size_t s = 0; s < strips.count; ++s) {
      const Part part = strips.all.part(s, first / width, (last + width - 1) / width, nullptr);
      const T* const own = y + strips.all.top(s);
      bool any = false;
      for (std::size_t j = 0; j < batch && !any; ++j)
        for (std::size_t i = 0; i < part.strip.height; ++i)
          any = any || !(own[j * ldy + i] == T(0));
      if (!any) continue;
      strips.pieces(part, 0, [&](const Strip& strip, std::size_t skipped, std::size_t end) {
        for (std::size_t j = 0; j < batch; ++j)
          Native::transposed_strip(strip, own + j * ldy, width, end, x + j * ldx + skipped);
      });
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
