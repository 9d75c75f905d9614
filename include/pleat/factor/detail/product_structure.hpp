// SPDX-License-Identifier: MIT
// What all structures share that are products of bricks under a name.
#pragma once

#include "pleat/core/compose.hpp"

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
