// SPDX-License-Identifier: MIT
// What all structures share that are products of bricks under a name.
#pragma once

#include "pleat/core/compose.hpp"
#include "pleat/factor/detail/meeting.hpp"

#include <cstddef>
#include <string>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Base of a structure that applies as the product of its factors does. `Derived` has a `name`, and
/// says of which parts it is made.
template <class Derived, class First, class... Rest>
class ProductStructure : public OperatorBase<Derived, typename First::Scalar> {
  using T = typename First::Scalar;

 public:
  [[nodiscard]] Index rows() const { return product_.rows(); }
  [[nodiscard]] Index cols() const { return product_.cols(); }
  [[nodiscard]] std::size_t bytes() const { return product_.bytes(); }
  [[nodiscard]] double flops() const { return product_.flops(); }
  [[nodiscard]] std::string structure() const { return std::string(Derived::name); }

  /// The same with activations rounded as they meet the factors that are stored so that they can;
  /// see `Dense::with_activations`. Each factor rounds what the one before it gives, tile by tile.
  /// Throws `std::invalid_argument` where none can.
  [[nodiscard]] Derived with_activations(Activations activations) const {
    return with(activations, std::index_sequence_for<First, Rest...>());
  }
  /// Whether one of its factors rounds its activations.
  [[nodiscard]] bool rounds_activations() const { return product_.rounds_activations(); }
  /// Whether one of its factors can have such activations.
  [[nodiscard]] bool meets(Activations activations) const {
    return any_meets(activations, std::index_sequence_for<First, Rest...>());
  }

 protected:
  /// Throws `std::invalid_argument` if inner sizes differ.
  explicit ProductStructure(First first, Rest... rest)
      : product_(std::move(first), std::move(rest)...) {}

  template <std::size_t At>
  [[nodiscard]] const auto& factor() const noexcept {
    return product_.template operand<At>();
  }

 private:
  friend OperatorBase<Derived, T>;

  template <std::size_t... At>
  [[nodiscard]] Derived with(Activations activations, std::index_sequence<At...>) const {
    require_meets(structure(), activations, factor<At>()...);
    const auto& self = static_cast<const Derived&>(*this);
    if constexpr (requires { self.made_of(factor<At>()...); })
      return self.made_of(meeting(factor<At>(), activations)...);
    else return Derived(meeting(factor<At>(), activations)...);
  }
  template <std::size_t... At>
  [[nodiscard]] bool any_meets(Activations activations, std::index_sequence<At...>) const {
    return (detail::meets(factor<At>(), activations) || ...);
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    Unchecked::apply(product_, X, Y, update, workspace);
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    Unchecked::apply_transpose(product_, Y, X, workspace);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    product_.reserve(workspace, batch);
  }

  Product<First, Rest...> product_;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
