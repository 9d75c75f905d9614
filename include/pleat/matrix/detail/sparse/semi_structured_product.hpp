// SPDX-License-Identifier: MIT
// Products with narrow values of N:M: which kernel serves them, and what memory it needs.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/matrix_view.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/cpu.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/narrow/narrow_product.hpp"
#include "pleat/matrix/detail/narrow/power_of_two.hpp"
#include "pleat/matrix/detail/semi_structured_places.hpp"
#include "pleat/matrix/detail/split.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Whether N:M weights of an operator of T that are stored so can have their activations rounded
/// so: as dense ones can, but integers, of int8 with int8 aside, only where they have the scales of
/// dense ones.
template <Real T>
[[nodiscard]] constexpr bool sparse_meets(Storage storage, SparsePattern pattern,
                                          Activations activations) noexcept {
  if (activations == Activations::automatic || activations == Activations::native) return true;
  return meets<T>(storage, activations) &&
         (kernel::has_dense_scales(format_of(storage), kernel_pattern(pattern)) ||
          (storage == Storage::int8 && activations == Activations::int8));
}

/// Throws `std::invalid_argument` unless they can.
template <Real T>
void require_sparse_activations(Storage storage, SparsePattern pattern, Activations activations) {
  require_activations<T>(storage, activations);
  require(sparse_meets<T>(storage, pattern, activations), [&] {
    return "SemiStructured: weights of " + to_string(pattern) + " stored as " +
           std::string(to_string(storage)) + " do not meet activations rounded to " +
           std::string(to_string(activations)) + ": of " + std::to_string(pattern.group) +
           " columns a power of two would have to be kept";
  });
}

/// The same of the activations in a file, whatever the scalar that reads it.
inline void require_sparse_activations(const Parts& parts, SparsePattern pattern) {
  if (!parts.attributes.contains("activations") || !parts.attributes.contains("storage")) return;
  const Storage storage = NarrowPanels<float>::storage_named(parts.attributes.at("storage"));
  for (const Activations known : {Activations::int16, Activations::int8, Activations::bf16})
    if (parts.attributes.at("activations") == to_string(known))
      require_sparse_activations<float>(storage, pattern, known);
}

/// `automatic_activations` of N:M weights.
template <Real T>
[[nodiscard]] Activations automatic_sparse_activations(Storage storage, SparsePattern pattern,
                                                       Index rows, Index cols) {
  if (!std::same_as<T, float> || !is_narrow(storage)) return Activations::native;
  const auto& table = kernel::active<T>();
  return activations_of(kernel::automatic_sparse_activations(
      kernel::worthwhile(table.dots, kernel::is_intel()), table.picks, format_of(storage),
      kernel_pattern(pattern), static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)));
}

/// Whether kept values meet their activations by a kernel of their own.
template <Real T>
[[nodiscard]] bool has_sparse_dot(const NarrowPanels<T>& values, SparsePattern pattern) {
  const auto& table = kernel::active<T>();
  const kernel::Activations activations = kernel_activations(values.activations());
  const kernel::SemiStructuredPattern own = kernel_pattern(pattern);
  // What is no kernel of bf16 is a dense matrix, or samples that are rounded for the others.
  return activations != kernel::Activations::native &&
         kernel::sparse_dot(table.dots, table.picks, values.format(), own, activations) ==
             kernel::SparseDot::kept;
}

/// What a kernel of rounded activations reads beside kept values: see `kernel::control_place` and
/// `Table::semi_structured_dot_apply`. A byte for each value (2:4 and 4:8: half of one, of bf16 a
/// quarter), and of int8 4 bytes for each 64; in no file. Empty where there is no such kernel.
/// Copies share the memory.
class SemiStructuredControls {
 public:
  SemiStructuredControls() = default;
  template <Real T>
  SemiStructuredControls(const SemiStructuredPlaces& places, const NarrowPanels<T>& values) {
    if (!has_sparse_dot(values, places.pattern())) return;
    const kernel::Format format = values.format();
    const kernel::SemiStructuredPattern pattern = kernel_pattern(places.pattern());
    const auto cols = static_cast<std::size_t>(places.cols());
    const auto panels = static_cast<std::size_t>((places.rows() + panel - 1) / panel);
    const std::size_t words = kernel::panel_controls(format, pattern, cols);
    panel_words_ = static_cast<Index>(words);
    words_ = AlignedArray<std::uint32_t>(panels * words);
    for (Index row = 0; row < places.rows(); ++row)
      for (Index i = 0; i < places.values(); ++i) {
        const auto place = kernel::control_place(format, pattern, static_cast<std::size_t>(i));
        words_.data()[row / panel * panel_words_ + static_cast<Index>(place.word) + row % panel] |=
            static_cast<std::uint32_t>(places.column(row, i) - static_cast<Index>(place.col))
            << place.shift;
      }
    if (format != kernel::Format::int8) return;
    const std::size_t sums = kernel::panel_sums(format, pattern, cols);
    panel_sums_ = static_cast<Index>(sums);
    sums_ = AlignedArray<std::int32_t>(panels * sums);
    constexpr auto group = Index{kernel::scale_group(kernel::Format::int8)};
    for (Index row = 0; row < places.rows(); ++row)
      for (Index i = 0; i < places.values(); ++i) {
        const int byte = values.data(0)[values.byte_at(row, i)];
        sums_.data()[row / panel * panel_sums_ + i / group * panel + row % panel] -=
            128 * (byte < 128 ? byte : byte - 256);
      }
  }

  /// Those of the panels from the one that begins with `row` on.
  [[nodiscard]] const std::uint32_t* words(Index row) const noexcept {
    return words_.data() + row / panel * panel_words_;
  }
  [[nodiscard]] const std::int32_t* sums(Index row) const noexcept {
    return sums_.data() + row / panel * panel_sums_;
  }

 private:
  static constexpr Index panel = Index{kernel::panel_rows};

  Index panel_words_ = 0;
  Index panel_sums_ = 0;
  AlignedArray<std::uint32_t> words_ = {};
  AlignedArray<std::int32_t> sums_ = {};
};

/// Lets kept values meet these activations, and returns what kernels need then; native storage
/// stays as it is. Throws `std::invalid_argument` if they cannot.
template <Real T>
[[nodiscard]] SemiStructuredControls meet(Activations activations,
                                          const SemiStructuredPlaces& places, Storage storage,
                                          NarrowPanels<T>& values) {
  require_sparse_activations<T>(storage, places.pattern(), activations);
  if (!is_narrow(storage)) return {};
  values.set_activations(activations, automatic_sparse_activations<T>(
                                          storage, places.pattern(), places.rows(), places.cols()));
  return {places, values};
}

/// Products with narrow values of N:M.
template <Real T>
class SemiStructuredProduct {
 public:
  SemiStructuredProduct(const SemiStructuredPlaces& places, const NarrowPanels<T>& values,
                        const SemiStructuredControls& controls)
      : places_(places),
        values_(values),
        controls_(controls),
        cols_(static_cast<std::size_t>(places.cols())),
        has_dot_(has_sparse_dot(values, places.pattern())),
        is_rounded_(values.activations() != Activations::native && !has_dot_),
        power_(values.power()) {}

  /// Values of memory, aligned to 64 bytes, that one product with so many samples needs.
  [[nodiscard]] std::size_t scratch(std::size_t rows, std::size_t batch) const {
    return kernel_scratch(batch) + rounded_scratch(batch) + power_.scratch(rows);
  }

  /// Y = W X or Y += W X for rows [first, first + rows); `first` is a multiple of 16.
  void apply(Index first, std::size_t rows, std::size_t batch, const T* x, std::size_t ldx, T* y,
             std::size_t ldy, bool add, T* memory) const {
    T* const rounded = memory + kernel_scratch(batch);
    power_.apply(rows, batch, y, ldy, add, rounded + rounded_scratch(batch),
                 [&](std::size_t j, std::size_t samples, T* to, std::size_t ld, bool adds) {
                   const T* const from = x + j * ldx;
                   if (has_dot_)
                     kernel::active<T>().semi_structured_dot_apply(
                         values_.format(), kernel_pattern(places_.pattern()), rows, cols_,
                         values_.data(first), controls_.words(first), controls_.sums(first),
                         samples, from, ldx, to, ld, adds, memory);
                   else if (is_rounded_)
                     RoundedSamples<T>::apply(
                         cols_, samples, from, ldx, rounded,
                         [&](std::size_t begin, std::size_t some, const T* own) {
                           multiply(first, rows, some, own, cols_, to + begin * ld, ld, adds,
                                    memory);
                         });
                   else multiply(first, rows, samples, from, ldx, to, ld, adds, memory);
                 });
  }

  /// X = W^T Y for the groups of columns [first, last).
  void apply_transpose(Index first, Index last, const ConstMatrixView<T>& Y,
                       MatrixView<T> X) const {
    const auto size = [](Index value) { return static_cast<std::size_t>(value); };
    const Index group = places_.pattern().group;
    kernel::active<T>().semi_structured_narrow_apply_transpose(
        values_.format(), kernel_pattern(places_.pattern()), size(places_.rows()), cols_,
        size(first), size(last), values_.data(0), places_.data(0), size(Y.cols()), Y.data(),
        size(Y.outerStride()), X.data(), size(X.outerStride()));
    power_.multiply(X, group * first, (std::min)(group * last, places_.cols()));
  }

 private:
  [[nodiscard]] std::size_t kernel_scratch(std::size_t batch) const {
    const auto& table = kernel::active<T>();
    std::size_t values = 0;
    if (has_dot_)
      values = table.semi_structured_dot_scratch(values_.format(),
                                                 kernel_pattern(places_.pattern()), cols_, batch);
    else if (!is_rounded_) values = table.semi_structured_scratch(cols_, batch);
    else values = table.semi_structured_scratch(cols_, (std::min)(batch, RoundedSamples<T>::some));
    return static_cast<std::size_t>(task_scratch(values));
  }
  [[nodiscard]] std::size_t rounded_scratch(std::size_t batch) const {
    return is_rounded_ ? RoundedSamples<T>::scratch(cols_, batch) : 0;
  }
  void multiply(Index first, std::size_t rows, std::size_t batch, const T* x, std::size_t ldx, T* y,
                std::size_t ldy, bool add, T* memory) const {
    kernel::active<T>().semi_structured_narrow_apply(
        values_.format(), kernel_pattern(places_.pattern()), rows, cols_, values_.data(first),
        places_.data(first), batch, x, ldx, y, ldy, add, memory);
  }

  const SemiStructuredPlaces& places_;
  const NarrowPanels<T>& values_;
  const SemiStructuredControls& controls_;
  std::size_t cols_;
  bool has_dot_;
  bool is_rounded_;
  PowerOfTwo<T> power_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
