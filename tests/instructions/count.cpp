// SPDX-License-Identifier: MIT
// Runs every hot kernel once for callgrind, which writes the number of its instructions under the
// name of the case. A new case is one line in main.
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/block_sparse.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/row_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <initializer_list>
#include <iostream>
#include <string>
#include <valgrind/callgrind.h>

namespace pleat::test {
namespace {

/// Values that every storage holds, none of them zero: no kernel looks at them, but encoders do.
template <class Keep>
Matrix<float> matrix_of(Index rows, Index cols, Keep keep) {
  return Matrix<float>::NullaryExpr(rows, cols, [&](Index i, Index j) {
    return keep(i, j) ? static_cast<float>((3 * i + 5 * j) % 7 + 1) : 0.0F;
  });
}

Matrix<float> matrix_of(Index rows, Index cols) {
  return matrix_of(rows, cols, [](Index, Index) { return true; });
}

Matrix<float> kronecker_matrix(const KroneckerPattern& p) {
  return matrix_of(p.a * p.b * p.d, p.a * p.c * p.d, [&](Index i, Index j) {
    return i % p.d == j % p.d && i / (p.b * p.d) == j / (p.c * p.d);
  });
}

/// Counts one `apply` for each batch. Both calls before it are for the memory of the workspace, and
/// for the linker, which looks up what the first call needs of other libraries.
template <class Op>
void count(const std::string& name, const Op& op, std::initializer_list<Index> batches) {
  for (const Index batch : batches) {
    const Matrix<float> X = matrix_of(op.cols(), batch);
    Matrix<float> Y(op.rows(), batch);
    Workspace workspace;
    op.apply(X, Y, workspace);
    op.apply(X, Y, workspace);
    const std::string title = name + "_batch_" + std::to_string(batch);
    CALLGRIND_ZERO_STATS;
    op.apply(X, Y, workspace);
    CALLGRIND_DUMP_STATS_AT(title.c_str());
  }
}

void count_all() {
  // More columns than a block of the kernels has, and panels that are no multiple of a tile.
  const Matrix<float> W = matrix_of(272, 1040);
  count("dense", Dense<float>(W), {1, 4, 12, 16, 64});
  count("dense_bf16", Dense<float>(W, Storage::bf16), {1, 64});
  count("dense_f16", Dense<float>(W, Storage::f16), {1, 64});
  count("dense_int8", Dense<float>(W, Storage::int8), {1, 64});
  count("dense_int4", Dense<float>(W, Storage::int4), {1, 64});
  count("dense_int4_fitted", Dense<float>(W, Storage::int4_fitted), {1, 64});
  const auto by_int8 = [&](Storage storage) {
    return Dense<float>(W, storage).with_activations(Activations::int8);
  };
  count("dense_int8_by_int8", by_int8(Storage::int8), {1, 64});
  count("dense_int4_by_int8", by_int8(Storage::int4), {1, 64});
  count("dense_int4_fitted_by_int8", by_int8(Storage::int4_fitted), {1, 64});
  const auto two_of_four = [](Index i, Index j) { return (i + j + j / 4) % 4 < 2; };
  const Matrix<float> S = matrix_of(272, 1040, two_of_four);
  count("semi_structured", SemiStructured<float>(S), {1, 4, 64});
  count("semi_structured_int8", SemiStructured<float>(S, Storage::int8), {1, 64});
  const Matrix<float> S8 = matrix_of(272, 1040, [](Index i, Index j) { return (i + j) % 8 < 4; });
  count("semi_structured_4_of_8", SemiStructured<float>(S8, {4, 8}), {1, 4, 64});
  const Matrix<float> S6 =
      matrix_of(272, 1040, [](Index i, Index j) { return (i + j % 32) % 32 < 6; });
  count("semi_structured_6_of_32", SemiStructured<float>(S6, {6, 32}), {1, 4, 64});
  const auto one_of_eight = [](Index i, Index j) { return (3 * i + j) % 8 == 0; };
  const Matrix<float> R = matrix_of(272, 1040, one_of_eight);
  count("csr", Csr<float>(R), {1, 4, 64});
  count("row_sparse", RowSparse<float>(S, 520), {1, 64});
  const KroneckerPattern blocks{16, 16, 32, 1};
  count("kronecker_sparse_d_1", KroneckerSparse<float>(kronecker_matrix(blocks), blocks), {1, 16});
  const auto kept_block = [](Index i, Index j) { return (i / 16 + j / 16) % 3 == 0; };
  count("block_sparse", BlockSparse<float>(matrix_of(272, 1040, kept_block), 16, 16), {1, 4, 64});
  count("hadamard", Hadamard<float>(1024), {1, 16});
  const KroneckerPattern lanes{2, 4, 8, 64};
  count("kronecker_sparse_d_64", KroneckerSparse<float>(kronecker_matrix(lanes), lanes), {1, 16});
}

}  // namespace
}  // namespace pleat::test

/// count <table of kernels that must be reached>
int main(int argc, char** argv) {
  const std::string reached = pleat::kernel::active<float>().arch;
  if (argc != 2 || reached != argv[1]) {
    std::cerr << "The kernels are those for " << reached << '\n';
    return 1;
  }
  pleat::test::count_all();
  return 0;
}
