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

  void evaluate(const ConstMatrixRef<T>& X, MatrixRef<T>& Y, Update update,
                Workspace& workspace) const {
    for (const auto& op : this->operands_) {
      if (update == Update::overwrite) op.apply(X, Y, workspace);
      else op.apply_add(X, Y, workspace);
      update = Update::add;
    }
  }

  void evaluate_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T>& X, Workspace& workspace) const {
    this->operands_.front().apply_transpose(Y, X, workspace);
    if (this->operands_.size() == 1) return;
    Workspace::Frame frame(workspace);
    Eigen::Map<Matrix<T>> term(frame.allocate<T>(X.rows() * X.cols()), X.rows(), X.cols());
    for (std::size_t i = 1; i < this->operands_.size(); ++i) {
      this->operands_[i].apply_transpose(Y, term, workspace);
      X += term;
    }
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
  void tiled(const ConstMatrixRef<T>& X, MatrixRef<T>& Y, Workspace& workspace, Order order,
             Size size, Step step) const {
    const std::size_t count = this->operands_.size();
    const Index width = product_tile<T>(widest_, X.cols());
    Workspace::Frame frame(workspace);
    std::array<T*, 2> buffers{};
    for (std::size_t i = 0; i < 2 && i + 1 < count; ++i)
      buffers[i] = frame.allocate<T>(widest_ * width);
    for (Index begin = 0; begin < X.cols(); begin += width) {
      const Index columns = (std::min)(width, X.cols() - begin);
      const T* in = X.data() + begin * X.outerStride();
      Index stride = X.outerStride();
      Index height = X.rows();
      for (std::size_t i = 0; i < count; ++i) {
        const AnyOperator<T>& op = this->operands_[order(i)];
        const Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>> from(
            in, height, columns, Eigen::OuterStride<>(stride));
        if (i + 1 == count) {
          step(op, from, MatrixRef<T>(Y.middleCols(begin, columns)), true);
        } else {
          height = stride = size(op);
          T* const out = buffers[i % 2];
          step(op, from, MatrixRef<T>(Eigen::Map<Matrix<T>>(out, height, columns)), false);
          in = out;
        }
      }
    }
  }

  void evaluate(const ConstMatrixRef<T>& X, MatrixRef<T>& Y, Update update,
                Workspace& workspace) const {
    tiled(
        X, Y, workspace, [&](std::size_t i) { return this->operands_.size() - 1 - i; },
        [](const AnyOperator<T>& op) { return op.rows(); },
        [&](const AnyOperator<T>& op, const ConstMatrixRef<T>& in, MatrixRef<T> out, bool is_last) {
          if (is_last && update == Update::add) op.apply_add(in, out, workspace);
          else op.apply(in, out, workspace);
        });
  }

  void evaluate_transpose(const ConstMatrixRef<T>& Y, MatrixRef<T>& X, Workspace& workspace) const {
    tiled(
        Y, X, workspace, [](std::size_t i) { return i; },
        [](const AnyOperator<T>& op) { return op.cols(); },
        [&](const AnyOperator<T>& op, const ConstMatrixRef<T>& in, MatrixRef<T> out, bool) {
          op.apply_transpose(in, out, workspace);
        });
  }

  Index widest_ = 0;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
