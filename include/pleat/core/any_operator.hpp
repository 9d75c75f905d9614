// SPDX-License-Identifier: MIT
// An operator with its type forgotten, so that the layers of a model fit one vector.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"

#include <memory>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// Any operator of scalar T, and itself one. Copies share the operator, which never changes:
/// copying is O(1) and safe between threads. A default-constructed one is the empty 0 x 0 operator.
template <Real T>
class AnyOperator : public OperatorBase<AnyOperator<T>, T> {
 public:
  AnyOperator() = default;

  /// Holds `op`. Implicit, as for `std::function`: an AnyOperator means nothing but what it holds.
  template <detail::OtherThan<AnyOperator> Op>
  requires OperatorOf<Op, T> AnyOperator(Op op)  // NOLINT(google-explicit-constructor)
      : held_(std::make_shared<const Holder<Op>>(std::move(op))),
        rows_(held_->rows()),
        cols_(held_->cols()) {}

  // Copies only: what was moved from stays as it was.
  AnyOperator(const AnyOperator&) = default;
  AnyOperator& operator=(const AnyOperator&) = default;
  ~AnyOperator() = default;

  [[nodiscard]] Index rows() const { return rows_; }
  [[nodiscard]] Index cols() const { return cols_; }
  [[nodiscard]] std::size_t bytes() const { return held_ ? held_->bytes() : 0; }
  [[nodiscard]] double flops() const { return held_ ? held_->flops() : 0; }
  [[nodiscard]] Matrix<T> to_dense() const { return held_ ? held_->to_dense() : Matrix<T>(0, 0); }
  /// Whether `apply` rounds activations; see `Dense::with_activations`.
  [[nodiscard]] bool rounds_activations() const { return held_ && held_->rounds_activations(); }

  /// The name of the structure held ("LowRank"); "custom" for a type without one, else "empty".
  [[nodiscard]] std::string structure() const { return held_ ? held_->structure() : "empty"; }
  /// The hyperparameters of the structure held ("rank 64"), as `describe` shows them.
  [[nodiscard]] std::string parameters() const {
    return held_ ? held_->parameters() : std::string();
  }

  /// The operator held, if it is an Op, else null. (Also null where another shared library made
  /// it, and the two hide their symbols from each other.)
  template <LinearOperator Op>
  [[nodiscard]] const Op* get_if() const noexcept {
    if (!held_ || held_->type() != &type_tag<Op>) return nullptr;
    return &static_cast<const Holder<Op>&>(*held_).op;
  }

  /// What is held, taken apart. Throws `std::invalid_argument` for a type that has no parts.
  [[nodiscard]] Parts parts() const {
    detail::require(held_ != nullptr, [] { return std::string("an empty operator has no parts"); });
    return held_->parts();
  }

 private:
  friend OperatorBase<AnyOperator, T>;

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                       Workspace& workspace) const {
    if (held_)
      held_->evaluate(X.data(), X.outerStride(), Y.data(), Y.outerStride(), X.cols(), update,
                      workspace);
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    if (held_)
      held_->evaluate_transpose(Y.data(), Y.outerStride(), X.data(), X.outerStride(), Y.cols(),
                                workspace);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    if (held_) held_->reserve(workspace, batch);
  }

  // Its address tells which type is held: there are programs without run-time type information. Not
  // a constant, or a linker might make one of two.
  template <class Op>
  static inline char type_tag = 0;

  struct Interface {
    Interface() = default;
    Interface(const Interface&) = delete;
    Interface& operator=(const Interface&) = delete;
    virtual ~Interface() = default;
    virtual Index rows() const = 0;
    virtual Index cols() const = 0;
    virtual std::size_t bytes() const = 0;
    virtual double flops() const = 0;
    virtual Matrix<T> to_dense() const = 0;
    virtual bool rounds_activations() const = 0;
    virtual std::string structure() const = 0;
    virtual std::string parameters() const = 0;
    virtual Parts parts() const = 0;
    virtual const char* type() const noexcept = 0;
    // Pointers and the distance between columns, which go through registers as views would not.
    virtual void evaluate(const T* x, Index x_stride, T* y, Index y_stride, Index batch, Update,
                          Workspace&) const = 0;
    virtual void evaluate_transpose(const T* y, Index y_stride, T* x, Index x_stride, Index batch,
                                    Workspace&) const = 0;
    virtual void reserve(Workspace&, Index) const = 0;
  };

  template <class Op>
  struct Holder final : Interface {
    explicit Holder(Op held) : op(std::move(held)) {}
    Index rows() const override { return static_cast<Index>(op.rows()); }
    Index cols() const override { return static_cast<Index>(op.cols()); }
    std::size_t bytes() const override { return static_cast<std::size_t>(op.bytes()); }
    double flops() const override { return static_cast<double>(op.flops()); }
    Matrix<T> to_dense() const override { return op.to_dense(); }
    bool rounds_activations() const override { return detail::rounds_activations(op); }
    std::string structure() const override {
      if constexpr (requires { std::string(op.structure()); }) return std::string(op.structure());
      else return "custom";
    }
    std::string parameters() const override {
      if constexpr (requires { std::string(op.parameters()); }) return std::string(op.parameters());
      else return {};
    }
    Parts parts() const override {
      if constexpr (HasParts<Op>) return op.parts();
      else
        throw std::invalid_argument("pleat: a " + structure() +
                                    " operator has no parts(), so it cannot be saved");
    }
    const char* type() const noexcept override { return &type_tag<Op>; }
    void evaluate(const T* x, Index x_stride, T* y, Index y_stride, Index batch, Update update,
                  Workspace& workspace) const override {
      detail::Unchecked::apply(op, {x, cols(), batch, Eigen::OuterStride<>(x_stride)},
                               {y, rows(), batch, Eigen::OuterStride<>(y_stride)}, update,
                               workspace);
    }
    void evaluate_transpose(const T* y, Index y_stride, T* x, Index x_stride, Index batch,
                            Workspace& workspace) const override {
      detail::Unchecked::apply_transpose(op, {y, rows(), batch, Eigen::OuterStride<>(y_stride)},
                                         {x, cols(), batch, Eigen::OuterStride<>(x_stride)},
                                         workspace);
    }
    void reserve(Workspace& workspace, Index batch) const override {
      detail::Unchecked::reserve(op, workspace, batch);
    }

    Op op;
  };

  std::shared_ptr<const Interface> held_{};
  Index rows_ = 0;
  Index cols_ = 0;
};

template <LinearOperator Op>
AnyOperator(Op) -> AnyOperator<typename Op::Scalar>;

}  // namespace PLEAT_ABI
}  // namespace pleat
