// SPDX-License-Identifier: MIT
// What is a LinearOperator and what is not, as the compiler sees it.
#include "pleat/core/any_operator.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/factor/structures.hpp"

#include <cstddef>
#include <type_traits>

namespace {

using pleat::AnyOperator;
using pleat::ConstMatrixRef;
using pleat::Dense;
using pleat::Index;
using pleat::LinearOperator;
using pleat::LowRank;
using pleat::Matrix;
using pleat::MatrixRef;
using pleat::OperatorOf;
using pleat::Product;
using pleat::Sum;
using pleat::Workspace;

// Options are an aggregate with a seed and a monitor.
template <class Options>
concept CompressOptions = std::is_aggregate_v<Options> && requires(Options options) {
  options.seed;
  options.monitor = [](const pleat::Progress&) { return true; };
};

// Every structure of the library is an operator, a value, has parts, and returns from them; what
// `compress` makes has options.
template <class Op, class T>
concept Structure = OperatorOf<Op, T> && std::copyable<Op> && std::is_nothrow_destructible_v<Op> &&
    pleat::HasParts<Op> && std::same_as<decltype(Op::from_parts(pleat::Parts())), Op> &&
    (CompressOptions<typename Op::Options> || !requires { typename Op::Options; });
static_assert(CompressOptions<Dense<float>::Options> && CompressOptions<LowRank<double>::Options> &&
              CompressOptions<pleat::Armor<float>::Options> &&
              CompressOptions<pleat::Blast<float>::Options> &&
              CompressOptions<pleat::BlockDictionary<float>::Options> &&
              CompressOptions<pleat::BlockSparse<float>::Options> &&
              CompressOptions<pleat::Cur<float>::Options> &&
              CompressOptions<pleat::Kronecker<float>::Options> &&
              CompressOptions<pleat::Monarch<float>::Options> &&
              CompressOptions<pleat::SemiStructured<float>::Options> &&
              CompressOptions<pleat::SparseDictionary<float>::Options> &&
              CompressOptions<pleat::SparseLowRank<float>::Options>);

template <class T, class... Ops>
constexpr bool all_structures(pleat::TypeList<Ops...>) {
  return sizeof...(Ops) > 0 && (Structure<Ops, T> && ...);
}
static_assert(all_structures<float>(pleat::Structures<float>()));
static_assert(all_structures<double>(pleat::Structures<double>()));

// What composes operators is one too.
static_assert(OperatorOf<AnyOperator<float>, float>);
static_assert(OperatorOf<AnyOperator<double>, double>);
static_assert(OperatorOf<Sum<Dense<float>>, float>);
static_assert(OperatorOf<Sum<Dense<float>, LowRank<float>>, float>);
static_assert(OperatorOf<Product<Dense<double>, LowRank<double>, Dense<double>>, double>);
static_assert(OperatorOf<Sum<Product<Dense<float>, Dense<float>>, AnyOperator<float>>, float>);
static_assert(!OperatorOf<Dense<float>, double>);

// The least that a type of the user's own must have.
struct Archetype {
  using Scalar = float;
  Index rows() const;
  Index cols() const;
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>) const;
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>, Workspace&) const;
  void apply_add(const ConstMatrixRef<float>&, MatrixRef<float>) const;
  void apply_add(const ConstMatrixRef<float>&, MatrixRef<float>, Workspace&) const;
  void apply_transpose(const ConstMatrixRef<float>&, MatrixRef<float>) const;
  void apply_transpose(const ConstMatrixRef<float>&, MatrixRef<float>, Workspace&) const;
  std::size_t bytes() const;
  double flops() const;
  Matrix<float> to_dense() const;
};
static_assert(OperatorOf<Archetype, float>);
static_assert(OperatorOf<Sum<Archetype, Dense<float>>, float>);
static_assert(OperatorOf<Product<Dense<float>, Archetype>, float>);
static_assert(std::is_constructible_v<AnyOperator<float>, Archetype>);
static_assert(!std::is_constructible_v<AnyOperator<double>, Archetype>);
static_assert(!pleat::HasParts<Archetype>);

// Plain integers are as good as Index, and any matrix that converts is as good as Matrix.
struct Relaxed : Archetype {
  int rows() const;
  int cols() const;
  int bytes() const;
  int flops() const;
  Eigen::Matrix<float, 3, 3> to_dense() const;
};
static_assert(OperatorOf<Relaxed, float>);

// One requirement taken away at a time.
struct WithoutScalar : Archetype {
 private:
  using Scalar = float;
};
struct WithIntegers : Archetype {
  using Scalar = int;
};
struct WithoutRows : Archetype {
  void rows() const = delete;
};
struct WithoutCols : Archetype {
  void cols() const = delete;
};
struct WithoutApply : Archetype {
  void apply() const;
};
struct WithoutWorkspace : Archetype {
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>) const;
};
// A block or a Map, which is what composites hand over, is no lvalue.
struct WithoutTemporaries : Archetype {
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>&) const;
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>&, Workspace&) const;
};
struct WithChangingApply : Archetype {
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>);
  void apply(const ConstMatrixRef<float>&, MatrixRef<float>, Workspace&);
};
struct WithApplyOfMatrices : Archetype {
  void apply(const Matrix<float>&, Matrix<float>&) const;
  void apply(const Matrix<float>&, Matrix<float>&, Workspace&) const;
};
struct WithoutApplyAdd : Archetype {
  void apply_add() const;
};
struct WithoutApplyTranspose : Archetype {
  void apply_transpose() const;
};
struct WithoutBytes : Archetype {
  void bytes() const;
};
struct WithoutFlops : Archetype {
  void flops() const;
};
struct WithoutToDense : Archetype {
  void to_dense() const;
};
struct ToDenseOfAnotherScalar : Archetype {
  Matrix<double> to_dense() const;
};
static_assert(!LinearOperator<ToDenseOfAnotherScalar>);
static_assert(!LinearOperator<WithoutScalar>);
static_assert(!LinearOperator<WithIntegers>);
static_assert(!LinearOperator<WithoutRows>);
static_assert(!LinearOperator<WithoutCols>);
static_assert(!LinearOperator<WithoutApply>);
static_assert(!LinearOperator<WithoutWorkspace>);
static_assert(!LinearOperator<WithoutTemporaries>);
static_assert(!LinearOperator<WithChangingApply>);
static_assert(!LinearOperator<WithApplyOfMatrices>);
static_assert(!LinearOperator<WithoutApplyAdd>);
static_assert(!LinearOperator<WithoutApplyTranspose>);
static_assert(!LinearOperator<WithoutBytes>);
static_assert(!LinearOperator<WithoutFlops>);
static_assert(!LinearOperator<WithoutToDense>);
static_assert(!LinearOperator<int>);
static_assert(!LinearOperator<Matrix<float>>);

// Nothing turns into an operator or a workspace unasked, except an operator into an AnyOperator.
static_assert(std::is_convertible_v<Dense<float>, AnyOperator<float>>);
static_assert(!std::is_constructible_v<AnyOperator<float>, Dense<double>>);
static_assert(!std::is_constructible_v<AnyOperator<float>, Matrix<float>>);
static_assert(std::is_constructible_v<Dense<float>, Matrix<float>>);
static_assert(!std::is_convertible_v<Matrix<float>, Dense<float>>);
static_assert(!std::is_convertible_v<pleat::OpenMP, Workspace>);
static_assert(!std::is_constructible_v<Workspace, int>);

// Scratch belongs to one thread: a workspace moves, but is not copied.
static_assert(std::movable<Workspace> && !std::copyable<Workspace>);

}  // namespace

// Members that no test happens to call are compiled all the same.
template class pleat::AnyOperator<float>;
template class pleat::Dense<double>;
template class pleat::LowRank<float>;
template class pleat::Sum<pleat::Dense<float>, pleat::LowRank<float>>;
template class pleat::Product<pleat::Dense<double>, pleat::LowRank<double>, pleat::Dense<double>>;
