// SPDX-License-Identifier: MIT
// The kernels of one instruction set, and the table of them.
#pragma once

// The AVX-512 headers of g++ 12 leave lanes that nothing reads undefined, and it warns of that
// wherever they are inlined (GCC bug 105593): here, and nowhere else in a program.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#include "pleat/kernel/detail/dense/dense.hpp"
#include "pleat/kernel/detail/dense/dense_narrow.hpp"
#include "pleat/kernel/detail/dense/hadamard.hpp"
#include "pleat/kernel/detail/dense/interleaved.hpp"
#include "pleat/kernel/detail/narrow/narrow_dot.hpp"
#include "pleat/kernel/detail/narrow/semi_structured_dot.hpp"
#include "pleat/kernel/detail/simd/arch.hpp"
#include "pleat/kernel/detail/sparse/block_sparse.hpp"
#include "pleat/kernel/detail/sparse/block_sparse_narrow.hpp"
#include "pleat/kernel/detail/sparse/semi_structured.hpp"
#include "pleat/kernel/detail/sparse/semi_structured_transpose.hpp"
#include "pleat/kernel/detail/sparse/sparse.hpp"
#include "pleat/kernel/table.hpp"

namespace pleat::kernel {
inline namespace v0 {
namespace detail {

/// There are none of double.
template <class Arch, class Dots, class T>
[[nodiscard]] constexpr decltype(Table<T>::narrow_dot_apply) dot_apply() noexcept {
  if constexpr (sizeof(T) == sizeof(float)) return &NarrowDot<Arch, Dots>::apply;
  else return nullptr;
}
template <class Arch, class Dots, class T>
[[nodiscard]] constexpr decltype(Table<T>::narrow_dot_scratch) dot_scratch() noexcept {
  if constexpr (sizeof(T) == sizeof(float)) return &NarrowDot<Arch, Dots>::scratch;
  else return nullptr;
}

template <class Arch, class Dots, class T>
[[nodiscard]] constexpr decltype(Table<T>::semi_structured_dot_apply) picked_apply() noexcept {
  if constexpr (sizeof(T) == sizeof(float)) return &SemiStructuredDot<Arch, Dots>::apply;
  else return nullptr;
}
template <class Arch, class Dots, class T>
[[nodiscard]] constexpr decltype(Table<T>::semi_structured_dot_scratch) picked_scratch() noexcept {
  if constexpr (sizeof(T) == sizeof(float)) return &SemiStructuredDot<Arch, Dots>::scratch;
  else return nullptr;
}

/// The kernels under the names that `Table` has for them. Unlike a table's, a member is compiled
/// only where it is used: a program that multiplies by dense matrices compiles no sparse kernels.
template <class Arch, class Dots, class T>
struct Kernels {
  using Contract = Table<T>;

  static constexpr const char* arch = arch_name<Arch, Dots>();
  static constexpr DotProducts dots = Dots::kind;
  static constexpr std::size_t picks = PickedDots<Dots>::picks;

  static constexpr decltype(Contract::dense_apply) dense_apply = &Dense<Arch, T>::apply;
  static constexpr decltype(Contract::dense_scratch) dense_scratch = &Dense<Arch, T>::scratch;
  static constexpr decltype(Contract::dense_apply_transpose) dense_apply_transpose =
      &Dense<Arch, T>::apply_transpose;

  static constexpr decltype(Contract::narrow_apply) narrow_apply = &DenseNarrow<Arch, T>::apply;
  static constexpr decltype(Contract::narrow_scratch) narrow_scratch =
      &DenseNarrow<Arch, T>::scratch;
  static constexpr decltype(Contract::narrow_apply_transpose) narrow_apply_transpose =
      &DenseNarrow<Arch, T>::apply_transpose;

  static constexpr decltype(Contract::narrow_dot_apply) narrow_dot_apply =
      dot_apply<Arch, Dots, T>();
  static constexpr decltype(Contract::narrow_dot_scratch) narrow_dot_scratch =
      dot_scratch<Arch, Dots, T>();

  static constexpr decltype(Contract::semi_structured_apply) semi_structured_apply =
      &SemiStructured<Arch, T>::apply;
  static constexpr decltype(Contract::semi_structured_scratch) semi_structured_scratch =
      &SemiStructured<Arch, T>::scratch;
  static constexpr decltype(Contract::semi_structured_as_dense) semi_structured_as_dense =
      &SemiStructured<Arch, T>::as_dense;
  static constexpr decltype(Contract::semi_structured_apply_transpose)
      semi_structured_apply_transpose = &SemiStructuredTranspose<Arch, T>::apply;
  static constexpr decltype(Contract::semi_structured_narrow_apply) semi_structured_narrow_apply =
      &SemiStructured<Arch, T>::apply_narrow;
  static constexpr decltype(Contract::semi_structured_narrow_apply_transpose)
      semi_structured_narrow_apply_transpose = &SemiStructuredTranspose<Arch, T>::apply_narrow;

  static constexpr decltype(Contract::semi_structured_dot_apply) semi_structured_dot_apply =
      picked_apply<Arch, Dots, T>();
  static constexpr decltype(Contract::semi_structured_dot_scratch) semi_structured_dot_scratch =
      picked_scratch<Arch, Dots, T>();

  static constexpr decltype(Contract::interleaved_apply) interleaved_apply =
      &Interleaved<Arch, T>::apply;
  static constexpr decltype(Contract::interleaved_scratch) interleaved_scratch =
      &Interleaved<Arch, T>::scratch;
  static constexpr decltype(Contract::interleaved_apply_transpose) interleaved_apply_transpose =
      &Interleaved<Arch, T>::apply_transpose;

  static constexpr decltype(Contract::sparse_apply) sparse_apply = &Sparse<Arch, T>::apply;
  static constexpr decltype(Contract::sparse_scratch) sparse_scratch = &Sparse<Arch, T>::scratch;
  static constexpr decltype(Contract::sparse_apply_transpose) sparse_apply_transpose =
      &Sparse<Arch, T>::apply_transpose;

  static constexpr decltype(Contract::hadamard_apply) hadamard_apply = &Hadamard<Arch, T>::apply;

  static constexpr decltype(Contract::block_sparse_apply) block_sparse_apply =
      &BlockSparse<Arch, T>::apply;
  static constexpr decltype(Contract::block_sparse_scratch) block_sparse_scratch =
      &BlockSparse<Arch, T>::scratch;
  static constexpr decltype(Contract::block_sparse_apply_transpose) block_sparse_apply_transpose =
      &BlockSparse<Arch, T>::apply_transpose;

  static constexpr decltype(Contract::block_sparse_narrow_apply) block_sparse_narrow_apply =
      &BlockSparseNarrow<Arch, T>::apply;
  static constexpr decltype(Contract::block_sparse_narrow_scratch) block_sparse_narrow_scratch =
      &BlockSparseNarrow<Arch, T>::scratch;
  static constexpr decltype(Contract::block_sparse_narrow_apply_transpose)
      block_sparse_narrow_apply_transpose = &BlockSparseNarrow<Arch, T>::apply_transpose;
};

template <class Arch, class Dots, class T>
[[nodiscard]] constexpr Table<T> make_table() noexcept {
  using K = Kernels<Arch, Dots, T>;
  return {
      .arch = K::arch,
      .dots = K::dots,
      .picks = K::picks,
      .dense_apply = K::dense_apply,
      .dense_scratch = K::dense_scratch,
      .dense_apply_transpose = K::dense_apply_transpose,
      .narrow_apply = K::narrow_apply,
      .narrow_scratch = K::narrow_scratch,
      .narrow_apply_transpose = K::narrow_apply_transpose,
      .narrow_dot_apply = K::narrow_dot_apply,
      .narrow_dot_scratch = K::narrow_dot_scratch,
      .semi_structured_apply = K::semi_structured_apply,
      .semi_structured_scratch = K::semi_structured_scratch,
      .semi_structured_as_dense = K::semi_structured_as_dense,
      .semi_structured_apply_transpose = K::semi_structured_apply_transpose,
      .semi_structured_narrow_apply = K::semi_structured_narrow_apply,
      .semi_structured_narrow_apply_transpose = K::semi_structured_narrow_apply_transpose,
      .semi_structured_dot_apply = K::semi_structured_dot_apply,
      .semi_structured_dot_scratch = K::semi_structured_dot_scratch,
      .interleaved_apply = K::interleaved_apply,
      .interleaved_scratch = K::interleaved_scratch,
      .interleaved_apply_transpose = K::interleaved_apply_transpose,
      .sparse_apply = K::sparse_apply,
      .sparse_scratch = K::sparse_scratch,
      .sparse_apply_transpose = K::sparse_apply_transpose,
      .hadamard_apply = K::hadamard_apply,
      .block_sparse_apply = K::block_sparse_apply,
      .block_sparse_scratch = K::block_sparse_scratch,
      .block_sparse_apply_transpose = K::block_sparse_apply_transpose,
      .block_sparse_narrow_apply = K::block_sparse_narrow_apply,
      .block_sparse_narrow_scratch = K::block_sparse_narrow_scratch,
      .block_sparse_narrow_apply_transpose = K::block_sparse_narrow_apply_transpose,
  };
}

template <class Arch, class Dots>
[[nodiscard]] constexpr DotKernels make_dots() noexcept {
  return {
      .arch = arch_name<Arch, Dots>(),
      .dots = Dots::kind,
      .picks = PickedDots<Dots>::picks,
      .narrow_dot_apply = &NarrowDot<Arch, Dots>::apply,
      .narrow_dot_scratch = &NarrowDot<Arch, Dots>::scratch,
      .semi_structured_dot_apply = &SemiStructuredDot<Arch, Dots>::apply,
      .semi_structured_dot_scratch = &SemiStructuredDot<Arch, Dots>::scratch,
  };
}

}  // namespace detail
}  // namespace v0
}  // namespace pleat::kernel

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic pop
#endif
