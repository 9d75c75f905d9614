// SPDX-License-Identifier: MIT
// Dense times activations from 16-bit, 8-bit and 4-bit weights, which are widened on the way.
#pragma once

#include "pleat/kernel/detail/dense/dense.hpp"
#include "pleat/kernel/detail/dense/narrow_columns.hpp"
#include "pleat/kernel/detail/simd/multiply_add.hpp"
#include "pleat/kernel/detail/simd/xsimd.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/kernel/table.hpp"

#include <cstddef>
#include <cstdint>

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// Kernels over narrow panels (see `Table::narrow_apply`).
template <class Arch, class T>
struct DenseNarrow {
  using Wide = Dense<Arch, T>;
  using Batch = xsimd::batch<T, Arch>;
  static constexpr std::size_t lanes = Batch::size;
  static constexpr std::size_t vectors = panel_rows / lanes;

  // Samples that multiply the stored numbers as they are widened, once or twice.
  static constexpr std::size_t few = sizeof(T) == 4 ? 4 : 0;
  static_assert(narrow_regime(sizeof(T), 2 * few + 1) == Regime::blocked);

  /// Adds the columns from S on of one step of P panels, of which `left` exist or All, times N
  /// samples. Inlined at once, or the compiler keeps the sums in memory.
  template <Format F, std::size_t P, std::size_t N, bool All, std::size_t S = 0>
  [[gnu::always_inline]] static void columns(typename NarrowColumns<Arch, F>::Step* steps,
                                             std::size_t left, const T* x, std::size_t ldx,
                                             Batch (&to)[N][P][vectors]) {
    if constexpr (S < NarrowColumns<Arch, F>::step) {
      if (!All && S >= left) return;
      Batch w[P][vectors];
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p) steps[p].template column<S>(w[p]);
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j) {
        const Batch xj(x[j * ldx + S]);
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v)
            to[j][p][v] = MultiplyAdd<Arch, T>::of(w[p][v], xj, to[j][p][v]);
      }
      columns<F, P, N, All, S + 1>(steps, left, x, ldx, to);
    }
  }

  /// P panels by N samples that are read in place.
  template <Format F, std::size_t P, std::size_t N>
  static void tile(const std::uint8_t* const* panels, std::size_t cols, const T* x, std::size_t ldx,
                   T* const* y, std::size_t ldy, bool add) {
    using Columns = NarrowColumns<Arch, F>;
    Batch sum[N][P][vectors];
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v] = add ? Batch::load_unaligned(y[p] + j * ldy + v * lanes) : Batch(T(0));
    const std::uint8_t* at[P];
    const typename Columns::Head head(panels[0], cols);

    constexpr std::size_t group = Columns::group;
    for (std::size_t begin = 0; begin < cols;) {
      const std::size_t end = group == 0 || cols - begin < group ? cols : begin + group;
      Batch scale[P][vectors];
      Batch part[N][P][vectors];
      const NarrowPlace place = narrow_place(F, begin);
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p) {
        if constexpr (group != 0) Columns::load_scales(panels[p] + place.scale, scale[p]);
        at[p] = panels[p] + place.word;
#pragma GCC unroll 16
        for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v)
            part[j][p][v] = group == 0 ? sum[j][p][v] : Batch(T(0));
      }
      std::size_t k = begin;
      for (; k + Columns::step <= end; k += Columns::step) {
        typename Columns::Step steps[P];
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p) {
          steps[p].load(at[p], head);
          at[p] += Columns::step_bytes;
        }
        columns<F, P, N, true>(steps, 0, x + k, ldx, part);
      }
      if (k < end) {
        typename Columns::Step steps[P];
#pragma GCC unroll 16
        for (std::size_t p = 0; p < P; ++p) steps[p].load(at[p], head);
        columns<F, P, N, false>(steps, end - k, x + k, ldx, part);
      }
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
          for (std::size_t v = 0; v < vectors; ++v) {
            if constexpr (group == 0) sum[j][p][v] = part[j][p][v];
            else sum[j][p][v] = MultiplyAdd<Arch, T>::of(part[j][p][v], scale[p][v], sum[j][p][v]);
          }
      begin = end;
    }
#pragma GCC unroll 16
    for (std::size_t j = 0; j < N; ++j)
#pragma GCC unroll 16
      for (std::size_t p = 0; p < P; ++p)
#pragma GCC unroll 16
        for (std::size_t v = 0; v < vectors; ++v)
          sum[j][p][v].store_unaligned(y[p] + j * ldy + v * lanes);
  }

  /// All rows by N samples, far panels at once as in `Dense::all_rows`.
  template <Format F, std::size_t N>
  static void all_rows(std::size_t rows, std::size_t cols, const std::uint8_t* panels, const T* x,
                       std::size_t ldx, T* y, std::size_t ldy, bool add) {
    constexpr std::size_t most = Wide::accumulators / (vectors * N);
    constexpr std::size_t streams = most >= 4 ? 4 : most >= 2 ? 2 : 1;
    const std::size_t stride = narrow_panel_bytes(F, cols);
    const std::size_t full = rows / panel_rows;
    const std::size_t part = full / streams;
    for (std::size_t i = 0; i < part; ++i) {
      const std::uint8_t* panel[streams];
      T* target[streams];
      for (std::size_t p = 0; p < streams; ++p) {
        panel[p] = panels + (p * part + i) * stride;
        target[p] = y + (p * part + i) * panel_rows;
      }
      tile<F, streams, N>(panel, cols, x, ldx, target, ldy, add);
    }
    for (std::size_t p = part * streams; p * panel_rows < rows; ++p) {
      const std::uint8_t* panel = panels + p * stride;
      T* target = y + p * panel_rows;
      if (p < full) {
        tile<F, 1, N>(&panel, cols, x, ldx, &target, ldy, add);
        continue;
      }
      // The last panel is short of rows: through a copy, so that nothing past Y is touched.
      const std::size_t height = rows - full * panel_rows;
      T copy[N * panel_rows] = {};
      T* whole = copy;
      if (add)
#pragma GCC unroll 16
        for (std::size_t j = 0; j < N; ++j)
          for (std::size_t i = 0; i < height; ++i) copy[j * panel_rows + i] = target[j * ldy + i];
      tile<F, 1, N>(&panel, cols, x, ldx, &whole, panel_rows, add);
#pragma GCC unroll 16
      for (std::size_t j = 0; j < N; ++j)
        for (std::size_t i = 0; i < height; ++i) target[j * ldy + i] = copy[j * panel_rows + i];
    }
  }

  template <Format F, std::size_t N = few>
  static void few_samples(std::size_t samples, std::size_t rows, std::size_t cols,
                          const std::uint8_t* panels, const T* x, std::size_t ldx, T* y,
                          std::size_t ldy, bool add) {
    if constexpr (N > 0) {
      if (samples == N) all_rows<F, N>(rows, cols, panels, x, ldx, y, ldy, add);
      else few_samples<F, N - 1>(samples, rows, cols, panels, x, ldx, y, ldy, add);
    }
  }

  /// One column, and times the scales of its rows if it has any and they are wanted.
  template <Format F, bool Scaled>
  static void store(const xsimd::batch<float, Arch> (&w)[NarrowColumns<Arch, F>::vectors],
                    const xsimd::batch<float, Arch> (&scale)[NarrowColumns<Arch, F>::vectors],
                    T* to) {
    using Columns = NarrowColumns<Arch, F>;
    constexpr bool scaled = Scaled && Columns::group != 0;
#pragma GCC unroll 16
    for (std::size_t v = 0; v < Columns::vectors; ++v, to += Columns::lanes) {
      if constexpr (sizeof(T) == 4) {
        if constexpr (scaled) (w[v] * scale[v]).store_unaligned(to);
        else w[v].store_unaligned(to);
      } else {
        float value[Columns::lanes];
        float factor[Columns::lanes];
        w[v].store_unaligned(value);
        if constexpr (scaled) scale[v].store_unaligned(factor);
        for (std::size_t i = 0; i < Columns::lanes; ++i)
          to[i] = scaled ? T(value[i]) * T(factor[i]) : T(value[i]);
      }
    }
  }

  template <Format F, bool Scaled, std::size_t S = 0>
  static void store_columns(
      typename NarrowColumns<Arch, F>::Step& step, std::size_t left,
      const xsimd::batch<float, Arch> (&scale)[NarrowColumns<Arch, F>::vectors], T* to) {
    using Columns = NarrowColumns<Arch, F>;
    if constexpr (S < Columns::step) {
      if (S >= left) return;
      typename Columns::Batch w[Columns::vectors];
      step.template column<S>(w);
      store<F, Scaled>(w, scale, to + S * panel_rows);
      store_columns<F, Scaled, S + 1>(step, left, scale, to);
    }
  }

  /// The values of columns [first, first + count) of one panel, count x panel_rows of them; or the
  /// stored numbers, and the scales of each group at `scales` and every `pitch` values after it.
  /// `first` is a multiple of 8, and begins a group if scales are wanted.
  template <Format F, bool Scaled>
  static void decode(const std::uint8_t* panel, std::size_t first, std::size_t count, T* to,
                     T* scales, std::size_t pitch) {
    using Columns = NarrowColumns<Arch, F>;
    constexpr std::size_t group = Columns::group;
    const std::size_t last = first + count;
    const typename Columns::Head head(panel, count);
    while (first < last) {
      std::size_t begin = first;
      if constexpr (group != 0) begin = first / group * group;
      const std::size_t end = group == 0 || last - begin < group ? last : begin + group;
      const std::uint8_t* at = panel + narrow_place(F, first).word;
      typename Columns::Batch scale[Columns::vectors];
      if constexpr (group != 0) {
        Columns::load_scales(panel + narrow_place(F, begin).scale, scale);
        if constexpr (!Scaled) {
          store<F, false>(scale, scale, scales);
          scales += pitch;
        }
      }
      for (; first < end; first += Columns::step, at += Columns::step_bytes) {
        const std::size_t left = end - first < Columns::step ? end - first : Columns::step;
        typename Columns::Step step;
        step.load(at, head);
        store_columns<F, Scaled>(step, left, scale, to);
        to += left * panel_rows;
      }
      first = end;
    }
  }

  /// As `decode`, for a format that only the run knows.
  template <bool Scaled = true>
  static void decode_any(Format format, const std::uint8_t* panel, std::size_t first,
                         std::size_t count, T* to, T* scales = nullptr, std::size_t pitch = 0) {
    switch (format) {
      case Format::bf16: return decode<Format::bf16, true>(panel, first, count, to, scales, pitch);
      case Format::f16: return decode<Format::f16, true>(panel, first, count, to, scales, pitch);
      case Format::int8:
        return decode<Format::int8, Scaled>(panel, first, count, to, scales, pitch);
      case Format::int4:
        return decode<Format::int4, Scaled>(panel, first, count, to, scales, pitch);
      case Format::levels:
        return decode<Format::levels, Scaled>(panel, first, count, to, scales, pitch);
    }
  }

  /// As `Wide::block`, where the stored numbers of a tile are widened first. `first`: the column of
  /// the panels at which the block begins. Scales meet the sums of their groups, as they do for a
  /// few samples: one sample's result does not depend on how many there are.
  static void block(Format format, std::size_t rows, std::size_t cols, const std::uint8_t* panels,
                    std::size_t stride, std::size_t first, std::size_t samples, std::size_t group,
                    const T* packed, T* y, std::size_t ldy, bool add, T* tile) {
    constexpr std::size_t some = 64;  // columns: whole groups of any format
    const std::size_t column_bytes = narrow_panel_bytes(format, some) / some;
    const std::size_t offset = narrow_panel_bytes(format, first);
    const std::size_t group_cols = scale_group(format);
    T* const scales = tile + Wide::tall * cols;
    for (std::size_t r = 0; r < rows; r += Wide::tall) {
      const std::size_t height = rows - r < Wide::tall ? rows - r : Wide::tall;
      const std::uint8_t* const panel = panels + r / panel_rows * stride;
      for (std::size_t p = 0; p * panel_rows < height; ++p)
        decode_any<false>(format, panel + p * stride, first, cols, tile + p * cols * panel_rows,
                          scales + p * panel_rows, Wide::tall);
      Wide::block_row(height, cols, tile, cols * panel_rows, samples, group, packed, y + r, ldy,
                      add, Wide::ahead(panel + offset, stride, column_bytes, rows - r - height),
                      {group_cols != 0 ? scales : nullptr, group_cols});
    }
  }

  static void apply(Format format, std::size_t rows, std::size_t cols, const std::uint8_t* panels,
                    std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy, bool add,
                    T* scratch) {
    if (narrow_regime(sizeof(T), batch) == Regime::in_place) {
      const std::size_t half = batch > few ? (batch + 1) / 2 : batch;
      few_any(format, half, rows, cols, panels, x, ldx, y, ldy, add);
      if (half < batch)
        few_any(format, batch - half, rows, cols, panels, x + half * ldx, ldx, y + half * ldy, ldy,
                add);
      return;
    }
    const std::size_t stride = narrow_panel_bytes(format, cols);
    const std::size_t group = Wide::group_of(batch);
    T* const packed = scratch + tile_size(cols);
    std::size_t k = 0;
    do {  // at least once: no columns still means that Y is overwritten
      const std::size_t depth = cols - k < Wide::block_cols ? cols - k : Wide::block_cols;
      for (std::size_t j = 0; j < batch; j += Wide::block_samples) {
        const std::size_t samples =
            batch - j < Wide::block_samples ? batch - j : Wide::block_samples;
        Wide::pack(samples, group, depth, x + j * ldx + k, ldx, packed);
        block(format, rows, depth, panels, stride, k, samples, group, packed, y + j * ldy, ldy,
              add || k > 0, scratch);
      }
      k += depth;
    } while (k < cols);
  }

  /// As `few_samples`, for a format that only the run knows.
  static void few_any(Format format, std::size_t samples, std::size_t rows, std::size_t cols,
                      const std::uint8_t* panels, const T* x, std::size_t ldx, T* y,
                      std::size_t ldy, bool add) {
    switch (format) {
      case Format::bf16:
        return few_samples<Format::bf16>(samples, rows, cols, panels, x, ldx, y, ldy, add);
      case Format::f16:
        return few_samples<Format::f16>(samples, rows, cols, panels, x, ldx, y, ldy, add);
      case Format::int8:
        return few_samples<Format::int8>(samples, rows, cols, panels, x, ldx, y, ldy, add);
      case Format::int4:
        return few_samples<Format::int4>(samples, rows, cols, panels, x, ldx, y, ldy, add);
      case Format::levels:
        return few_samples<Format::levels>(samples, rows, cols, panels, x, ldx, y, ldy, add);
    }
  }

  /// Values of the widened panels of a tile, and of their scales.
  static std::size_t tile_size(std::size_t cols) {
    const std::size_t depth = cols < Wide::block_cols ? cols : Wide::block_cols;
    return Wide::tall * (depth + (depth + 31) / 32);
  }

  static std::size_t scratch(std::size_t cols, std::size_t batch) {
    if (narrow_regime(sizeof(T), batch) == Regime::in_place) return 0;
    const std::size_t depth = cols < Wide::block_cols ? cols : Wide::block_cols;
    return tile_size(cols) + depth * Wide::packed_samples(batch);
  }

  /// Sums stay in lanes until the last panel; a tile of weights is decoded once for four samples.
  static void apply_transpose(Format format, std::size_t rows, std::size_t cols, std::size_t first,
                              std::size_t last, const std::uint8_t* panels, std::size_t batch,
                              const T* y, std::size_t ldy, T* x, std::size_t ldx, T* scratch) {
    constexpr std::size_t width = 64;
    const std::size_t stride = narrow_panel_bytes(format, cols);
    T* const tile = scratch;
    T* const sums = scratch + width * panel_rows;
    for (std::size_t k = first; k < last; k += width) {
      const std::size_t count = last - k < width ? last - k : width;
      for (std::size_t j = 0; j < batch; j += 4) {
        const std::size_t samples = batch - j < 4 ? batch - j : 4;
        for (std::size_t i = 0; i < samples * width * panel_rows; ++i) sums[i] = T(0);
        for (std::size_t r = 0; r < rows; r += panel_rows) {
          decode_any(format, panels + r / panel_rows * stride, k, count, tile);
          const std::size_t height = rows - r < panel_rows ? rows - r : panel_rows;
          for (std::size_t s = 0; s < samples; ++s) {
            T copy[panel_rows] = {};
            for (std::size_t i = 0; i < height; ++i) copy[i] = y[(j + s) * ldy + r + i];
#pragma GCC unroll 16
            for (std::size_t v = 0; v < vectors; ++v) {
              const Batch yv = Batch::load_unaligned(copy + v * lanes);
              for (std::size_t c = 0; c < count; ++c) {
                T* const sum = sums + (s * width + c) * panel_rows + v * lanes;
                MultiplyAdd<Arch, T>::of(Batch::load_unaligned(tile + c * panel_rows + v * lanes),
                                         yv, Batch::load_unaligned(sum))
                    .store_unaligned(sum);
              }
            }
          }
        }
        for (std::size_t s = 0; s < samples; ++s)
          for (std::size_t c = 0; c < count; ++c) {
            const T* const sum = sums + (s * width + c) * panel_rows;
            T total = sum[0];
            for (std::size_t i = 1; i < panel_rows; ++i) total += sum[i];
            x[(j + s) * ldx + k + c] = total;
          }
      }
    }
  }
};

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel
