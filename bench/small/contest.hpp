// SPDX-License-Identifier: MIT
// One small layer, in every structure, and those who compute it in turns. Sees Eigen alone, so that
// what pleat is measured against need not be compiled again when pleat changes.
#pragma once

#include <Eigen/Core>

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::bench::small {

using Eigen::Index;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

/// What an n x n layer is made of in each structure, and inputs and outputs for it.
template <class T>
struct Layer {
  Layer(Index size, Index samples);

  Index n;
  Index batch;
  Index rank;   // n / 4
  Index block;  // n / 8, but at least 4
  Matrix<T> W;
  Matrix<T> two_of_four;  // W pruned
  Matrix<T> U, V;
  std::vector<Matrix<T>> A, B;  // blocks on the diagonals of the wrappers
  Matrix<T> X;

  // The other matrices that the layer stands for.
  Matrix<T> low_rank() const { return U * V; }
  Matrix<T> armor() const { return diagonal(A) * two_of_four * diagonal(B); }
  Matrix<T> diagonal(const std::vector<Matrix<T>>& blocks) const {
    Matrix<T> whole = Matrix<T>::Zero(n, n);
    for (Index i = 0; i < n / block; ++i)
      whole.block(i * block, i * block, block, block) = blocks[static_cast<std::size_t>(i)];
    return whole;
  }
};

/// Who computes one product; `run(calls)` does it so many times.
struct Contestant {
  std::string name;
  std::function<void(long)> run;
};
using Contestants = std::vector<Contestant>;

/// Tells the compiler that anything may have read and changed what has an address: so each call
/// happens, and none is moved out of the loop.
inline void barrier() { asm volatile("" : : : "memory"); }
inline void barrier(const void* object) { asm volatile("" : : "r"(object) : "memory"); }

/// Adds a contestant, whose calls of `product()` write Y, after it has shown that Y is right.
template <class Product, class Output, class Expected>
void add(Contestants& contestants, std::string name, Product product, Output& Y,
         const Expected& expected) {
  const auto run = [product](long calls) {
    for (long i = 0; i < calls; ++i) {
      product();
      barrier();
    }
  };
  Y.setConstant(typename Output::Scalar(1e30));
  barrier(Y.data());
  run(1);
  if (!((Y - expected).norm() <= 1e-4 * expected.norm()))
    throw std::runtime_error(name + " is wrong");
  contestants.push_back({std::move(name), run});
}

enum class Structure { dense, semi_structured, low_rank, armor };

// Whoever applies the structure. A contestant keeps references to the layer.
template <class T>
Contestants eigen_contestants(Structure structure, const Layer<T>& layer);
template <class T>
Contestants pleat_contestants(Structure structure, const Layer<T>& layer);

/// The kernels of pleat that were compiled: "avx512".
template <class T>
std::string kernel_name();

}  // namespace pleat::bench::small
