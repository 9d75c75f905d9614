// SPDX-License-Identifier: MIT
// The operators of pleat, as headers alone make them, and the bare kernel below `Dense`. Compiled
// once for each scalar, BENCH_SCALAR, to use more than one core.
#include "pleat/core/any_operator.hpp"
#include "pleat/factor/armor.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/semi_structured.hpp"
#include "small/contest.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace pleat::bench::small {
namespace {

/// Samples of a batch of one are vectors, as for Eigen.
template <class Op, int batch>
struct State {
  using Samples = Eigen::Matrix<typename Op::Scalar, Eigen::Dynamic, batch>;
  Op op;
  Samples X, Y;
  Workspace workspace = Workspace();
};

template <int batch, class Op, class T>
void add_operator(Contestants& contestants, const std::string& name, const Op& op,
                  const Layer<T>& layer, const Matrix<T>& expected) {
  const auto state = std::make_shared<State<Op, batch>>(
      State<Op, batch>{op, layer.X, Matrix<T>(layer.n, layer.batch)});
  small::add(
      contestants, name,
      [state] {
        State<Op, batch>& s = *state;
        barrier(&s);
        s.op.apply(s.X, s.Y, s.workspace);
      },
      state->Y, expected);
}

/// The samples of each call as vectors, if there is one.
template <class Op, class T>
void add_operator(Contestants& contestants, const std::string& name, const Op& op,
                  const Layer<T>& layer, const Matrix<T>& expected) {
  if (layer.batch == 1) add_operator<1>(contestants, name, op, layer, expected);
  else add_operator<Eigen::Dynamic>(contestants, name, op, layer, expected);
}

/// The first value from `from` on that is aligned as the kernels ask of weights.
template <class T>
T* aligned(T* from) {
  while (reinterpret_cast<std::uintptr_t>(from) % 64 != 0) ++from;
  return from;
}

/// The kernel of `Dense` with all that it needs at hand.
template <class T>
void add_kernel(Contestants& contestants, const Layer<T>& layer) {
  struct Arguments {
    std::size_t n;
    std::size_t batch;
    Matrix<T> X, Y, panels, scratch;
  };
  constexpr auto height = Index{kernel::panel_rows};
  const auto n = static_cast<std::size_t>(layer.n);
  const auto batch = static_cast<std::size_t>(layer.batch);
  const auto scratch = static_cast<Index>(kernel::active<T>().dense_scratch(n, n, batch));
  const Index panels = (layer.n + height - 1) / height;
  const auto state = std::make_shared<Arguments>(
      Arguments{n, batch, layer.X, Matrix<T>(layer.n, layer.batch),
                Matrix<T>::Zero(height, panels * layer.n + 64 / height), Matrix<T>(scratch, 1)});
  T* const first = aligned(state->panels.data());
  for (Index row = 0; row < layer.n; ++row)
    for (Index col = 0; col < layer.n; ++col)
      first[(row / height * layer.n + col) * height + row % height] = layer.W(row, col);
  small::add(
      contestants, "kernel",
      [state, first] {
        Arguments& s = *state;
        barrier(&s);
        kernel::active<T>().dense_apply(s.n, s.n, first, s.batch, s.X.data(), s.n, s.Y.data(), s.n,
                                        false, s.scratch.data());
      },
      state->Y, Matrix<T>(layer.W * layer.X));
}

}  // namespace

template <class T>
Contestants pleat_contestants(Structure structure, const Layer<T>& layer) {
  Contestants contestants;
  if (structure == Structure::dense) {
    const Dense<T> op(layer.W);
    const Matrix<T> expected = layer.W * layer.X;
    add_operator(contestants, "Dense", op, layer, expected);
    add_operator(contestants, "AnyOperator", AnyOperator<T>(op), layer, expected);
    add_kernel(contestants, layer);
  }
  if (structure == Structure::semi_structured)
    add_operator(contestants, "SemiStructured", SemiStructured<T>(layer.two_of_four), layer,
                 Matrix<T>(layer.two_of_four * layer.X));
  if (structure == Structure::low_rank)
    add_operator(contestants, "LowRank", LowRank<T>(Dense<T>(layer.U), Dense<T>(layer.V)), layer,
                 Matrix<T>(layer.low_rank() * layer.X));
  if (structure == Structure::armor) {
    const KroneckerPattern diagonal{layer.n / layer.block, layer.block, layer.block, 1};
    const Armor<T> op(KroneckerSparse<T>(layer.diagonal(layer.A), diagonal),
                      SemiStructured<T>(layer.two_of_four),
                      KroneckerSparse<T>(layer.diagonal(layer.B), diagonal));
    add_operator(contestants, "Armor", op, layer, Matrix<T>(layer.armor() * layer.X));
  }
  return contestants;
}
template Contestants pleat_contestants(Structure, const Layer<BENCH_SCALAR>&);

template <class T>
std::string kernel_name() {
  return (*kernel::available<T>().begin())->arch;
}
template std::string kernel_name<BENCH_SCALAR>();

}  // namespace pleat::bench::small
