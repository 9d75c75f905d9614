// SPDX-License-Identifier: MIT
// Products with narrow panels: which kernel serves them, and what memory it needs.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/cpu.hpp"
#include "pleat/kernel/regime.hpp"
#include "pleat/matrix/detail/narrow/narrow_panels.hpp"
#include "pleat/matrix/detail/narrow/power_of_two.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

[[nodiscard]] constexpr kernel::Activations kernel_activations(Activations activations) noexcept {
  switch (activations) {
    case Activations::int16: return kernel::Activations::int16;
    case Activations::int8: return kernel::Activations::int8;
    case Activations::bf16: return kernel::Activations::bf16;
    default: return kernel::Activations::native;
  }
}

/// The same the other way.
[[nodiscard]] constexpr Activations activations_of(kernel::Activations activations) noexcept {
  switch (activations) {
    case kernel::Activations::int16: return Activations::int16;
    case kernel::Activations::int8: return Activations::int8;
    case kernel::Activations::bf16: return Activations::bf16;
    default: return Activations::native;
  }
}

/// What `Activations::automatic` stands for on the active instruction set, for weights of a shape:
/// see `kernel::automatic_activations`.
template <Real T>
[[nodiscard]] Activations automatic_activations(Storage storage, Index rows, Index cols) {
  if (!std::same_as<T, float> || !is_narrow(storage)) return Activations::native;
  return activations_of(kernel::automatic_activations(
      kernel::worthwhile(kernel::active<T>().dots, kernel::is_intel()), format_of(storage),
      static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)));
}

/// Samples rounded to bf16, some at a time, for kernels that take them as they are.
template <Real T>
struct RoundedSamples {
  static constexpr std::size_t some = 64;

  /// Values of memory that they need.
  [[nodiscard]] static std::size_t scratch(std::size_t cols, std::size_t batch) {
    return static_cast<std::size_t>(task_scratch(cols * (std::min)(batch, some)));
  }
  /// Calls `kernel(begin, samples, x)` with those from `begin` on, rounded, `cols` apart.
  template <class Kernel>
  static void apply(std::size_t cols, std::size_t batch, const T* x, std::size_t ldx, T* rounded,
                    Kernel kernel) {
    for (std::size_t begin = 0; begin < batch; begin += some) {
      const std::size_t samples = (std::min)(some, batch - begin);
      for (std::size_t j = 0; j < samples; ++j)
        for (std::size_t k = 0; k < cols; ++k)
          rounded[j * cols + k] =
              T(static_cast<float>(nearest<Eigen::bfloat16>(x[(begin + j) * ldx + k])));
      kernel(begin, samples, static_cast<const T*>(rounded));
    }
  }
};

/// Products with a matrix in narrow panels.
template <Real T>
class NarrowProduct {
 public:
  explicit NarrowProduct(const NarrowPanels<T>& panels)
      : panels_(panels),
        format_(panels.format()),
        activations_(kernel_activations(panels.activations())),
        power_(panels.power()) {}

  /// Values of memory, aligned to 64 bytes, that one product with so many samples needs.
  [[nodiscard]] std::size_t scratch(std::size_t rows, std::size_t cols, std::size_t batch) const {
    return kernel_scratch(cols, batch) + rounded_scratch(cols, batch) + power_.scratch(rows);
  }

  /// Y = W X or Y += W X for rows [first, first + rows) and the first `cols` columns of the panels;
  /// `first` is a multiple of 16.
  void apply(Index first, std::size_t rows, std::size_t cols, std::size_t batch, const T* x,
             std::size_t ldx, T* y, std::size_t ldy, bool add, T* memory) const {
    const std::uint8_t* const data = cols == 0 ? nullptr : panels_.data(first);
    T* const rounded = memory + kernel_scratch(cols, batch);
    power_.apply(
        rows, batch, y, ldy, add, rounded + rounded_scratch(cols, batch),
        [&](std::size_t j, std::size_t samples, T* to, std::size_t ld, bool adds) {
          const T* const from = x + j * ldx;
          const auto& table = kernel::active<T>();
          if (activations_ == kernel::Activations::native)
            table.narrow_apply(format_, rows, cols, data, samples, from, ldx, to, ld, adds, memory);
          else if (has_kernel())
            table.narrow_dot_apply(format_, activations_, rows, cols, data, samples, from, ldx, to,
                                   ld, adds, memory);
          else
            multiply_rounded(rows, cols, data, samples, from, ldx, to, ld, adds, memory, rounded);
        });
  }

 private:
  [[nodiscard]] bool has_kernel() const {
    return kernel::has_narrow_dot(kernel::active<T>().dots, format_, activations_);
  }
  [[nodiscard]] std::size_t kernel_scratch(std::size_t cols, std::size_t batch) const {
    const auto& table = kernel::active<T>();
    std::size_t values = 0;
    if (activations_ == kernel::Activations::native) values = table.narrow_scratch(cols, batch);
    else if (has_kernel()) values = table.narrow_dot_scratch(format_, activations_, cols, batch);
    else values = table.narrow_scratch(cols, (std::min)(batch, RoundedSamples<T>::some));
    return static_cast<std::size_t>(task_scratch(values));
  }
  [[nodiscard]] std::size_t rounded_scratch(std::size_t cols, std::size_t batch) const {
    if (activations_ == kernel::Activations::native || has_kernel()) return 0;
    return RoundedSamples<T>::scratch(cols, batch);
  }

  void multiply_rounded(std::size_t rows, std::size_t cols, const std::uint8_t* data,
                        std::size_t batch, const T* x, std::size_t ldx, T* y, std::size_t ldy,
                        bool add, T* memory, T* rounded) const {
    RoundedSamples<T>::apply(
        cols, batch, x, ldx, rounded, [&](std::size_t begin, std::size_t samples, const T* from) {
          kernel::active<T>().narrow_apply(format_, rows, cols, data, samples, from, cols,
                                           y + begin * ldy, ldy, add, memory);
        });
  }

  const NarrowPanels<T>& panels_;
  kernel::Format format_;
  kernel::Activations activations_;
  PowerOfTwo<T> power_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
