// SPDX-License-Identifier: MIT
// Applies every brick and factor, in both scalars or in BRICKS_OF alone: what a compiler may warn
// of is in here.
#include <pleat/core/compose.hpp>
#include <pleat/factor/armor.hpp>
#include <pleat/factor/block_dictionary.hpp>
#include <pleat/factor/low_rank.hpp>
#include <pleat/factor/monarch.hpp>
#include <pleat/factor/transforms.hpp>
#include <pleat/matrix/block_sparse.hpp>
#include <pleat/matrix/csr.hpp>
#include <pleat/matrix/dense.hpp>
#include <pleat/matrix/diagonal.hpp>
#include <pleat/matrix/hadamard.hpp>
#include <pleat/matrix/kronecker_sparse.hpp>
#include <pleat/matrix/permutation.hpp>
#include <pleat/matrix/row_sparse.hpp>
#include <pleat/matrix/semi_structured.hpp>

#include <vector>

namespace {

/// Whether all of an operator's results are numbers.
template <class Op>
bool works(const Op& op) {
  using Matrix = pleat::Matrix<typename Op::Scalar>;
  for (const Eigen::Index batch : {1, 3, 40}) {
    const Matrix X = Matrix::Ones(op.cols(), batch);
    Matrix Y(op.rows(), batch);
    op.apply(X, Y);
    op.apply_add(X, Y);
    Matrix back(op.cols(), batch);
    op.apply_transpose(Y, back);
    if (!back.allFinite()) return false;
  }
  return op.to_dense().allFinite() && op.bytes() > 0;
}

template <class T>
bool all_work() {
  using pleat::Dense;
  using pleat::SemiStructured;
  using Matrix = pleat::Matrix<T>;
  const Matrix W = Matrix::Ones(20, 24);
  Matrix S = W;
  for (Eigen::Index i = 0; i < S.cols(); i += 2) S.col(i).setZero();
  bool fine = works(Dense<T>(W)) && works(SemiStructured<T>(S));
  for (const pleat::Storage storage :
       {pleat::Storage::bf16, pleat::Storage::f16, pleat::Storage::int8, pleat::Storage::int4,
        pleat::Storage::int3, pleat::Storage::int2})
    fine = fine && works(Dense<T>(W, storage)) && works(SemiStructured<T>(S, storage));
  const pleat::KroneckerSparse<T> A(20, 20, {5, 4, 4, 1}, pleat::Vector<T>::Ones(80));
  const pleat::KroneckerSparse<T> B(24, 24, {6, 4, 4, 1}, pleat::Vector<T>::Ones(96));
  const pleat::KroneckerSparse<T> L(20, 24, {1, 5, 6, 4}, pleat::Vector<T>::Ones(120));
  const pleat::KroneckerSparse<T> R(24, 24, {3, 8, 8, 1}, pleat::Vector<T>::Ones(192));
  return fine && works(pleat::BlockSparse<T>(S, 16, 4)) && works(pleat::Csr<T>(S)) &&
         works(pleat::RowSparse<T>(S, 12)) && works(A) &&
         works(pleat::Diagonal<T>(pleat::Vector<T>::Ones(7))) &&
         works(pleat::Hadamard<T>::with_random_signs(100, 32, 1)) && works(pleat::dct<T>(36)) &&
         works(pleat::real_dft<T>(36)) && works(pleat::haar<T>(32)) &&
         works(pleat::circulant(pleat::Vector<T>::Ones(300))) &&
         works(pleat::Permutation<T>(std::vector<Eigen::Index>{2, 0, 1})) &&
         works(pleat::LowRank<T>(Dense<T>(W), Dense<T>(Matrix(W.transpose())))) &&
         works(pleat::Monarch<T>(L, R)) && works(pleat::Armor<T>(A, SemiStructured<T>(S), B)) &&
         works(pleat::Sum(Dense<T>(W), SemiStructured<T>(S))) &&
         works(pleat::Product(A, Dense<T>(W)));
}

}  // namespace

#ifdef BRICKS_OF
int main() { return all_work<BRICKS_OF>() ? 0 : 1; }
#else
int main() { return all_work<float>() && all_work<double>() ? 0 : 1; }
#endif
