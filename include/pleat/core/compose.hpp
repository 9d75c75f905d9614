// SPDX-License-Identifier: MIT
// Sums and products of operators, themselves operators.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {

/// What Sum and Product share: they hold their operands by value, and are their operands' totals.
template <class Derived, LinearOperator First, OperatorOf<typename First::Scalar>... Rest>
class Composite : public OperatorBase<Derived, typename First::Scalar> {
 public:
  static constexpr std::size_t size = 1 + sizeof...(Rest);

  /// The operand at position I, from the left.
  template <std::size_t At>
  [[nodiscard]] const auto& operand() const noexcept {
    return std::get<At>(operands_);
  }

  [[nodiscard]] std::size_t bytes() const {
    return std::apply(
        [](const auto&... op) { return (static_cast<std::size_t>(op.bytes()) + ...); }, operands_);
  }
  [[nodiscard]] double flops() const {
    return std::apply([](const auto&... op) { return (static_cast<double>(op.flops()) + ...); },
                      operands_);
  }
  /// Whether one of the operands rounds its activations.
  [[nodiscard]] bool rounds_activations() const {
    return std::apply([](const auto&... op) { return (detail::rounds_activations(op) || ...); },
                      operands_);
  }
  [[nodiscard]] std::string parameters() const {
    std::string text;
    std::apply(
        [&](const auto&... op) {
          ((text += (text.empty() ? "[" : "; ") + pleat::describe(op)), ...);
        },
        operands_);
    return text + "]";
  }

  /// Children "0", "1", ... from the left. Only operators that have parts can be taken apart.
  [[nodiscard]] Parts parts() const requires(HasParts<First> && (HasParts<Rest> && ...)) {
    Parts parts{static_cast<const Derived&>(*this).structure(), {}, {}, {}};
    std::apply(
        [&](const auto&... op) {
          std::size_t i = 0;
          (parts.children.emplace(std::to_string(i++), op.parts()), ...);
        },
        operands_);
    return parts;
  }

 protected:
  void reserve_operands(Workspace& workspace, Index batch) const {
    std::apply([&](const auto&... op) { (Unchecked::reserve(op, workspace, batch), ...); },
               operands_);
  }

  using Operands = std::tuple<First, Rest...>;
  explicit Composite(First first, Rest... rest) : operands_(std::move(first), std::move(rest)...) {}

  Operands operands_;
};

/// Columns per tile of a product whose widest intermediate has so many rows: an intermediate of
/// about 256 KiB, but at least 64 columns, so that each pass over the weights does enough work to
/// pay for reading them. A function of the sizes alone: products that cut the batch alike give the
/// same bits.
template <Real T>
[[nodiscard]] constexpr Index product_tile(Index widest, Index batch) noexcept {
  constexpr Index least = 64;
  if (batch <= least) return batch;  // and no division
  constexpr Index budget = Index{256 * 1024} / Index{sizeof(T)};
  const Index fitting = budget / std::max<Index>(widest, 1) / least * least;
  return (std::min)(batch, (std::max)(least, fitting));
}

}  // namespace detail

/// What = A + B + ...: operators of one shape. Y = A X, then Y += B X, and so on, from the left; no
/// scratch of its own. Cost: the sum of the operands'. Throws `std::invalid_argument` if the shapes
/// differ.
template <LinearOperator First, LinearOperator... Rest>
class Sum : public detail::Composite<Sum<First, Rest...>, First, Rest...> {
  using Base = detail::Composite<Sum, First, Rest...>;

 public:
  using typename Base::Scalar;

  explicit Sum(First first, Rest... rest) : Base(std::move(first), std::move(rest)...) {
    std::apply(
        [](const auto& head, const auto&... tail) {
          [[maybe_unused]] const auto check = [&](const auto& op) {
            detail::require(op.rows() == head.rows() && op.cols() == head.cols(), [&] {
              return "Sum: a " + detail::shape_text(head.rows(), head.cols()) + " and a " +
                     detail::shape_text(op.rows(), op.cols()) + " operator have no sum";
            });
          };
          (check(tail), ...);
        },
        this->operands_);
  }

  [[nodiscard]] Index rows() const { return this->template operand<0>().rows(); }
  [[nodiscard]] Index cols() const { return this->template operand<0>().cols(); }
  [[nodiscard]] std::string structure() const { return "Sum"; }

 private:
  friend OperatorBase<Sum, Scalar>;

  void evaluate(const ConstMatrixView<Scalar>& X, MatrixView<Scalar> Y, Update update,
                Workspace& workspace) const {
    std::apply(
        [&](const auto& head, const auto&... tail) {
          detail::Unchecked::apply(head, X, Y, update, workspace);
          (detail::Unchecked::apply(tail, X, Y, Update::add, workspace), ...);
        },
        this->operands_);
  }

  void evaluate_transpose(const ConstMatrixView<Scalar>& Y, MatrixView<Scalar> X,
                          Workspace& workspace) const {
    detail::Unchecked::apply_transpose(this->template operand<0>(), Y, X, workspace);
    if constexpr (Base::size > 1) {
      Workspace::Frame frame(workspace);
      const MatrixView<Scalar> term(frame.allocate<Scalar>(X.rows() * X.cols()), X.rows(), X.cols(),
                                    Eigen::OuterStride<>(X.rows()));
      std::apply(
          [&](const auto&, const auto&... tail) {
            ((detail::Unchecked::apply_transpose(tail, Y, term, workspace), X += term), ...);
          },
          this->operands_);
    }
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    Workspace::Frame frame(workspace);
    if constexpr (Base::size > 1) (void)frame.template allocate<Scalar>(cols() * batch);
    this->reserve_operands(workspace, batch);
  }
};

/// What = A B ...: Y = A (B (... X)), right to left. The batch is cut into tiles so that what lies
/// between two operands stays in the second-level cache; scratch is two buffers of the widest
/// intermediate by one tile. Cost: the sum of the operands'. Throws `std::invalid_argument` if the
/// inner sizes of two neighbours differ.
template <LinearOperator First, LinearOperator... Rest>
class Product : public detail::Composite<Product<First, Rest...>, First, Rest...> {
  using Base = detail::Composite<Product, First, Rest...>;
  static constexpr std::size_t last = Base::size - 1;

 public:
  using typename Base::Scalar;

  explicit Product(First first, Rest... rest) : Base(std::move(first), std::move(rest)...) {
    check(std::make_index_sequence<last>());
  }

  [[nodiscard]] Index rows() const { return this->template operand<0>().rows(); }
  [[nodiscard]] Index cols() const { return this->template operand<last>().cols(); }
  [[nodiscard]] std::string structure() const { return "Product"; }

 private:
  friend OperatorBase<Product, Scalar>;

  template <std::size_t... At>
  void check(std::index_sequence<At...>) {
    const auto pair = [](const auto& left, const auto& right) {
      detail::require(left.cols() == right.rows(), [&] {
        return "Product: a " + detail::shape_text(left.rows(), left.cols()) + " and a " +
               detail::shape_text(right.rows(), right.cols()) + " operator have no product";
      });
      return right.rows();
    };
    (void)pair;
    ((widest_ = (std::max)(
          widest_, Index{pair(this->template operand<At>(), this->template operand<At + 1>())})),
     ...);
  }

  /// Values of an intermediate that is so small that it lies on the stack.
  static constexpr Index few = 256;

  template <class Step>
  [[gnu::always_inline]] void tiled(Index batch, Workspace& workspace, Step&& step) const {
    if (widest_ * batch <= few) {
      alignas(64) Scalar memory[last > 1 ? 2 * few : few];
      step(Index{0}, batch, std::array<Scalar*, 2>{memory, memory + (last > 1 ? few : 0)});
      return;
    }
    const Index width = detail::product_tile<Scalar>(widest_, batch);
    Workspace::Frame frame(workspace);
    const std::array<Scalar*, 2> buffers{
        last > 0 ? frame.template allocate<Scalar>(widest_ * width) : nullptr,
        last > 1 ? frame.template allocate<Scalar>(widest_ * width) : nullptr};
    for (Index begin = 0; begin < batch; begin += width)
      step(begin, (std::min)(width, batch - begin), buffers);
  }

  void reserve_scratch(Workspace& workspace, Index batch) const {
    // The widest tile is that of the largest batch.
    tiled((std::min)(batch, detail::product_tile<Scalar>(widest_, batch)), workspace,
          [&](Index, Index count, const auto&) { this->reserve_operands(workspace, count); });
  }

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<Scalar>& X, MatrixView<Scalar> Y,
                                       Update update, Workspace& workspace) const {
    tiled(X.cols(), workspace, [&](Index begin, Index count, const auto& buffers) {
      forward<last>(detail::columns(X, begin, count), detail::columns(Y, begin, count), update,
                    buffers, workspace);
    });
  }

  template <std::size_t At>
  void forward(const ConstMatrixView<Scalar>& in, MatrixView<Scalar> out, Update update,
               const std::array<Scalar*, 2>& buffers, Workspace& workspace) const {
    const auto& op = this->template operand<At>();
    if constexpr (At == 0) {
      detail::Unchecked::apply(op, in, out, update, workspace);
    } else {
      const Index height = op.rows();
      Scalar* const buffer = buffers[At % 2 == last % 2 ? 0 : 1];
      const Eigen::OuterStride<> stride(height);
      detail::Unchecked::apply(op, in, {buffer, height, in.cols(), stride}, Update::overwrite,
                               workspace);
      forward<At - 1>({buffer, height, in.cols(), stride}, out, update, buffers, workspace);
    }
  }

  void evaluate_transpose(const ConstMatrixView<Scalar>& Y, MatrixView<Scalar> X,
                          Workspace& workspace) const {
    tiled(Y.cols(), workspace, [&](Index begin, Index count, const auto& buffers) {
      backward<0>(detail::columns(Y, begin, count), detail::columns(X, begin, count), buffers,
                  workspace);
    });
  }

  template <std::size_t At>
  void backward(const ConstMatrixView<Scalar>& in, MatrixView<Scalar> out,
                const std::array<Scalar*, 2>& buffers, Workspace& workspace) const {
    const auto& op = this->template operand<At>();
    if constexpr (At == last) {
      detail::Unchecked::apply_transpose(op, in, out, workspace);
    } else {
      const Index height = op.cols();
      Scalar* const buffer = buffers[At % 2];
      const Eigen::OuterStride<> stride(height);
      detail::Unchecked::apply_transpose(op, in, {buffer, height, in.cols(), stride}, workspace);
      backward<At + 1>({buffer, height, in.cols(), stride}, out, buffers, workspace);
    }
  }

  Index widest_ = 0;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
