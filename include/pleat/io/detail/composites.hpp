// SPDX-License-Identifier: MIT
// Sums and products of as many operands as a file says, where `Sum` and `Product` fix the number by
// type.
#pragma once

#include "pleat/core/any_operator.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// What the two share. Results are bit for bit those of `Sum` and `Product` of the same operands,
/// because the operands see the same calls. One class for any number of operands, not one for each
/// number: a file that loads operators would take seconds longer to compile.
template <class Derived, Real T>
class LoadedComposite : public OperatorBase<Derived, T> {
 public:
  [[nodiscard]] const std::vector<AnyOperator<T>>& operands() const noexcept { return operands_; }
  [[nodiscard]] std::string structure() const { return std::string(Derived::name); }

  [[nodiscard]] std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& op : operands_) sum += op.bytes();
    return sum;
  }
  [[nodiscard]] double flops() const {
    double sum = 0;
    for (const auto& op : operands_) sum += op.flops();
    return sum;
  }
  [[nodiscard]] std::string parameters() const {
    std::string text;
    for (const auto& op : operands_) text += (text.empty() ? "[" : "; ") + pleat::describe(op);
    return text + "]";
  }
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {}, {}, {}};
    for (std::size_t i = 0; i < operands_.size(); ++i)
      parts.children.emplace(std::to_string(i), operands_[i].parts());
    return parts;
  }

 protected:
  explicit LoadedComposite(std::vector<AnyOperator<T>> operands) : operands_(std::move(operands)) {
    require(!operands_.empty(), [] { return std::string(Derived::name) + " has no operands"; });
  }

  std::vector<AnyOperator<T>> operands_;
};

template <Real T>
class LoadedSum : public LoadedComposite<LoadedSum<T>, T> {
 public:
  static constexpr std::string_view name = "Sum";

  explicit LoadedSum(std::vector<AnyOperator<T>> operands)
      : LoadedComposite<LoadedSum, T>(std::move(operands)) {
    for (const auto& op : this->operands_)
      require(op.rows() == rows() && op.cols() == cols(), [&] {
        return "Sum: a " + shape_text(rows(), cols()) + " and a " +
               shape_text(op.rows(), op.cols()) + " operator have no sum";
      });
  }

  [[nodiscard]] Index rows() const { return this->operands_.front().rows(); }
  [[nodiscard]] Index cols() const { return this->operands_.front().cols(); }

 private:
  friend OperatorBase<LoadedSum, T>;

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    for (const auto& op : this->operands_) {
      Unchecked::apply(op, X, Y, update, workspace);
      update = Update::add;
    }
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    Unchecked::apply_transpose(this->operands_.front(), Y, X, workspace);
    if (this->operands_.size() == 1) return;
    Workspace::Frame frame(workspace);
    const MatrixView<T> term(frame.allocate<T>(X.rows() * X.cols()), X.rows(), X.cols(),
                             Eigen::OuterStride<>(X.rows()));
    for (std::size_t i = 1; i < this->operands_.size(); ++i) {
      Unchecked::apply_transpose(this->operands_[i], Y, term, workspace);
      X += term;
    }
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    Workspace::Frame frame(workspace);
    if (this->operands_.size() > 1) (void)frame.allocate<T>(cols() * batch);
    for (const auto& op : this->operands_) op.reserve(workspace, batch);
  }
};

template <Real T>
class LoadedProduct : public LoadedComposite<LoadedProduct<T>, T> {
 public:
  static constexpr std::string_view name = "Product";

  explicit LoadedProduct(std::vector<AnyOperator<T>> operands)
      : LoadedComposite<LoadedProduct, T>(std::move(operands)) {
    for (std::size_t i = 1; i < this->operands_.size(); ++i) {
      const auto& left = this->operands_[i - 1];
      const auto& right = this->operands_[i];
      require(left.cols() == right.rows(), [&] {
        return "Product: a " + shape_text(left.rows(), left.cols()) + " and a " +
               shape_text(right.rows(), right.cols()) + " operator have no product";
      });
      widest_ = (std::max)(widest_, right.rows());
    }
  }

  [[nodiscard]] Index rows() const { return this->operands_.front().rows(); }
  [[nodiscard]] Index cols() const { return this->operands_.back().cols(); }

 private:
  friend OperatorBase<LoadedProduct, T>;

  /// Takes each tile of X through the operands in order: `step(operand, in, out, is_last)`.
  template <class Order, class Size, class Step>
  void tiled(const ConstMatrixView<T>& X, MatrixView<T> Y, Workspace& workspace, Order order,
             Size size, Step step) const {
    const std::size_t count = this->operands_.size();
    const Index width = product_tile<T>(widest_, X.cols());
    Workspace::Frame frame(workspace);
    std::array<T*, 2> buffers{};
    for (std::size_t i = 0; i < 2 && i + 1 < count; ++i)
      buffers[i] = frame.allocate<T>(widest_ * width);
    for (Index begin = 0; begin < X.cols(); begin += width) {
      const Index samples = (std::min)(width, X.cols() - begin);
      const T* in = X.data() + begin * X.outerStride();
      Index stride = X.outerStride();
      Index height = X.rows();
      for (std::size_t i = 0; i < count; ++i) {
        const AnyOperator<T>& op = this->operands_[order(i)];
        const ConstMatrixView<T> from(in, height, samples, Eigen::OuterStride<>(stride));
        if (i + 1 == count) {
          step(op, from, columns(Y, begin, samples), true);
        } else {
          height = stride = size(op);
          T* const out = buffers[i % 2];
          step(op, from, MatrixView<T>(out, height, samples, Eigen::OuterStride<>(height)), false);
          in = out;
        }
      }
    }
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    const Index width = product_tile<T>(widest_, batch);
    Workspace::Frame frame(workspace);
    for (std::size_t i = 0; i < 2 && i + 1 < this->operands_.size(); ++i)
      (void)frame.allocate<T>(widest_ * width);
    for (const auto& op : this->operands_) op.reserve(workspace, width);
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    tiled(
        X, Y, workspace, [&](std::size_t i) { return this->operands_.size() - 1 - i; },
        [](const AnyOperator<T>& op) { return op.rows(); },
        [&](const AnyOperator<T>& op, const ConstMatrixView<T>& in, MatrixView<T> out,
            bool is_last) {
          Unchecked::apply(op, in, out, is_last ? update : Update::overwrite, workspace);
        });
  }

  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    tiled(
        Y, X, workspace, [](std::size_t i) { return i; },
        [](const AnyOperator<T>& op) { return op.cols(); },
        [&](const AnyOperator<T>& op, const ConstMatrixView<T>& in, MatrixView<T> out, bool) {
          Unchecked::apply_transpose(op, in, out, workspace);
        });
  }

  Index widest_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
