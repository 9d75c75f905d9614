// SPDX-License-Identifier: MIT
// The registry of kernels. A new one is one more entry of the list at the end.
#include "kernels.hpp"

#include "pleat/core/compose.hpp"
#include "pleat/factor/armor.hpp"
#include "pleat/factor/blast.hpp"
#include "pleat/factor/block_dictionary.hpp"
#include "pleat/factor/kronecker.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/factor/sparse_dictionary.hpp"
#include "pleat/factor/sparse_low_rank.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/block_sparse.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/row_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace pleat::bench {
namespace {

using Eigen::MatrixXf;

/// The same values for the same shape in every run.
MatrixXf random_matrix(Index rows, Index cols) {
  std::srand(1);
  return MatrixXf::Random(rows, cols);
}

/// So many values in every row, at random places.
MatrixXf random_rows(Index rows, Index cols, Index row_entries) {
  MatrixXf W = random_matrix(rows, cols);
  std::mt19937 generator(1);
  for (Index i = 0; i < rows; ++i) {
    Index left = row_entries;
    for (Index k = 0; k < cols; ++k)
      if (static_cast<Index>(generator() % static_cast<std::uint64_t>(cols - k)) < left) --left;
      else W(i, k) = 0;
  }
  return W;
}

/// The product of matrices, by plain means.
MatrixXf product(const MatrixXf& X) { return X; }
template <class First, class... Rest>
MatrixXf product(const MatrixXf& X, const First& first, const Rest&... rest) {
  return first.to_dense() * product(X, rest...);
}

/// A brick is measured against the matrix that it says it is,
template <class Brick>
Subject subject(Brick brick) {
  auto exact = [brick](const MatrixXf& X) { return product(X, brick); };
  return {std::move(brick), exact};
}

/// and so is a product of some.
template <class Op, class... Factors>
Subject subject(Op op, Factors... factors) {
  auto exact = [factors...](const MatrixXf& X) { return product(X, factors...); };
  return {std::move(op), exact};
}

Subject dense(Shape shape) { return subject(Dense<float>(random_matrix(shape.rows, shape.cols))); }

template <Storage storage>
Dense<float> narrow_brick(Index rows, Index cols) {
  constexpr double most =  // relative error that rounding may cause
      storage == Storage::bf16   ? 4e-3
      : storage == Storage::f16  ? 5e-4
      : storage == Storage::int8 ? 1e-2
                                 : 0.15;
  const MatrixXf W = random_matrix(rows, cols);
  const Dense<float> brick(W, storage);
  if (!((brick.to_dense() - W).norm() <= most * W.norm()))
    throw std::runtime_error("Dense is too far from its matrix in " +
                             std::string(to_string(storage)));
  return brick;
}

template <Storage storage>
Subject narrow(Shape shape) {
  return subject(narrow_brick<storage>(shape.rows, shape.cols));
}

/// Half of a quantum is 1 / 254 of the largest of 64 inputs, or 2^-9 of each.
constexpr double rounding_of(Activations activations) {
  return activations == Activations::int8 ? 1e-2 : activations == Activations::bf16 ? 3e-3 : 1e-4;
}

/// The same, meeting activations that it rounds as it runs.
template <Storage storage, Activations activations>
Subject rounding(Shape shape) {
  Subject result =
      subject(narrow_brick<storage>(shape.rows, shape.cols).with_activations(activations));
  result.rounding = rounding_of(activations);
  return result;
}

/// N of every M columns, drawn at random.
MatrixXf n_of_m(Shape shape, SparsePattern pattern) {
  MatrixXf W = random_matrix(shape.rows, shape.cols);
  std::mt19937 generator(1);
  for (Index i = 0; i < shape.rows; ++i)
    for (Index first = 0; first < shape.cols; first += pattern.group) {
      Index wanted = pattern.kept;
      for (Index k = 0; k < pattern.group && first + k < shape.cols; ++k) {
        const auto left = static_cast<std::uint32_t>(pattern.group - k);
        if (static_cast<Index>(generator() % left) < wanted) --wanted;
        else W(i, first + k) = 0;
      }
    }
  return W;
}

template <Index kept, Index group>
Subject semi_structured(Shape shape) {
  return subject(SemiStructured<float>(n_of_m(shape, {kept, group}), {kept, group}));
}

/// 59 % of the bytes of a 4096 x 4096 matrix, and no more of others.
Subject armor(Shape shape) {
  const Index block = shape.rows * shape.cols / (shape.rows + shape.cols) / 16 / 16 * 16;
  const auto wrapper = [block](Index size) {
    const Index blocks = (size + block - 1) / block;
    const Vector<float> values = random_matrix(blocks * block * block, 1);
    return KroneckerSparse<float>(size, size, {blocks, block, block, 1}, values);
  };
  const KroneckerSparse<float> A = wrapper(shape.rows);
  const SemiStructured<float> S(n_of_m(shape, {2, 4}));
  const KroneckerSparse<float> B = wrapper(shape.cols);
  return subject(Armor<float>(A, S, B), A, S, B);
}

Subject low_rank(Shape shape) {
  const Index rank = shape.rows * shape.cols / (shape.rows + shape.cols) / 2;
  const Dense<float> U(random_matrix(shape.rows, rank));
  const Dense<float> V(random_matrix(rank, shape.cols));
  return subject(LowRank<float>(U, V), U, V);
}

/// As many parameters, in int8, both of whose factors round what they take.
Subject low_rank_int8(Shape shape) {
  const Index rank = shape.rows * shape.cols / (shape.rows + shape.cols) / 2;
  const auto factor = [](Index rows, Index cols) {
    return narrow_brick<Storage::int8>(rows, cols).with_activations(Activations::int8);
  };
  const Dense<float> U = factor(shape.rows, rank);
  const Dense<float> V = factor(rank, shape.cols);
  Subject result = subject(LowRank<float>(U, V), U, V);
  result.rounding = 2 * rounding_of(Activations::int8);
  return result;
}

Subject csr_90(Shape shape) {
  const MatrixXf W = random_matrix(shape.rows, shape.cols);
  return subject(Csr<float>(MatrixXf((W.array().abs() > 0.9F).select(W, 0))));
}

Subject csr_50(Shape shape) {
  return subject(Csr<float>(random_rows(shape.rows, shape.cols, shape.cols / 2)));
}

Subject row_sparse_50(Shape shape) {
  const Index row_entries = shape.cols / 2;
  return subject(RowSparse<float>(random_rows(shape.rows, shape.cols, row_entries), row_entries));
}

/// Half of the bytes, codes and places and dictionaries together.
BlockDictionary<float> half_block_dictionary(Shape shape) {
  constexpr Index atoms = 32;
  constexpr Index block = 14;
  const Index blocks = (shape.cols + block - 1) / block;
  const SemiStructured<float> C(n_of_m({shape.rows, blocks * atoms}, {6, atoms}), {6, atoms});
  const Vector<float> values = random_matrix(blocks * atoms * block, 1);
  const KroneckerSparse<float> D(blocks * atoms, shape.cols, {blocks, atoms, block, 1}, values);
  return {C, D};
}
Subject block_dictionary(Shape shape) {
  const BlockDictionary<float> op = half_block_dictionary(shape);
  return subject(op, op.codes(), op.dictionaries());
}

/// Of that shape in int8, whose codes round what they take.
Subject block_dictionary_int8(Shape shape) {
  const BlockDictionary<float> whole = half_block_dictionary(shape);
  const auto C = whole.codes().get_if<SemiStructured<float>>()->stored_as(Storage::int8);
  const BlockDictionary<float> op(C.with_activations(Activations::int8),
                                  whole.dictionaries().stored_as(Storage::int8));
  Subject result = subject(op, op.codes(), op.dictionaries());
  result.rounding = rounding_of(Activations::int8);
  return result;
}

/// The same, with 8 of every 16 of as many atoms as that leaves room for.
Subject sparse_dictionary(Shape shape) {
  const double m = static_cast<double>(shape.rows);
  const double n = static_cast<double>(shape.cols);
  const Index atoms = static_cast<Index>(2 * m * n / (2.25 * m + 4 * n)) / 16 * 16;
  const SemiStructured<float> C(n_of_m({shape.rows, atoms}, {8, 16}), {8, 16});
  const Dense<float> D(random_matrix(atoms, shape.cols));
  return subject(SparseDictionary<float>(C, D), C, D);
}

/// 8:16, stored as masks, and a low rank beside: 57.5 % of the bytes.
Subject sparse_low_rank(Shape shape) {
  const Index rank =
      std::max<Index>(1, 44 * shape.rows * shape.cols / (shape.rows + shape.cols) / 1000);
  const SemiStructured<float> S(n_of_m(shape, {8, 16}), {8, 16}, Places::masks);
  const Dense<float> U(random_matrix(shape.rows, rank));
  const Dense<float> V(random_matrix(rank, shape.cols));
  const SparseLowRank<float> op(S, LowRank<float>(U, V));
  return {op, [=](const MatrixXf& X) { return MatrixXf(product(X, S) + product(X, U, V)); }};
}

Subject monarch(Shape shape) {
  const KroneckerPattern patterns[] = {{1, 64, 64, 64}, {64, 64, 64, 1}};
  const Vector<float> values = random_matrix(shape.rows * 64, 1);
  const KroneckerSparse<float> left(shape.rows, shape.cols, patterns[0], values);
  const KroneckerSparse<float> right(shape.rows, shape.cols, patterns[1], values.reverse());
  return subject(Product(left, right), left, right);
}

/// 8 x 8 blocks, of a rank that is a multiple of 16 if there is one: half of the bytes.
Subject blast(Shape shape) {
  constexpr Index blocks = 8;
  const Index most =
      std::max<Index>(1, shape.rows * shape.cols / (shape.rows + shape.cols + blocks * blocks) / 2);
  const Index rank = most < 16 ? most : most / 16 * 16;
  const BlastSizes sizes{blocks,
                         blocks,
                         (shape.rows + blocks - 1) / blocks,
                         (shape.cols + blocks - 1) / blocks,
                         rank,
                         shape.rows,
                         shape.cols};
  const Vector<float> B = random_matrix(blocks * sizes.height * rank, 1);
  const Vector<float> C = random_matrix(blocks * sizes.width * rank, 1);
  const Vector<float> D = random_matrix(blocks * blocks * rank, 1);
  const auto op = Blast<float>::from_factors(B, C, D, sizes);
  return subject(op, op.left(), op.coupling(), op.right());
}

/// The rotation of the inputs of a dense matrix: the ratio to dense is what share of its time that
/// takes.
Subject hadamard(Shape shape) {
  return subject(Hadamard<float>::with_random_signs(shape.cols, 128, 1));
}

/// Half of the blocks of 16 x 16, in places that have no order.
Subject block_sparse(Shape shape) {
  const MatrixXf W = random_matrix(shape.rows, shape.cols);
  Matrix<bool> kept((shape.rows + 15) / 16, (shape.cols + 15) / 16);
  const MatrixXf places = random_matrix(kept.rows(), kept.cols());
  kept = (places.array() > 0).matrix();
  return subject(BlockSparse<float>(W, 16, 16, kept));
}

/// Four terms of 64 x 64 matrices: an eighth of the multiply-adds.
Subject kronecker(Shape shape) {
  const KroneckerShape sizes{shape.rows, shape.cols, 64, 64, shape.rows / 64, shape.cols / 64, 4};
  const auto brick = [](std::pair<Index, Index> size) {
    return Dense<float>(random_matrix(size.first, size.second));
  };
  const Kronecker<float> op(sizes, brick(sizes.left()), brick(sizes.right()));
  return {op, [=, left = op.left_terms(), right = op.right_terms()](const MatrixXf& X) {
            MatrixXf Y = MatrixXf::Zero(sizes.rows, X.cols());
            for (Index j = 0; j < X.cols(); ++j) {
              const auto in = X.col(j).reshaped(sizes.right_cols, sizes.left_cols);
              for (std::size_t r = 0; r < left.size(); ++r)
                Y.col(j).reshaped(sizes.right_rows, sizes.left_rows) +=
                    right[r] * in * left[r].transpose();
            }
            return Y;
          }};
}

/// Whether a dense matrix of floats is read from memory, and not from a cache.
bool from_memory(Shape shape) { return shape.rows * shape.cols >= Index{4096} * 4096; }

Goal dense_goal(Shape, Index batch, double) {
  return {batch == 1 ? 1.1 : batch <= 8 ? 1.5 : batch <= 16 ? 1.2 : batch <= 32 ? 1.05 : 1.0};
}

Goal semi_structured_goal(Shape shape, Index batch, double) {
  if (batch == 1) return {from_memory(shape) ? 1.8 : 1.9};
  if (batch <= 8) return {from_memory(shape) ? 2.5 : 1.5};
  return {batch >= 64 ? 1.4 : from_memory(shape) ? 1.5 : 1.2};
}

Goal armor_goal(Shape shape, Index batch, double) {
  if (batch == 1) return {from_memory(shape) ? 1.55 : 0};
  return {batch >= 64 ? 1.35 : 0};
}

Goal low_rank_goal(Shape, Index batch, double) { return {batch == 1 ? 2.0 : 1.8}; }

Goal csr_90_goal(Shape shape, Index batch, double) {
  return {batch >= 64 && shape.rows * shape.cols >= Index{1536} * 512 ? 4.0 : 0};
}

Goal sparse_50_goal(Shape, Index batch, double) { return {batch >= 64 ? 1.3 : 0}; }

/// Half of the bytes and flops: twice as fast, but for what it costs to look up.
Goal dictionary_goal(Shape shape, Index batch, double) {
  if (batch == 1) return {from_memory(shape) ? 1.8 : 0};
  return {batch >= 64 ? 1.4 : 1.5};
}

Goal sparse_low_rank_goal(Shape, Index batch, double) { return {batch >= 64 ? 1.2 : 0}; }

Goal blast_goal(Shape, Index batch, double) {
  return {batch == 1 || batch == 64 ? 1.7 : batch > 64 ? 1.5 : 0};
}

Goal block_sparse_goal(Shape, Index batch, double) {
  return {batch >= 64 ? 1.6 : batch >= 16 ? 1.8 : 0};
}

Goal monarch_goal(Shape, Index batch, double) {
  if (batch == 1) return {80};
  return batch >= 64 ? Goal{24, 0.6} : Goal{};
}

/// A twentieth of the time of the dense product that follows.
Goal hadamard_goal(Shape, Index batch, double) { return {batch >= 64 ? 20.0 : 0}; }

Goal kronecker_goal(Shape, Index batch, double) {
  return {batch == 1 ? 30 : batch == 16 ? 7 : batch >= 64 ? 5.5 : 0};
}

/// Of 16 bits, where only bytes count.
Goal half_goal(Shape shape, Index batch, double) {
  return {batch == 1 && from_memory(shape) ? 1.8 : 0};
}

/// Of integers: as much, and then as fast as `Dense`, but for a tenth.
Goal integer_goal(Shape shape, Index batch, double dense, double from_memory_goal) {
  if (batch >= 64) return {0.9 * dense};
  return {batch == 1 && from_memory(shape) ? from_memory_goal : 0};
}
Goal int8_goal(Shape shape, Index batch, double dense) {
  return integer_goal(shape, batch, dense, 3.0);
}
Goal int4_goal(Shape shape, Index batch, double dense) {
  return integer_goal(shape, batch, dense, 4.5);
}

/// What rounded activations should reach with the dot products of the kernels: for one sample of
/// weights in a cache and in memory, few samples, from 16 on, and many.
struct DotGoal {
  double one;
  double one_from_memory;
  double few;
  double some;
  double many;

  [[nodiscard]] Goal of(Shape shape, Index batch) const {
    if (batch == 1) return {from_memory(shape) ? one_from_memory : one};
    return {batch < 16 ? few : batch < 512 ? some : many};
  }
};

/// By the dot products of the kernels; of others than these nothing is asked.
Goal integer_dot_goal(Shape shape, Index batch, const DotGoal& avx2, const DotGoal& avx512_vnni) {
  const std::string_view arch = kernel::active<float>().arch;
  if (arch == "fma3+avx2") return avx2.of(shape, batch);
  return arch.starts_with("avx512+vnni") ? avx512_vnni.of(shape, batch) : Goal{};
}

constexpr DotGoal int8_on_avx2{2.4, 0, 1.5, 1.35, 1.35};

Goal int8_int16_goal(Shape shape, Index batch, double) {
  return integer_dot_goal(shape, batch, int8_on_avx2, {3.2, 3.7, 1.75, 1.7, 1.7});
}
Goal int8_int8_goal(Shape shape, Index batch, double) {
  return integer_dot_goal(shape, batch, int8_on_avx2, {4.0, 3.7, 3.2, 3.2, 3.1});
}
Goal int4_int8_goal(Shape shape, Index batch, double) {
  return integer_dot_goal(shape, batch, {3.6, 0, 2.2, 1.95, 1.95}, {5.5, 7.3, 2.9, 2.8, 2.8});
}
Goal bf16_bf16_goal(Shape shape, Index batch, double) {
  constexpr DotGoal goal{1.9, 2.1, 1.95, 1.9, 1.85};
  const bool has_bf16 = kernel::active<float>().dots == kernel::DotProducts::int8_bf16;
  return has_bf16 ? goal.of(shape, batch) : Goal{};
}
Goal no_goal(Shape, Index, double) { return {}; }
Goal low_rank_int8_goal(Shape shape, Index batch, double) {
  return integer_dot_goal(shape, batch, {}, {8.8, 0, 6.2, 5.9, 5.9});
}

/// A row of weights whose numbers other libraries multiply as well.
Kernel narrow_kernel(const char* name, const char* numbers, decltype(Kernel::make) make,
                     decltype(Kernel::goal) goal) {
  return {name, make, goal, {}, {0, 0}, numbers};
}

}  // namespace

const std::vector<Kernel>& kernels() {
  using enum Storage;
  static const std::vector<Kernel> all = {
      {"Dense", dense, dense_goal},
      narrow_kernel("Dense bf16, activations native", "bf16", narrow<bf16>, half_goal),
      narrow_kernel("Dense bf16, activations bf16", "bf16", rounding<bf16, Activations::bf16>,
                    bf16_bf16_goal),
      {"Dense f16", narrow<f16>, half_goal},
      narrow_kernel("Dense int8, activations native", "int8", narrow<int8>, int8_goal),
      narrow_kernel("Dense int8, activations int16", "int8", rounding<int8, Activations::int16>,
                    int8_int16_goal),
      narrow_kernel("Dense int8, activations int8", "int8", rounding<int8, Activations::int8>,
                    int8_int8_goal),
      narrow_kernel("Dense int4, activations native", "int8", narrow<int4>, int4_goal),
      narrow_kernel("Dense int4, activations int8", "int8", rounding<int4, Activations::int8>,
                    int4_int8_goal),
      {"SemiStructured 2:4", semi_structured<2, 4>, semi_structured_goal, "2:4"},
      {"SemiStructured 4:8", semi_structured<4, 8>, semi_structured_goal, "2:4"},
      {"SemiStructured 8:16", semi_structured<8, 16>, semi_structured_goal, "2:4"},
      {"Armor 59 %", armor, armor_goal},
      {"LowRank 50 %", low_rank, low_rank_goal},
      narrow_kernel("LowRank 50 %, int8, activations int8", "int8", low_rank_int8,
                    low_rank_int8_goal),
      narrow_kernel("BlockDictionary 50 %, int8, activations int8", "int8", block_dictionary_int8,
                    no_goal),
      {"Csr 90 % zeros", csr_90, csr_90_goal, "90 % zeros"},
      {"Csr 50 % zeros", csr_50, sparse_50_goal, "50 % zeros"},
      {"RowSparse 50 % zeros", row_sparse_50, sparse_50_goal, "50 % zeros"},
      {"BlockDictionary 50 %", block_dictionary, dictionary_goal},
      {"SparseDictionary 50 %", sparse_dictionary, dictionary_goal},
      {"BlockSparse 16 x 16, 50 %", block_sparse, block_sparse_goal},
      {"SparseLowRank 57 %", sparse_low_rank, sparse_low_rank_goal},
      {"Blast 50 %", blast, blast_goal},
      {"Monarch 64 x (64 x 64)", monarch, monarch_goal, {}, {4096, 4096}},
      {"Hadamard 128", hadamard, hadamard_goal, {}, {4096, 4096}},
      {"Kronecker 4 x (64 x 64)", kronecker, kronecker_goal, {}, {4096, 4096}},
  };
  return all;
}

}  // namespace pleat::bench
