// SPDX-License-Identifier: MIT
// What a user of Eigen would write, for sizes known to the program and to the compiler. Compiled
// once for each scalar, BENCH_SCALAR, to use more than one core.
#include "small/contest.hpp"

#include <Eigen/Sparse>

#include <memory>
#include <utility>

namespace pleat::bench::small {
namespace {

template <class T>
using SparseRows = Eigen::SparseMatrix<T, Eigen::RowMajor>;

/// Samples of a batch of one are vectors, which Eigen then has other code for.
template <class T, int batch>
struct Buffers {
  using Samples = Eigen::Matrix<T, Eigen::Dynamic, batch>;
  explicit Buffers(const Layer<T>& layer)
      : X(layer.X), H(layer.rank, layer.batch), G(layer.n, layer.batch), K(G), Y(G) {}
  Samples X, H, G, K, Y;
};

/// One that owns what it needs, and looks it up anew in each call.
template <class State, class Product, class Expected>
void add(Contestants& contestants, std::string name, std::shared_ptr<State> state, Product product,
         const Expected& expected) {
  small::add(
      contestants, std::move(name),
      [state, product] {
        barrier(state.get());
        product(*state);
      },
      state->Y, expected);
}

template <class T, int n, int batch>
struct Fixed {
  Eigen::Matrix<T, n, n> W;
  Eigen::Matrix<T, n, batch> X, Y;
};

template <int n, int batch, class T>
void add_fixed(Contestants& contestants, const Layer<T>& layer) {
  if (layer.n != n || layer.batch != batch) return;
  const auto state = std::make_shared<Fixed<T, n, batch>>();
  state->W = layer.W;
  state->X = layer.X;
  add(
      contestants, "Eigen, fixed sizes", state, [](auto& s) { s.Y.noalias() = s.W * s.X; },
      Matrix<T>(layer.W * layer.X));
}

template <class T, int... n>
void add_fixed(Contestants& contestants, const Layer<T>& layer, std::integer_sequence<int, n...>) {
  (add_fixed<n, 1>(contestants, layer), ...);
  (add_fixed<n, 4>(contestants, layer), ...);
  (add_fixed<n, 64>(contestants, layer), ...);
}

template <int batch, class T>
void add_dynamic(Structure structure, Contestants& contestants, const Layer<T>& layer) {
  const auto state = std::make_shared<Buffers<T, batch>>(layer);
  if (structure == Structure::dense) {
    add(
        contestants, "Eigen", state, [&W = layer.W](auto& s) { s.Y.noalias() = W * s.X; },
        Matrix<T>(layer.W * layer.X));
  }
  if (structure == Structure::low_rank)
    add(
        contestants, "Eigen U (V X)", state,
        [&U = layer.U, &V = layer.V](auto& s) {
          s.H.noalias() = V * s.X;
          s.Y.noalias() = U * s.H;
        },
        Matrix<T>(layer.low_rank() * layer.X));
  if (structure == Structure::armor) {
    const auto apply = [&layer](const auto& core) {
      return [&layer, core](auto& s) {
        const Index b = layer.block;
        Index at = 0;
        for (const Matrix<T>& block : layer.B) {
          s.G.middleRows(at, b).noalias() = block * s.X.middleRows(at, b);
          at += b;
        }
        s.K.noalias() = core * s.G;
        at = 0;
        for (const Matrix<T>& block : layer.A) {
          s.Y.middleRows(at, b).noalias() = block * s.K.middleRows(at, b);
          at += b;
        }
      };
    };
    const Matrix<T> expected = layer.armor() * layer.X;
    const SparseRows<T> sparse = layer.two_of_four.sparseView();
    add(contestants, "Eigen A S B, S sparse", state, apply(sparse), expected);
    add(contestants, "Eigen A S B, S dense", state, apply(layer.two_of_four), expected);
  }
}

}  // namespace

template <class T>
Layer<T>::Layer(Index size, Index samples)
    : n(size),
      batch(samples),
      rank(n / 4),
      block(n / 8 < 4 ? 4 : n / 8),
      W(Matrix<T>::Random(n, n)),
      two_of_four(W),
      U(Matrix<T>::Random(n, rank)),
      V(Matrix<T>::Random(rank, n)),
      X(Matrix<T>::Random(n, batch)) {
  for (Index row = 0; row < n; ++row)
    for (Index group = 0; group < n; group += 4) {
      const Index first = (row + group / 4) % 4;
      two_of_four(row, group + first) = 0;
      two_of_four(row, group + (first + 1 + row % 3) % 4) = 0;
    }
  for (Index i = 0; i < n / block; ++i) {
    A.emplace_back(Matrix<T>::Random(block, block));
    B.emplace_back(Matrix<T>::Random(block, block));
  }
}
template struct Layer<BENCH_SCALAR>;

template <class T>
Contestants eigen_contestants(Structure structure, const Layer<T>& layer) {
  Contestants contestants;
  if (layer.batch == 1) add_dynamic<1>(structure, contestants, layer);
  else add_dynamic<Eigen::Dynamic>(structure, contestants, layer);
  if (structure == Structure::dense)
    add_fixed(contestants, layer, std::integer_sequence<int, 8, 16, 32, 64, 128>());
  return contestants;
}
template Contestants eigen_contestants(Structure, const Layer<BENCH_SCALAR>&);

}  // namespace pleat::bench::small
