// SPDX-License-Identifier: MIT
// The one list of operators that the conformance suite runs over. A new structure is one line in
// it.
#pragma once

#include "pleat/core/any_operator.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/factor/structures.hpp"
#include "pleat/factor/transforms.hpp"
#include "support/oracle.hpp"
#include "support/scenarios.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace pleat::test {

/// An operator, and what it must be: the matrix, and what its definition says it stores and costs.
template <class Op>
struct Specimen {
  using Operator = Op;

  Op op;
  Oracle<typename Op::Scalar> oracle;
  std::size_t bytes;
  double flops;
  /// Whether small whole numbers give whole numbers: not where weights are rounded and scaled.
  bool exact = true;
};

// -------------------------------------------------------------------------------------------------
// How a specimen of each kind is made. A structure of the library gets a function here only if one
// line in the list does not hold it.

template <Real T>
Specimen<Dense<T>> dense(Source<T>& source, Index rows, Index cols) {
  const Matrix<T> W = source.matrix(rows, cols);
  const auto size = static_cast<std::size_t>(W.size());
  return {Dense<T>(W), Oracle<T>(W), size * sizeof(T), 2.0 * static_cast<double>(size)};
}

/// What is stored is not what was given: the oracle has the stored values. Of what f16 can hold.
template <Real T, Storage S>
Specimen<Dense<T>> narrow(Source<T>& source, Index rows, Index cols) {
  const Dense<T> op(source.matrix(rows, cols).cwiseMax(T(-60000)).cwiseMin(T(60000)).eval(), S);
  return {op, Oracle<T>(op.to_dense()),
          matrix_bytes(S, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols)),
          2.0 * static_cast<double>(rows) * static_cast<double>(cols), false};
}

/// Bytes of the places of N:M stored as codes.
inline std::size_t code_bytes(Index cols, SparsePattern pattern) {
  const Index bits = pattern.group == 4 ? 2 : pattern.group == 8 ? 3 : pattern.group == 16 ? 4 : 5;
  const Index codes = (cols + pattern.group - 1) / pattern.group * pattern.kept;
  return static_cast<std::size_t>((codes * bits + 7) / 8);
}

/// A matrix of the source with all but N entries in every M of a row set to zero, in turns.
template <Real T>
Specimen<SemiStructured<T>> semi_structured(Source<T>& source, Index rows, Index cols,
                                            SparsePattern pattern = {}) {
  const Index group = pattern.group;
  Matrix<T> W = source.matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if ((k + i + k / group) % group >= pattern.kept) W(i, k) = T(0);
  const auto kept = static_cast<std::size_t>((cols + group - 1) / group * pattern.kept);
  return {SemiStructured<T>(W, pattern), Oracle<T>(W),
          static_cast<std::size_t>(rows) * (kept * sizeof(T) + code_bytes(cols, pattern)),
          2.0 * static_cast<double>(rows) * static_cast<double>(kept)};
}

template <Real T>
Specimen<Diagonal<T>> diagonal(Source<T>& source, Index size) {
  const Matrix<T> d = source.matrix(size, 1);
  return {Diagonal<T>(d.col(0)), Oracle<T>(Matrix<T>(d.col(0).asDiagonal())),
          static_cast<std::size_t>(size) * sizeof(T), 2.0 * static_cast<double>(size)};
}

/// The same permutation for every source: every third entry, or, where that misses some, the last
/// first.
template <Real T>
Specimen<Permutation<T>> permutation(Index size) {
  Matrix<T> W = Matrix<T>::Zero(size, size);
  for (Index i = 0; i < size; ++i) W(i, size % 3 != 0 ? 3 * i % size : size - 1 - i) = T(1);
  return {Permutation<T>(W), Oracle<T>(W), 2 * static_cast<std::size_t>(size), 0.0};
}

/// Blocks of so many along the diagonal, what is left in powers of two, and the same signs for
/// every source or none.
template <Real T>
Specimen<Hadamard<T>> hadamard(Index size, Index largest, bool has_signs) {
  Matrix<T> W = Matrix<T>::Zero(size, size);
  Vector<T> signs = Vector<T>::Ones(size);
  for (Index i = 0; i < size && has_signs; ++i) signs(i) = i * i % 3 == 1 ? T(-1) : T(1);
  double additions = 0;
  for (Index at = 0, block = largest; at < size;) {
    if (block > size - at) {
      block /= 2;
      continue;
    }
    const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(block)));
    for (Index i = 0; i < block; ++i)
      for (Index j = 0; j < block; ++j) {
        const bool is_odd = std::popcount(static_cast<std::uint64_t>(i & j)) % 2 != 0;
        W(at + i, at + j) = (is_odd ? -scale : scale) * signs(at + j);
      }
    additions += static_cast<double>(block) * std::log2(static_cast<double>(block));
    at += block;
  }
  return {has_signs ? Hadamard<T>(size, largest, signs) : Hadamard<T>(size, largest), Oracle<T>(W),
          has_signs ? static_cast<std::size_t>((size + 7) / 8) : 0, additions, false};
}

/// A matrix of the source with what the pattern does not have set to zero. The pattern is for a
/// matrix of so many rows and columns, and may be larger.
template <Real T>
Specimen<KroneckerSparse<T>> kronecker_sparse(Source<T>& source, Index rows, Index cols, Index a,
                                              Index d) {
  const auto size = [&](Index n) { return std::max<Index>(1, (n + a * d - 1) / (a * d)); };
  const KroneckerPattern pattern{a, size(rows), size(cols), d};
  Matrix<T> W = source.matrix(rows, cols);
  std::size_t kept = 0;
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if (i % d == k % d && i / (pattern.b * d) == k / (pattern.c * d)) ++kept;
      else W(i, k) = T(0);
  return {KroneckerSparse<T>(W, pattern), Oracle<T>(W), kept * sizeof(T),
          2.0 * static_cast<double>(kept)};
}

/// The same in narrow storage, of what f16 can hold; the oracle has the stored values.
template <Real T, Storage S>
Specimen<KroneckerSparse<T>> narrow_kronecker_sparse(Source<T>& source, Index rows, Index cols,
                                                     Index a, Index d) {
  const auto exact = kronecker_sparse(source, rows, cols, a, d);
  const KroneckerPattern& pattern = exact.op.pattern();
  const KroneckerSparse<T> op(exact.op.to_dense().cwiseMax(T(-60000)).cwiseMin(T(60000)).eval(),
                              pattern, S);
  std::size_t bytes = level_bytes(S);
  for (Index i = 0; i < rows; ++i) {
    std::size_t entries = 0;
    for (Index k = i % d; k < cols; k += d)
      if (i / (pattern.b * d) == k / (pattern.c * d)) ++entries;
    bytes += row_bytes(S, entries);
  }
  return {op, Oracle<T>(op.to_dense()), bytes, exact.flops, false};
}

/// The product of a specimen in narrow storage and a rotation by such blocks.
template <class Op>
Specimen<Op> rotated(const Specimen<Op>& core, Index block) {
  const auto H = hadamard<typename Op::Scalar>(core.op.cols(), block, true);
  return {core.op.rotated(H.op), core.oracle * H.oracle, core.bytes + H.bytes, core.flops + H.flops,
          false};
}

/// A matrix of the source with about a third of its entries, and no entry in every fifth row.
template <Real T>
Specimen<Csr<T>> csr(Source<T>& source, Index rows, Index cols) {
  Matrix<T> W = source.matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if ((i * i + 2 * k + k * k / 7) % 3 != 0 || i % 5 == 2) W(i, k) = T(0);
  const auto nonzeros = static_cast<std::size_t>((W.array() != T(0)).count());
  return {Csr<T>(W), Oracle<T>(W),
          nonzeros * (sizeof(T) + 2) + 8 * (static_cast<std::size_t>(rows) + 1),
          2.0 * static_cast<double>(nonzeros)};
}

/// A matrix of the source with about half of its blocks of r x c, and none in every fifth block
/// row.
template <Real T>
Specimen<BlockSparse<T>> block_sparse(Source<T>& source, Index rows, Index cols, Index r, Index c) {
  Matrix<T> W = source.matrix(rows, cols);
  Matrix<bool> kept((rows + r - 1) / r, (cols + c - 1) / c);
  for (Index i = 0; i < kept.rows(); ++i)
    for (Index k = 0; k < kept.cols(); ++k)
      kept(i, k) = (i * i + k + k * k / 3) % 2 == 0 && i % 5 != 3;
  std::size_t values = 0;
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if (kept(i / r, k / c)) ++values;
      else W(i, k) = T(0);
  return {BlockSparse<T>(W, r, c, kept), Oracle<T>(W),
          values * sizeof(T) + 2 * static_cast<std::size_t>(kept.count()) +
              4 * static_cast<std::size_t>(kept.rows()),
          2.0 * static_cast<double>(values)};
}

/// The same in narrow storage: the oracle has the stored values. Of what f16 can hold.
template <Real T>
Specimen<BlockSparse<T>> narrow_block_sparse(Source<T>& source, Index rows, Index cols, Index r,
                                             Index c, Storage storage) {
  const auto exact = block_sparse(source, rows, cols, r, c);
  const Matrix<bool> kept = exact.op.kept();
  const BlockSparse<T> op(exact.op.to_dense().cwiseMax(T(-60000)).cwiseMin(T(60000)).eval(), r, c,
                          kept, storage);
  std::size_t bytes = level_bytes(storage) + 2 * static_cast<std::size_t>(kept.count()) +
                      4 * static_cast<std::size_t>(kept.rows());
  for (Index i = 0; i < rows; ++i) {
    std::size_t values = 0;
    for (Index k = 0; k < cols; ++k) values += kept(i / r, k / c) ? 1U : 0U;
    bytes += row_bytes(storage, values);
  }
  return {op, Oracle<T>(op.to_dense()), bytes, exact.flops, false};
}

/// A matrix of the source with `entries` of the entries in every row, as evenly as they get.
template <Real T>
Specimen<RowSparse<T>> row_sparse(Source<T>& source, Index rows, Index cols, Index entries) {
  Matrix<T> W = source.matrix(rows, cols);
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < cols; ++k)
      if ((k + i) % cols * entries % cols >= entries) W(i, k) = T(0);
  const std::size_t columns =
      std::min(2 * static_cast<std::size_t>(entries), static_cast<std::size_t>((cols + 7) / 8));
  return {
      RowSparse<T>(W, entries), Oracle<T>(W),
      static_cast<std::size_t>(rows) * (static_cast<std::size_t>(entries) * sizeof(T) + columns),
      2.0 * static_cast<double>(rows * entries)};
}

/// The same in narrow storage: the oracle has the stored values. Of what f16 can hold.
template <Real T, Storage S>
Specimen<SemiStructured<T>> narrow_semi_structured(Source<T>& source, Index rows, Index cols,
                                                   SparsePattern pattern = {}) {
  const Matrix<T> W = semi_structured(source, rows, cols, pattern).op.to_dense();
  const SemiStructured<T> op(W.cwiseMax(T(-60000)).cwiseMin(T(60000)).eval(), pattern, S);
  const auto kept =
      static_cast<std::size_t>((cols + pattern.group - 1) / pattern.group * pattern.kept);
  return {op, Oracle<T>(op.to_dense()),
          matrix_bytes(S, static_cast<std::size_t>(rows), kept) +
              static_cast<std::size_t>(rows) * code_bytes(cols, pattern),
          2.0 * static_cast<double>(rows) * static_cast<double>(kept), false};
}

/// The inner size of factors for an m x n weight.
inline Index between(Index rows, Index cols) { return (std::min(rows, cols) + 1) / 2; }

template <Real T>
Specimen<LowRank<T>> low_rank(Source<T>& source, Index rows, Index cols) {
  const auto U = dense(source, rows, between(rows, cols));
  const auto V = dense(source, between(rows, cols), cols);
  return {LowRank<T>(U.op, V.op), U.oracle * V.oracle, U.bytes + V.bytes, U.flops + V.flops};
}

/// The same in narrow storage; the oracle has the stored values.
template <Real T, Storage S>
Specimen<LowRank<T>> narrow_low_rank(Source<T>& source, Index rows, Index cols) {
  const auto U = narrow<T, S>(source, rows, between(rows, cols));
  const auto V = narrow<T, S>(source, between(rows, cols), cols);
  return {LowRank<T>(U.op, V.op), U.oracle * V.oracle, U.bytes + V.bytes, U.flops + V.flops, false};
}

/// What f16 can hold, for storages that round.
template <Real T>
Matrix<T> clamped(const Matrix<T>& W, Storage storage) {
  return is_narrow(storage) ? W.cwiseMax(T(-60000)).cwiseMin(T(60000)).eval() : W;
}

/// Two blocks of inputs, block rank 4, and so many classes of outputs: from 16 on the kernels have
/// them in lanes, but not in narrow storage. The oracle has the stored values.
template <Real T>
Specimen<Monarch<T>> monarch(Source<T>& source, Index rows, Index cols, Index classes,
                             Storage storage = native_storage<T>) {
  const Index K = 2;
  const Index t = 4;
  const Index middle = K * t * classes;
  const KroneckerPattern outer{1, std::max<Index>(1, (rows + classes - 1) / classes), K * t,
                               classes};
  const KroneckerPattern inner{K, t * classes, std::max<Index>(1, (cols + K - 1) / K), 1};
  Matrix<T> L = source.matrix(rows, middle);
  for (Index i = 0; i < rows; ++i)
    for (Index k = 0; k < middle; ++k)
      if (i % classes != k % classes) L(i, k) = T(0);
  Matrix<T> R = source.matrix(middle, cols);
  for (Index i = 0; i < middle; ++i)
    for (Index k = 0; k < cols; ++k)
      if (i / inner.b != k / inner.c) R(i, k) = T(0);
  const KroneckerSparse<T> left(clamped(L, storage), outer, storage);
  const KroneckerSparse<T> right(clamped(R, storage), inner, storage);
  const auto values = static_cast<std::size_t>(t * (classes * cols + K * rows));
  const bool narrow = is_narrow(storage);
  return {Monarch<T>(left, right), Oracle<T>(left.to_dense()) * Oracle<T>(right.to_dense()),
          narrow ? left.bytes() + right.bytes() : values * sizeof(T),
          2.0 * static_cast<double>(values), !narrow};
}

/// Three rows of blocks and two columns of them, of such a rank: from 16 on the kernels have the
/// coupling in lanes.
template <Real T>
Specimen<Blast<T>> blast(Source<T>& source, Index rows, Index cols, Index rank) {
  const KroneckerPattern outer{3, std::max<Index>(1, (rows + 2) / 3), rank, 1};
  const KroneckerPattern middle{1, 3, 2, rank};
  const KroneckerPattern inner{2, rank, std::max<Index>(1, (cols + 1) / 2), 1};
  Matrix<T> U = source.matrix(rows, 3 * rank);
  for (Index i = 0; i < U.rows(); ++i)
    for (Index k = 0; k < U.cols(); ++k)
      if (i / outer.b != k / rank) U(i, k) = T(0);
  Matrix<T> S = source.matrix(3 * rank, 2 * rank);
  for (Index i = 0; i < S.rows(); ++i)
    for (Index k = 0; k < S.cols(); ++k)
      if (i % rank != k % rank) S(i, k) = T(0);
  Matrix<T> V = source.matrix(2 * rank, cols);
  for (Index i = 0; i < V.rows(); ++i)
    for (Index k = 0; k < V.cols(); ++k)
      if (i / rank != k / inner.c) V(i, k) = T(0);
  const auto values = static_cast<std::size_t>(rank * (rows + cols + 6));
  return {Blast<T>(KroneckerSparse<T>(U, outer), KroneckerSparse<T>(S, middle),
                   KroneckerSparse<T>(V, inner)),
          Oracle<T>(U) * (Oracle<T>(S) * Oracle<T>(V)), values * sizeof(T),
          2.0 * static_cast<double>(values)};
}

/// Two blocks of columns, one more atom than they are wide, and half as many entries a row; or
/// blocks of 16 columns with 6 entries of 32 atoms, N:M.
template <Real T>
Specimen<BlockDictionary<T>> block_dictionary(Source<T>& source, Index rows, Index cols,
                                              bool lanes = false) {
  const Index block = lanes ? 16 : std::max<Index>(1, (cols + 1) / 2);
  const Index blocks = std::max<Index>(1, (cols + block - 1) / block);
  const Index atoms = lanes ? 32 : block + 1;
  const Index entries = lanes ? 6 : (atoms + 1) / 2;
  const Matrix<T> values = source.matrix(rows, blocks * entries);
  Matrix<Index> columns(rows, blocks * entries);
  Matrix<T> W = Matrix<T>::Zero(rows, blocks * atoms);
  for (Index i = 0; i < rows; ++i) {
    Index stored = 0;
    for (Index k = 0; k < W.cols(); ++k)
      if ((k % atoms + i) % atoms * entries % atoms < entries) {
        W(i, k) = values(i, stored);
        columns(i, stored++) = k;
      }
  }
  const auto C = [&]() -> DictionaryCodes<T> {
    if (lanes) return SemiStructured<T>(W, {entries, atoms});
    return RowSparse<T>(W.cols(), values, columns);
  }();
  Matrix<T> D = source.matrix(blocks * atoms, cols);
  std::size_t kept = 0;
  for (Index i = 0; i < D.rows(); ++i)
    for (Index k = 0; k < cols; ++k)
      if (i / atoms == k / block) ++kept;
      else D(i, k) = T(0);
  return {BlockDictionary<T>(C, KroneckerSparse<T>(D, {blocks, atoms, block, 1})),
          Oracle<T>(W) * Oracle<T>(D), C.bytes() + kept * sizeof(T),
          C.flops() + 2.0 * static_cast<double>(kept)};
}

/// Of codes N of every M atoms, or free ones.
template <Real T>
Specimen<SparseDictionary<T>> sparse_dictionary(Source<T>& source, Index rows, Index cols,
                                                bool lanes) {
  const Index atoms = between(rows, cols) + 3;
  const auto D = dense(source, atoms, cols);
  const auto of = [&](const auto& C) {
    return Specimen<SparseDictionary<T>>{SparseDictionary<T>(C.op, D.op), C.oracle * D.oracle,
                                         C.bytes + D.bytes, C.flops + D.flops};
  };
  if (lanes) return of(semi_structured(source, rows, atoms, {3, 8}));
  return of(row_sparse(source, rows, atoms, (atoms + 1) / 2));
}

/// Of so many columns, and one row less where there is one: the factors need not be of a weight.
template <Real T>
Specimen<Cur<T>> cur(Source<T>& source, Index rows, Index cols) {
  const Index c = between(rows, cols);
  const Index r = std::max(std::min<Index>(c, 1), c - 1);
  const auto C = dense(source, rows, c);
  const auto U = dense(source, c, r);
  const auto R = dense(source, r, cols);
  std::vector<Index> columns;
  for (Index j = 0; j < c; ++j) columns.push_back(cols - 1 - j);
  std::vector<Index> kept;
  for (Index i = 0; i < r; ++i) kept.push_back((i + 1) % rows);
  return {Cur<T>(C.op, U.op, R.op, columns, kept), C.oracle * (U.oracle * R.oracle),
          C.bytes + U.bytes + R.bytes + 2 * static_cast<std::size_t>(c + r),
          C.flops + U.flops + R.flops};
}

/// Of so many terms with left matrices of so many rows and columns, or as many as there are.
template <Real T>
Specimen<Kronecker<T>> kronecker(Source<T>& source, Index rows, Index cols, Index m1, Index n1,
                                 Index terms, Storage storage = native_storage<T>) {
  const auto divided = [](Index n, Index by) { return std::max<Index>(1, (n + by - 1) / by); };
  const KroneckerShape shape{rows, cols, m1, n1, divided(rows, m1), divided(cols, n1), terms};
  const Index m2 = shape.right_rows;
  const Index n2 = shape.right_cols;
  const auto stored = [&](std::pair<Index, Index> size) {
    return Dense<T>(clamped(source.matrix(size.first, size.second), storage), storage);
  };
  const Dense<T> left = stored(shape.left());
  const Dense<T> right = stored(shape.right());
  const Matrix<T> A = left.to_dense();
  const Matrix<T> B = right.to_dense();
  // The products of all matrices that are applied first with as many identities, and of the others,
  // cropped.
  const bool right_first = shape.right_first();
  const Index width = right_first ? n1 * m2 : m1 * n2;
  Matrix<T> first = Matrix<T>::Zero(terms * width, n1 * n2);
  Matrix<T> second = Matrix<T>::Zero(m1 * m2, terms * width);
  for (Index r = 0; r < terms; ++r)
    for (Index i = 0; i < m1; ++i)
      for (Index j = 0; j < n1; ++j)
        for (Index k = 0; k < m2; ++k)
          for (Index l = 0; l < n2; ++l) {
            if (right_first) {
              first(r * width + j * m2 + k, j * n2 + l) = B(r * m2 + k, l);
              second(i * m2 + k, r * width + j * m2 + k) = A(i, r * n1 + j);
            } else {
              first(r * width + i * n2 + l, j * n2 + l) = A(r * m1 + i, j);
              second(i * m2 + k, r * width + i * n2 + l) = B(k, r * n2 + l);
            }
          }
  const auto values = static_cast<std::size_t>(A.size() + B.size());
  const Index adds = right_first ? n1 * m2 * (n2 + m1) : m1 * n2 * (n1 + m2);
  const bool narrow = is_narrow(storage);
  return {Kronecker<T>(shape, left, right),
          Oracle<T>(Matrix<T>(second.topRows(rows))) * Oracle<T>(Matrix<T>(first.leftCols(cols))),
          narrow ? left.bytes() + right.bytes() : values * sizeof(T),
          2.0 * static_cast<double>(terms * adds), !narrow};
}

template <Real T>
Specimen<Armor<T>> armor(Source<T>& source, Index rows, Index cols, Index blocks) {
  const auto A = kronecker_sparse(source, rows, rows, blocks, 1);
  const auto S = semi_structured(source, rows, cols);
  const auto B = kronecker_sparse(source, cols, cols, blocks + 1, 1);
  return {Armor<T>(A.op, S.op, B.op), A.oracle * (S.oracle * B.oracle), A.bytes + S.bytes + B.bytes,
          A.flops + S.flops + B.flops};
}

/// The cosine transform, of what its factors are rounded to: blocks and classes of as even sizes as
/// there are.
template <Real T>
Specimen<Product<Monarch<T>, Permutation<T>>> cosines(Index size) {
  const auto op = dct<T>(size);
  const Monarch<T>& factors = op.template operand<0>();
  Index blocks = 1;
  for (Index divisor = 2; divisor * divisor <= size; ++divisor)
    if (size % divisor == 0) blocks = divisor;
  const auto values = static_cast<std::size_t>(blocks == 1 ? size * (size + 1)
                                                           : 2 * size * (blocks + size / blocks));
  return {op,
          Oracle<T>(factors.left().to_dense()) * (Oracle<T>(factors.right().to_dense()) *
                                                  Oracle<T>(op.template operand<1>().to_dense())),
          values * sizeof(T) + 2 * static_cast<std::size_t>(size),
          2.0 * static_cast<double>(values), false};
}

template <class S>
Specimen<SparseLowRank<typename S::Scalar>> sparse_low_rank(
    std::tuple<Specimen<S>, Specimen<LowRank<typename S::Scalar>>> parts) {
  const auto& [sparse, factors] = parts;
  return {SparseLowRank<typename S::Scalar>(sparse.op, factors.op), sparse.oracle + factors.oracle,
          sparse.bytes + factors.bytes, sparse.flops + factors.flops};
}

/// About a third of the columns of a matrix of the source.
template <Real T>
Specimen<Product<Dense<T>, Csr<T>>> columns(Source<T>& source, Index rows, Index cols) {
  const Index count = (cols + 1) / 3;
  const auto kept = dense(source, rows, count);
  Matrix<T> P = Matrix<T>::Zero(count, cols);
  for (Index i = 0; i < count; ++i) P(i, 3 * i + (3 * i + 1 < cols ? i % 2 : 0)) = T(1);
  const auto size = static_cast<std::size_t>(count);
  return {Product<Dense<T>, Csr<T>>(kept.op, Csr<T>(P)), kept.oracle * Oracle<T>(P),
          kept.bytes + size * (sizeof(T) + 2) + 8 * (size + 1),
          kept.flops + 2.0 * static_cast<double>(count)};
}

/// A type of a user's own, which shares nothing with the library's: row i of the result is a
/// constant times entry i mod n of the input. It has what the concept asks for, and keeps its
/// promises.
template <Real T>
class ScaledCopies {
 public:
  using Scalar = T;

  ScaledCopies(Vector<T> scales, Index cols)
      : scales_(std::make_shared<const Vector<T>>(std::move(scales))), cols_(cols) {}
  ScaledCopies(const ScaledCopies&) = default;
  ScaledCopies& operator=(const ScaledCopies&) = default;
  ~ScaledCopies() = default;

  [[nodiscard]] Index rows() const { return scales_->size(); }
  [[nodiscard]] Index cols() const { return cols_; }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(rows()) * sizeof(T); }
  [[nodiscard]] double flops() const { return 2.0 * static_cast<double>(cols() > 0 ? rows() : 0); }

  void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const { apply(X, Y, thread_workspace()); }
  void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& workspace) const {
    check(X, cols(), Y, rows());
    each_row(workspace, [&](Index i) {
      if (cols() == 0) Y.row(i).setZero();
      else Y.row(i) = (*scales_)(i)*X.row(i % cols());
    });
  }
  void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const {
    apply_add(X, Y, thread_workspace());
  }
  void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& workspace) const {
    check(X, cols(), Y, rows());
    each_row(workspace, [&](Index i) {
      if (cols() > 0) Y.row(i) += (*scales_)(i)*X.row(i % cols());
    });
  }
  void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X) const {
    apply_transpose(Y, X, thread_workspace());
  }
  void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X, Workspace&) const {
    check(Y, rows(), X, cols());
    X.setZero();
    for (Index i = 0; i < rows() && cols() > 0; ++i) X.row(i % cols()) += (*scales_)(i)*Y.row(i);
  }
  [[nodiscard]] Matrix<T> to_dense() const {
    Matrix<T> result = Matrix<T>::Zero(rows(), cols());
    for (Index i = 0; i < rows() && cols() > 0; ++i) result(i, i % cols()) = (*scales_)(i);
    return result;
  }

 private:
  static void check(const ConstMatrixRef<T>& in, Index in_rows, const MatrixRef<T>& out,
                    Index out_rows) {
    const auto shape = [](const auto& m) {
      return std::to_string(m.rows()) + " x " + std::to_string(m.cols());
    };
    if (in.rows() != in_rows || out.rows() != out_rows || in.cols() != out.cols())
      throw std::invalid_argument("ScaledCopies: cannot take " + shape(in) + " to " + shape(out));
    for (Index j = 0; j < in.cols(); ++j)
      for (Index k = 0; k < out.cols(); ++k)
        if (in.rows() > 0 && out.rows() > 0 &&
            std::less<const T*>()(in.col(j).data(), out.col(k).data() + out.rows()) &&
            std::less<const T*>()(out.col(k).data(), in.col(j).data() + in.rows()))
          throw std::invalid_argument("ScaledCopies: the arguments overlap");
  }

  template <class Row>
  void each_row(Workspace& workspace, Row row) const {
    const int tasks = workspace.max_tasks();
    workspace.run(tasks, [&](Index task) {
      for (Index i = task; i < rows(); i += tasks) row(i);
    });
  }

  std::shared_ptr<const Vector<T>> scales_;
  Index cols_;
};

template <Real T>
Specimen<ScaledCopies<T>> scaled_copies(Source<T>& source, Index rows, Index cols) {
  const Matrix<T> scales = source.matrix(rows, 1);
  const ScaledCopies<T> op(scales.col(0), cols);
  return {op, Oracle<T>(op.to_dense()), static_cast<std::size_t>(rows) * sizeof(T),
          cols > 0 ? 2.0 * static_cast<double>(rows) : 0.0};
}

// Tuples, because the elements of a braced list are made from the left, and arguments in any order.

template <class... Ops>
Specimen<Sum<Ops...>> sum(std::tuple<Specimen<Ops>...> terms) {
  return std::apply(
      [](const auto&... term) {
        return Specimen<Sum<Ops...>>{Sum<Ops...>(term.op...), (term.oracle + ...),
                                     (term.bytes + ...), (term.flops + ...)};
      },
      terms);
}

template <class... Ops>
Specimen<Product<Ops...>> product(std::tuple<Specimen<Ops>...> factors) {
  return std::apply(
      [](const auto&... factor) {
        return Specimen<Product<Ops...>>{Product<Ops...>(factor.op...), (factor.oracle * ...),
                                         (factor.bytes + ...), (factor.flops + ...),
                                         (factor.exact && ...)};
      },
      factors);
}

template <class Op>
Specimen<AnyOperator<typename Op::Scalar>> any(Specimen<Op> held) {
  return {held.op, held.oracle, held.bytes, held.flops};
}

// -------------------------------------------------------------------------------------------------
// The list.

/// A name, and how an m x n specimen is made from a source of matrices.
template <class Make>
struct Entry {
  const char* name;
  Make make;
};
template <class Make>
Entry(const char*, Make) -> Entry<Make>;

template <Real T>
auto operator_list() {
  using S = Source<T>&;
  return std::tuple{
      Entry{"Dense", [](S s, Index m, Index n) { return dense(s, m, n); }},
      Entry{"Dense in bf16",
            [](S s, Index m, Index n) { return narrow<T, Storage::bf16>(s, m, n); }},
      Entry{"Dense in f16", [](S s, Index m, Index n) { return narrow<T, Storage::f16>(s, m, n); }},
      Entry{"Dense in int8",
            [](S s, Index m, Index n) { return narrow<T, Storage::int8>(s, m, n); }},
      Entry{"Dense in int4",
            [](S s, Index m, Index n) { return narrow<T, Storage::int4>(s, m, n); }},
      Entry{"Dense in int3",
            [](S s, Index m, Index n) { return narrow<T, Storage::int3>(s, m, n); }},
      Entry{"Dense in int2",
            [](S s, Index m, Index n) { return narrow<T, Storage::int2>(s, m, n); }},
      Entry{"Dense in int4 with fitted levels",
            [](S s, Index m, Index n) { return narrow<T, Storage::int4_fitted>(s, m, n); }},
      Entry{"LowRank", [](S s, Index m, Index n) { return low_rank(s, m, n); }},
      Entry{"LowRank in int8",
            [](S s, Index m, Index n) { return narrow_low_rank<T, Storage::int8>(s, m, n); }},
      Entry{"Armor", [](S s, Index m, Index n) { return armor(s, m, n, 2); }},
      Entry{"SemiStructured", [](S s, Index m, Index n) { return semi_structured(s, m, n); }},
      Entry{
          "SemiStructured in bf16",
          [](S s, Index m, Index n) { return narrow_semi_structured<T, Storage::bf16>(s, m, n); }},
      Entry{"SemiStructured in f16",
            [](S s, Index m, Index n) { return narrow_semi_structured<T, Storage::f16>(s, m, n); }},
      Entry{
          "SemiStructured in int8",
          [](S s, Index m, Index n) { return narrow_semi_structured<T, Storage::int8>(s, m, n); }},
      Entry{
          "SemiStructured in int4",
          [](S s, Index m, Index n) { return narrow_semi_structured<T, Storage::int4>(s, m, n); }},
      Entry{
          "SemiStructured in int2",
          [](S s, Index m, Index n) { return narrow_semi_structured<T, Storage::int2>(s, m, n); }},
      Entry{"SemiStructured in int2 with fitted levels",
            [](S s, Index m, Index n) {
              return narrow_semi_structured<T, Storage::int2_fitted>(s, m, n);
            }},
      Entry{"SemiStructured 1:4",
            [](S s, Index m, Index n) {
              return semi_structured(s, m, n, {1, 4});
            }},
      Entry{"SemiStructured 4:8",
            [](S s, Index m, Index n) {
              return semi_structured(s, m, n, {4, 8});
            }},
      Entry{"SemiStructured 8:16",
            [](S s, Index m, Index n) {
              return semi_structured(s, m, n, {8, 16});
            }},
      Entry{"SemiStructured 3:16",
            [](S s, Index m, Index n) {
              return semi_structured(s, m, n, {3, 16});
            }},
      Entry{"SemiStructured 16:32",
            [](S s, Index m, Index n) {
              return semi_structured(s, m, n, {16, 32});
            }},
      Entry{"SemiStructured 4:8 in bf16",
            [](S s, Index m, Index n) {
              return narrow_semi_structured<T, Storage::bf16>(s, m, n, {4, 8});
            }},
      Entry{"SemiStructured 8:16 in int8",
            [](S s, Index m, Index n) {
              return narrow_semi_structured<T, Storage::int8>(s, m, n, {8, 16});
            }},
      Entry{"SemiStructured 3:16 in int4",
            [](S s, Index m, Index n) {
              return narrow_semi_structured<T, Storage::int4>(s, m, n, {3, 16});
            }},
      Entry{"SemiStructured 16:32 in f16",
            [](S s, Index m, Index n) {
              return narrow_semi_structured<T, Storage::f16>(s, m, n, {16, 32});
            }},
      Entry{"KroneckerSparse, block-diagonal",
            [](S s, Index m, Index n) { return kronecker_sparse(s, m, n, 2, 1); }},
      Entry{"KroneckerSparse, gathered",
            [](S s, Index m, Index n) { return kronecker_sparse(s, m, n, 1, 2); }},
      Entry{"KroneckerSparse, in lanes and a low rank",
            [](S s, Index m, Index n) {
              return sum(std::tuple{kronecker_sparse(s, m, n, 1, 17), low_rank(s, m, n)});
            }},
      Entry{"KroneckerSparse in bf16, gathered",
            [](S s, Index m, Index n) {
              return narrow_kronecker_sparse<T, Storage::bf16>(s, m, n, 2, 3);
            }},
      Entry{"KroneckerSparse in f16, of many",
            [](S s, Index m, Index n) {
              return narrow_kronecker_sparse<T, Storage::f16>(s, m, n, 1, 17);
            }},
      Entry{"KroneckerSparse in int8, block-diagonal",
            [](S s, Index m, Index n) {
              return narrow_kronecker_sparse<T, Storage::int8>(s, m, n, 3, 1);
            }},
      Entry{"KroneckerSparse in int4, block-diagonal",
            [](S s, Index m, Index n) {
              return narrow_kronecker_sparse<T, Storage::int4>(s, m, n, 2, 1);
            }},
      Entry{"Dense in int4, rotated",
            [](S s, Index m, Index n) { return rotated(narrow<T, Storage::int4>(s, m, n), 128); }},
      Entry{"SemiStructured in int8, rotated",
            [](S s, Index m, Index n) {
              return rotated(narrow_semi_structured<T, Storage::int8>(s, m, n), 16);
            }},
      Entry{"KroneckerSparse in int4, rotated",
            [](S s, Index m, Index n) {
              return rotated(narrow_kronecker_sparse<T, Storage::int4>(s, m, n, 2, 1), 32);
            }},
      Entry{"KroneckerSparse, rotated",
            [](S s, Index m, Index n) {
              return rotated(kronecker_sparse(s, m, n, 3, 1), 8);
            }},
      Entry{"Armor, rotated",
            [](S s, Index m, Index n) { return rotated(armor(s, m, n, 2), 128); }},
      Entry{"Dense of permuted inputs",
            [](S s, Index m, Index n) {
              return product(std::tuple{dense(s, m, n), permutation<T>(n)});
            }},
      Entry{"Dense of scaled inputs, scaled and permuted",
            [](S s, Index m, Index n) {
              return product(
                  std::tuple{permutation<T>(m), diagonal(s, m), dense(s, m, n), diagonal(s, n)});
            }},
      Entry{"Dense of rotated inputs",
            [](S s, Index m, Index n) {
              return product(std::tuple{dense(s, m, n), hadamard<T>(n, 16, true)});
            }},
      Entry{"Dense of rotated inputs, rotated",
            [](S s, Index m, Index n) {
              return product(std::tuple{hadamard<T>(m, 64, false), dense(s, m, n)});
            }},
      Entry{"Dense of a cosine transform",
            [](S s, Index m, Index n) {
              return product(std::tuple{dense(s, m, n), cosines<T>(n)});
            }},
      Entry{"Csr", [](S s, Index m, Index n) { return csr(s, m, n); }},
      Entry{"RowSparse of indices",
            [](S s, Index m, Index n) {
              return row_sparse(s, m, n, std::min(n, std::max<Index>(1, n / 16)));
            }},
      Entry{"BlockSparse of 16 x 16",
            [](S s, Index m, Index n) { return block_sparse(s, m, n, 16, 16); }},
      Entry{"BlockSparse of 5 x 3",
            [](S s, Index m, Index n) { return block_sparse(s, m, n, 5, 3); }},
      Entry{"BlockSparse of 24 x 7 in bf16",
            [](S s, Index m, Index n) {
              return narrow_block_sparse(s, m, n, 24, 7, Storage::bf16);
            }},
      Entry{"BlockSparse of 16 x 1 in int8",
            [](S s, Index m, Index n) {
              return narrow_block_sparse(s, m, n, 16, 1, Storage::int8);
            }},
      Entry{"BlockSparse of 5 x 3 in int3",
            [](S s, Index m, Index n) { return narrow_block_sparse(s, m, n, 5, 3, Storage::int3); }},
      Entry{"BlockSparse of 20 x 32 in int4, fitted",
            [](S s, Index m, Index n) {
              return narrow_block_sparse(s, m, n, 20, 32, Storage::int4_fitted);
            }},
      Entry{"RowSparse of masks",
            [](S s, Index m, Index n) { return row_sparse(s, m, n, (n + 1) / 2); }},
      Entry{"Monarch", [](S s, Index m, Index n) { return monarch(s, m, n, 3); }},
      Entry{"Monarch, in lanes", [](S s, Index m, Index n) { return monarch(s, m, n, 16); }},
      Entry{"Monarch in int8",
            [](S s, Index m, Index n) { return monarch(s, m, n, 3, Storage::int8); }},
      Entry{"Blast", [](S s, Index m, Index n) { return blast(s, m, n, 8); }},
      Entry{"Blast, in lanes", [](S s, Index m, Index n) { return blast(s, m, n, 17); }},
      Entry{"BlockDictionary", [](S s, Index m, Index n) { return block_dictionary(s, m, n); }},
      Entry{"BlockDictionary of N:M codes",
            [](S s, Index m, Index n) { return block_dictionary(s, m, n, true); }},
      Entry{"SparseDictionary",
            [](S s, Index m, Index n) { return sparse_dictionary(s, m, n, false); }},
      Entry{"SparseDictionary of N:M codes",
            [](S s, Index m, Index n) { return sparse_dictionary(s, m, n, true); }},
      Entry{"Cur", [](S s, Index m, Index n) { return cur(s, m, n); }},
      Entry{"Kronecker, left first",
            [](S s, Index m, Index n) { return kronecker(s, m, n, 3, 9, 2); }},
      Entry{"Kronecker, right first",
            [](S s, Index m, Index n) { return kronecker(s, m, n, 11, 4, 3); }},
      Entry{"Kronecker in bf16",
            [](S s, Index m, Index n) { return kronecker(s, m, n, 5, 4, 2, Storage::bf16); }},
      Entry{
          "SparseLowRank of N:M",
          [](S s, Index m, Index n) {
            return sparse_low_rank(std::tuple{semi_structured(s, m, n, {3, 8}), low_rank(s, m, n)});
          }},
      Entry{"SparseLowRank of compressed rows",
            [](S s, Index m, Index n) {
              return sparse_low_rank(std::tuple{csr(s, m, n), low_rank(s, m, n)});
            }},
      Entry{"SparseLowRank of columns",
            [](S s, Index m, Index n) {
              return sparse_low_rank(std::tuple{columns(s, m, n), low_rank(s, m, n)});
            }},
      Entry{"SparseLowRank of compressed rows, rotated",
            [](S s, Index m, Index n) {
              return rotated(sparse_low_rank(std::tuple{csr(s, m, n), low_rank(s, m, n)}), 16);
            }},
      Entry{"a user's own", [](S s, Index m, Index n) { return scaled_copies(s, m, n); }},
      Entry{"Sum of one", [](S s, Index m, Index n) { return sum(std::tuple{dense(s, m, n)}); }},
      Entry{"Sum of two",
            [](S s, Index m, Index n) {
              return sum(std::tuple{dense(s, m, n), low_rank(s, m, n)});
            }},
      Entry{"Sum with a user's own",
            [](S s, Index m, Index n) {
              return sum(std::tuple{scaled_copies(s, m, n), low_rank(s, m, n), dense(s, m, n)});
            }},
      Entry{"Product of one",
            [](S s, Index m, Index n) { return product(std::tuple{dense(s, m, n)}); }},
      Entry{"Product of two, through a wide middle",
            [](S s, Index m, Index n) {
              return product(std::tuple{dense(s, m, m + n + 1), dense(s, m + n + 1, n)});
            }},
      Entry{"Product of three",
            [](S s, Index m, Index n) {
              const Index r = between(m, n);
              return product(std::tuple{dense(s, m, r), dense(s, r, r), dense(s, r, n)});
            }},
      Entry{"Product with a user's own",
            [](S s, Index m, Index n) {
              return product(std::tuple{dense(s, m, n), scaled_copies(s, n, n)});
            }},
      Entry{"Product of Products and Sums",
            [](S s, Index m, Index n) {
              return product(std::tuple{
                  dense(s, m, m), product(std::tuple{scaled_copies(s, m, m), low_rank(s, m, n)}),
                  any(sum(std::tuple{scaled_copies(s, n, n), scaled_copies(s, n, n)}))});
            }},
      Entry{"Sum of Products",
            [](S s, Index m, Index n) {
              const Index r = between(m, n);
              return sum(std::tuple{product(std::tuple{dense(s, m, r), dense(s, r, n)}),
                                    product(std::tuple{scaled_copies(s, m, m), dense(s, m, n)})});
            }},
      Entry{"AnyOperator of Dense", [](S s, Index m, Index n) { return any(dense(s, m, n)); }},
      Entry{"AnyOperator of LowRank", [](S s, Index m, Index n) { return any(low_rank(s, m, n)); }},
      Entry{"AnyOperator of a user's own",
            [](S s, Index m, Index n) { return any(scaled_copies(s, m, n)); }},
      Entry{"AnyOperator of a Sum of AnyOperators",
            [](S s, Index m, Index n) {
              return any(sum(std::tuple{any(low_rank(s, m, n)), any(scaled_copies(s, m, n))}));
            }},
  };
}

// -------------------------------------------------------------------------------------------------
// The list with types forgotten, so that a property is compiled once for a scalar and not once for
// an operator: each call goes straight to the same call of the operator.

template <Real T>
struct Subject {
  virtual ~Subject() = default;
  virtual void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const = 0;
  virtual void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& w) const = 0;
  virtual void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const = 0;
  virtual void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& w) const = 0;
  virtual void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X) const = 0;
  virtual void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X, Workspace& w) const = 0;
  /// False where the type has no `reserve`.
  virtual bool reserve(Workspace& w, Index batch) const = 0;
  [[nodiscard]] virtual Index rows() const = 0;
  [[nodiscard]] virtual Index cols() const = 0;
  [[nodiscard]] virtual std::size_t bytes() const = 0;
  [[nodiscard]] virtual double flops() const = 0;
  [[nodiscard]] virtual Matrix<T> to_dense() const = 0;
  [[nodiscard]] virtual std::string describe() const = 0;
  [[nodiscard]] virtual std::string structure() const = 0;  // "custom" for a type that has none
  [[nodiscard]] virtual AnyOperator<T> any() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Subject> copied() const = 0;

  /// A copy that was moved from, and what it was moved to.
  [[nodiscard]] virtual std::array<std::unique_ptr<Subject>, 2> moved() const = 0;

  std::string name;
  Oracle<T> oracle;
  std::size_t expected_bytes = 0;
  double expected_flops = 0;
  bool exact = true;
};

template <LinearOperator Op, Real T = typename Op::Scalar>
struct SubjectOf final : Subject<T> {
  SubjectOf(Op held, const Subject<T>& like) : Subject<T>(like), op(std::move(held)) {}
  SubjectOf(std::string called, Specimen<Op> specimen) : op(std::move(specimen.op)) {
    this->name = std::move(called);
    this->oracle = std::move(specimen.oracle);
    this->expected_bytes = specimen.bytes;
    this->expected_flops = specimen.flops;
    this->exact = specimen.exact;
  }

  void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const override { op.apply(X, Y); }
  void apply(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& w) const override {
    op.apply(X, Y, w);
  }
  void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y) const override { op.apply_add(X, Y); }
  void apply_add(const ConstMatrixRef<T>& X, MatrixRef<T> Y, Workspace& w) const override {
    op.apply_add(X, Y, w);
  }
  void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X) const override {
    op.apply_transpose(Y, X);
  }
  void apply_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T> X, Workspace& w) const override {
    op.apply_transpose(Y, X, w);
  }
  bool reserve(Workspace& w, Index batch) const override {
    if constexpr (ReservesScratch<Op>) op.reserve(w, batch);
    return ReservesScratch<Op>;
  }
  [[nodiscard]] Index rows() const override { return op.rows(); }
  [[nodiscard]] Index cols() const override { return op.cols(); }
  [[nodiscard]] std::size_t bytes() const override { return op.bytes(); }
  [[nodiscard]] double flops() const override { return op.flops(); }
  [[nodiscard]] Matrix<T> to_dense() const override { return op.to_dense(); }
  [[nodiscard]] std::string describe() const override { return pleat::describe(op); }
  [[nodiscard]] std::string structure() const override {
    if constexpr (requires { op.structure(); }) return op.structure();
    else return "custom";
  }
  [[nodiscard]] AnyOperator<T> any() const override { return op; }
  [[nodiscard]] std::unique_ptr<Subject<T>> copied() const override {
    Op copy(op);
    copy = op;
    return std::make_unique<SubjectOf>(copy, *this);
  }
  [[nodiscard]] std::array<std::unique_ptr<Subject<T>>, 2> moved() const override {
    Op from(op);
    Op to(std::move(from));
    return {std::make_unique<SubjectOf>(from, *this), std::make_unique<SubjectOf>(to, *this)};
  }

  Op op;
};

/// Every operator of the list in one shape.
template <Real T>
std::vector<std::unique_ptr<const Subject<T>>> all_subjects(Index rows, Index cols, Pattern pattern,
                                                            std::uint64_t seed) {
  std::vector<std::unique_ptr<const Subject<T>>> result;
  const auto list = operator_list<T>();
  const auto add = [&](const auto& entry) {
    Source<T> source(pattern, seed);
    auto specimen = entry.make(source, rows, cols);
    using Op = typename decltype(specimen)::Operator;
    result.push_back(std::make_unique<SubjectOf<Op>>(entry.name, std::move(specimen)));
  };
  std::apply([&](const auto&... entry) { (add(entry), ...); }, list);
  return result;
}

/// Whether an operator is of type `Op`, or a product with such a factor: not every structure has
/// all shapes.
template <class Op, class Operator>
inline constexpr bool is_or_has = std::same_as<Op, Operator>;
template <class Op, class... Factors>
inline constexpr bool is_or_has<Op, Product<Factors...>> = (is_or_has<Op, Factors> || ...);

template <class Op, class... Entries>
consteval bool listed(std::tuple<Entries...>*) {
  using T = typename Op::Scalar;
  return (is_or_has<Op, typename std::invoke_result_t<decltype(Entries::make), Source<T>&, Index,
                                                      Index>::Operator> ||
          ...);
}

template <class... Ops>
consteval bool all_listed(TypeList<Ops...>*) {
  return (listed<Ops>(static_cast<decltype(operator_list<typename Ops::Scalar>())*>(nullptr)) &&
          ...);
}

static_assert(all_listed(static_cast<Structures<float>*>(nullptr)),
              "a structure of the library is missing from operator_list");
static_assert(all_listed(static_cast<Structures<double>*>(nullptr)),
              "a structure of the library is missing from operator_list");

}  // namespace pleat::test
