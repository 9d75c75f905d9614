// SPDX-License-Identifier: MIT
// The one noun of the library: a matrix that is known by what it does to a vector.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/matrix_view.hpp"
#include "pleat/core/scalar.hpp"
#include "pleat/core/workspace.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

// Why one noun?
//
// A compressed weight is never one kind of thing. A low-rank weight is a product of two dense
// matrices; sparse plus low-rank is a sum of a sparse one and that product; ARMOR is a
// block-diagonal times a 2:4 matrix times a block-diagonal. What an inference engine needs of all
// of them is the same: put activations in, get activations out, know what it costs. So a dense
// matrix, a sparse one, a product, a sum, a named factorization, and a type of your own are all one
// thing, a LinearOperator, and everything in the library that takes an operator takes any of them.
//
// The concept asks for syntax. What a compiler cannot check, an operator promises:
//
// * Linear: apply(a x + b z) = a apply(x) + b apply(z) and apply(X) = to_dense() X, up to rounding.
// * apply overwrites Y and never reads it: a NaN left in Y does not survive. apply_add adds to Y.
// * apply_transpose is the adjoint: <apply(x), y> = <x, apply_transpose(y)> up to rounding.
// * Samples are columns, and one sample's result does not depend on its neighbours.
// * Immutable: every member is const and keeps no scratch in the operator, so any number of threads
//   may apply one operator at once, each with a workspace of its own.
// * After the first call with a batch size, apply allocates nothing. An operator may also have
//   reserve(workspace, batch), as ours do: then not even the first one does.
// * Arguments that do not fit throw std::invalid_argument before Y is touched.
// * The result is bit-identical for any number of tasks that the workspace's executor runs.
//
// The library's own types get their checks, all forms of apply, and to_dense() from OperatorBase
// below. A type of your own may do so too, or simply have the members.

template <class Op>
concept LinearOperator = Real<typename Op::Scalar> &&
    requires(const Op& op, const ConstMatrixRef<typename Op::Scalar>& in,
             MatrixRef<typename Op::Scalar> out, Workspace& workspace) {
  { op.rows() } -> std::convertible_to<Index>;         // outputs m
  { op.cols() } -> std::convertible_to<Index>;         // inputs n
  op.apply(in, std::move(out));                        // Y = What X, X is n x batch
  op.apply(in, std::move(out), workspace);             // outputs may be temporaries: Maps, blocks
  op.apply_add(in, std::move(out));                    // Y += What X
  op.apply_add(in, std::move(out), workspace);         //
  op.apply_transpose(in, std::move(out));              // X = What^T Y, Y is m x batch
  op.apply_transpose(in, std::move(out), workspace);   //
  { op.bytes() } -> std::convertible_to<std::size_t>;  // what must be stored
  { op.flops() } -> std::convertible_to<double>;       // 2 x multiply-adds of one vector
  { op.to_dense() } -> std::convertible_to<Matrix<typename Op::Scalar>>;  // What
  // Eigen converts to a matrix of another scalar, as far as overload resolution can tell.
  requires std::same_as < typename std::decay_t<decltype(op.to_dense())>::Scalar,
  typename Op::Scalar > ;
};

/// An operator whose activations are of type T.
template <class Op, class T>
concept OperatorOf = LinearOperator<Op> && std::same_as<typename Op::Scalar, T>;

/// Whether an `apply` replaces its output or adds to it.
enum class Update : bool { overwrite, add };

/// What is optional: `op.reserve(workspace, batch)`, after which no `apply`, `apply_add` or
/// `apply_transpose` of up to so many samples with that workspace allocates.
template <class Op>
concept ReservesScratch = requires(const Op& op, Workspace& workspace, Index batch) {
  op.reserve(workspace, batch);
};

namespace detail {

/// Calls of an operator whose arguments are known to fit, from inside another one's: past the
/// checks of those that are made of `OperatorBase`.
struct Unchecked {
  template <LinearOperator Op>
  static void apply(const Op& op, const ConstMatrixView<typename Op::Scalar>& X,
                    MatrixView<typename Op::Scalar> Y, Update update, Workspace& workspace);
  template <LinearOperator Op>
  static void apply_transpose(const Op& op, const ConstMatrixView<typename Op::Scalar>& Y,
                              MatrixView<typename Op::Scalar> X, Workspace& workspace);
  template <LinearOperator Op>
  static void reserve(const Op& op, Workspace& workspace, Index batch) {
    if constexpr (ReservesScratch<Op>) op.reserve(workspace, batch);
  }
};

/// Takes, and gives back, what the hungriest of the calls with up to `batch` samples needs:
/// `needed(samples)` values of T.
template <class T, class Needed>
void reserve_most(Workspace& workspace, Index batch, Needed needed) {
  Index most = 0;
  for (Index samples = 1; samples <= batch; ++samples)
    most = (std::max)(most, Index{needed(samples)});
  Workspace::Frame frame(workspace);
  if (most > 0) (void)frame.allocate<T>(most);
}

}  // namespace detail

namespace detail {

/// Whether `apply` rounds activations, so that it is not quite that of `to_dense`: an operator that
/// can says so by `activations()`, and one made of others by `rounds_activations()`.
template <class Op>
[[nodiscard]] bool rounds_activations(const Op& op) {
  if constexpr (requires { op.rounds_activations(); }) return op.rounds_activations();
  else if constexpr (requires { op.activations(); }) return op.activations() != Activations::native;
  else return false;
}

}  // namespace detail

/// The six forms of `apply`, `reserve`, and `to_dense`, made of two calls: `Derived` has, protected
/// or private with this class as a friend,
///
///     void evaluate(in, out, Update, Workspace&) const;            // out (+)= What in
///     void evaluate_transpose(in, out, Workspace&) const;          // out = What^T in
///
/// which are called with a `ConstMatrixView` and a `MatrixView` (where they take a `ConstMatrixRef`
/// and a `MatrixRef&` instead, with these) that fit, do not overlap, and hold at least one column.
/// If they take scratch memory from the workspace, it has
///
///     void reserve_scratch(Workspace&, Index batch) const;
///
/// which takes as much, once.
template <class Derived, Real T>
class OperatorBase {
 public:
  using Scalar = T;

  /// Y = What X. X: cols() x batch, Y: rows() x batch; a batch of 0 is a no-op. Takes whatever an
  /// `Eigen::Ref` of `ConstMatrixRef` and `MatrixRef` binds to without a copy; anything else does
  /// not compile. Without a workspace, the calling thread's own is used. Throws
  /// `std::invalid_argument` on shapes that do not match, if X and Y overlap, or columns of Y do.
  template <class In, class Out>
  void apply(const Eigen::MatrixBase<In>& X, Out&& Y) const {
    apply(X, std::forward<Out>(Y), thread_workspace());
  }
  template <class In, class Out>
  void apply(const Eigen::MatrixBase<In>& X, Out&& Y, Workspace& workspace) const {
    forward("apply", detail::view_input<T>(X), detail::view_output<T>(std::forward<Out>(Y)),
            Update::overwrite, workspace);
  }

  /// Y += What X, with the shapes and errors of `apply`.
  template <class In, class Out>
  void apply_add(const Eigen::MatrixBase<In>& X, Out&& Y) const {
    apply_add(X, std::forward<Out>(Y), thread_workspace());
  }
  template <class In, class Out>
  void apply_add(const Eigen::MatrixBase<In>& X, Out&& Y, Workspace& workspace) const {
    forward("apply_add", detail::view_input<T>(X), detail::view_output<T>(std::forward<Out>(Y)),
            Update::add, workspace);
  }

  /// X = What^T Y. Y: rows() x batch, X: cols() x batch.
  template <class In, class Out>
  void apply_transpose(const Eigen::MatrixBase<In>& Y, Out&& X) const {
    apply_transpose(Y, std::forward<Out>(X), thread_workspace());
  }
  template <class In, class Out>
  void apply_transpose(const Eigen::MatrixBase<In>& Y, Out&& X, Workspace& workspace) const {
    const auto in = detail::view_input<T>(Y);
    const auto out = detail::view_output<T>(std::forward<Out>(X));
    const Index m = self().rows();
    const Index n = self().cols();
    detail::require_fit<T>("apply_transpose", m, n, in, m, out, n);
    if (in.cols() > 0) compute_transpose(in, out, workspace);
  }

  /// After it, no call of the above with this workspace and up to `batch` samples allocates memory.
  /// Throws `std::invalid_argument` if `batch` is negative. Cost: at most some nanoseconds a
  /// sample.
  void reserve(Workspace& workspace, Index batch) const {
    detail::require(batch >= 0, [&] {
      return "reserve: there is no batch of " + std::to_string(batch) + " samples";
    });
    workspace.run(workspace.max_tasks(), [](Index) {});  // threads that start at the first call
    if constexpr (requires { self().reserve_scratch(workspace, batch); })
      self().reserve_scratch(workspace, batch);
  }

  /// What, by applying the operator to the columns of the identity, a block at a time; or, where
  /// that rounds activations, its transpose.
  [[nodiscard]] Matrix<T> to_dense() const {
    const bool transposed = detail::rounds_activations(self());
    const Index m = self().rows();
    const Index n = self().cols();
    const Index size = transposed ? m : n;
    constexpr Index block = 64;
    Matrix<T> dense(m, n);
    Matrix<T> identity = Matrix<T>::Zero(size, (std::min)(block, size));
    Matrix<T> rows(transposed ? n : 0, identity.cols());
    for (Index first = 0; first < size; first += block) {
      const Index count = (std::min)(block, size - first);
      for (Index j = 0; j < count; ++j) identity(first + j, j) = T(1);
      if (transposed) {
        apply_transpose(identity.leftCols(count), rows.leftCols(count));
        dense.middleRows(first, count) = rows.leftCols(count).transpose();
      } else {
        apply(identity.leftCols(count), dense.middleCols(first, count));
      }
      for (Index j = 0; j < count; ++j) identity(first + j, j) = T(0);
    }
    return dense;
  }

 protected:
  OperatorBase() = default;
  ~OperatorBase() = default;
  OperatorBase(const OperatorBase&) = default;
  OperatorBase(OperatorBase&&) noexcept = default;
  OperatorBase& operator=(const OperatorBase&) = default;
  OperatorBase& operator=(OperatorBase&&) noexcept = default;

 private:
  friend detail::Unchecked;

  const Derived& self() const noexcept { return static_cast<const Derived&>(*this); }

  // Inlined where it is called, down to the kernel: of a small layer these are the larger part.
  [[gnu::always_inline]] void forward(const char* call, const ConstMatrixView<T>& X,
                                      MatrixView<T> Y, Update update, Workspace& workspace) const {
    const Index m = self().rows();
    const Index n = self().cols();
    detail::require_fit<T>(call, m, n, X, n, Y, m);
    if (X.cols() > 0) compute(X, Y, update, workspace);
  }
  [[gnu::always_inline]] void compute(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                      Workspace& workspace) const {
    if constexpr (requires { self().evaluate(X, Y, update, workspace); }) {
      self().evaluate(X, Y, update, workspace);
    } else {
      MatrixRef<T> out(Y);
      self().evaluate(X, out, update, workspace);
    }
  }
  void compute_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X, Workspace& workspace) const {
    if constexpr (requires { self().evaluate_transpose(Y, X, workspace); }) {
      self().evaluate_transpose(Y, X, workspace);
    } else {
      MatrixRef<T> out(X);
      self().evaluate_transpose(Y, out, workspace);
    }
  }
};

namespace detail {

template <LinearOperator Op>
[[gnu::always_inline]] inline void Unchecked::apply(const Op& op,
                                                    const ConstMatrixView<typename Op::Scalar>& X,
                                                    MatrixView<typename Op::Scalar> Y,
                                                    Update update, Workspace& workspace) {
  if constexpr (std::derived_from<Op, OperatorBase<Op, typename Op::Scalar>>)
    op.compute(X, Y, update, workspace);
  else if (update == Update::overwrite) op.apply(X, Y, workspace);
  else op.apply_add(X, Y, workspace);
}

template <LinearOperator Op>
[[gnu::always_inline]] inline void Unchecked::apply_transpose(
    const Op& op, const ConstMatrixView<typename Op::Scalar>& Y, MatrixView<typename Op::Scalar> X,
    Workspace& workspace) {
  if constexpr (std::derived_from<Op, OperatorBase<Op, typename Op::Scalar>>)
    op.compute_transpose(Y, X, workspace);
  else op.apply_transpose(Y, X, workspace);
}

}  // namespace detail

/// One line for people: structure, shape, hyperparameters, storage, bytes, and their share of
/// dense. An operator may have `structure()` (its name) and `parameters()` (its hyperparameters,
/// "rank 64"); one that has neither is called "custom".
template <LinearOperator Op>
[[nodiscard]] std::string describe(const Op& op) {
  using T = typename Op::Scalar;
  std::string text;
  if constexpr (requires { std::string(op.structure()); }) text = std::string(op.structure());
  else text = "custom";
  text += ' ' + detail::shape_text(op.rows(), op.cols());
  if constexpr (requires { std::string(op.parameters()); }) {
    const std::string parameters(op.parameters());
    if (!parameters.empty()) text += ", " + parameters;
  }
  text += std::same_as<T, float> ? ", f32, " : ", f64, ";
  text += std::to_string(static_cast<std::size_t>(op.bytes())) + " bytes";
  const double dense =
      static_cast<double>(op.rows()) * static_cast<double>(op.cols()) * double{sizeof(T)};
  if (dense > 0) {
    const double tenths = 1000 * static_cast<double>(op.bytes()) / dense;
    const auto rounded = static_cast<std::size_t>(tenths + 0.5);
    text +=
        ", " + std::to_string(rounded / 10) + '.' + std::to_string(rounded % 10) + " % of dense";
  }
  return text;
}

}  // namespace PLEAT_ABI
}  // namespace pleat
