// SPDX-License-Identifier: MIT
// An operator that is one of several bricks, of which only the run knows which.
#pragma once

#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/factor/detail/meeting.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// One of some operators, all of one scalar. It is what the one that it holds is: its size, its
/// name, its parts.
template <class First, class... Rest>
class OneOf : public OperatorBase<OneOf<First, Rest...>, typename First::Scalar> {
  using T = typename First::Scalar;

 public:
  /// Of any of them, by its own name wherever one of some is asked for.
  template <class Op>
  requires(std::same_as<Op, First> || (std::same_as<Op, Rest> || ...))
      OneOf(Op op)  // NOLINT(google-explicit-constructor)
      : held_(std::move(op)) {}

  /// The operator held if it is an `Op`, else null.
  template <class Op>
  [[nodiscard]] const Op* get_if() const noexcept {
    return std::get_if<Op>(&held_);
  }
  /// Calls `f` with the operator that is held.
  template <class F>
  [[gnu::always_inline]] decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), held_);
  }

  [[nodiscard]] Index rows() const {
    return visit([](const auto& op) { return op.rows(); });
  }
  [[nodiscard]] Index cols() const {
    return visit([](const auto& op) { return op.cols(); });
  }
  [[nodiscard]] std::size_t bytes() const {
    return visit([](const auto& op) { return op.bytes(); });
  }
  [[nodiscard]] double flops() const {
    return visit([](const auto& op) { return op.flops(); });
  }
  [[nodiscard]] std::string structure() const {
    return visit([](const auto& op) { return op.structure(); });
  }
  [[nodiscard]] std::string parameters() const {
    return visit([](const auto& op) { return op.parameters(); });
  }
  [[nodiscard]] Matrix<T> to_dense() const {
    return visit([](const auto& op) { return op.to_dense(); });
  }
  [[nodiscard]] Parts parts() const {
    return visit([](const auto& op) { return op.parts(); });
  }
  /// The one that is held with its activations rounded, if it can; and whether it can.
  [[nodiscard]] OneOf with_activations(Activations activations) const {
    return visit([&](const auto& op) { return OneOf(meeting(op, activations)); });
  }
  [[nodiscard]] bool rounds_activations() const {
    return visit([](const auto& op) { return detail::rounds_activations(op); });
  }
  [[nodiscard]] bool meets(Activations activations) const {
    return visit([&](const auto& op) { return detail::meets(op, activations); });
  }
  /// Of the parts of any of them. Throws what its parts throw, and where they are of none.
  [[nodiscard]] static OneOf from_parts(const Parts& parts) {
    return of_parts<First, Rest...>(parts);
  }

 private:
  friend OperatorBase<OneOf, T>;

  template <class Op, class... Others>
  [[nodiscard]] static OneOf of_parts(const Parts& parts) {
    if (parts.structure == Op::name) return Op::from_parts(parts);
    if constexpr (sizeof...(Others) > 0) return of_parts<Others...>(parts);
    else
      throw std::invalid_argument("pleat: a part is a \"" + parts.structure + "\", not " + names());
  }
  [[nodiscard]] static std::string names() {
    std::string text(First::name);
    ((text += " or " + std::string(Rest::name)), ...);
    return text;
  }

  [[gnu::always_inline]] void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                                       Workspace& workspace) const {
    visit([&](const auto& op) { Unchecked::apply(op, X, Y, update, workspace); });
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    visit([&](const auto& op) { Unchecked::apply_transpose(op, Y, X, workspace); });
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    visit([&](const auto& op) { op.reserve(workspace, batch); });
  }

  std::variant<First, Rest...> held_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
