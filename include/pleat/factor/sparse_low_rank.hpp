// SPDX-License-Identifier: MIT
// A sparse weight and one of low rank, which takes what all rows have in common.
#pragma once

#include "pleat/core/compose.hpp"
#include "pleat/core/progress.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace pleat {
inline namespace PLEAT_ABI {

/// What the sparse part of a `SparseLowRank` is.
enum class SparseKind : std::uint8_t {
  semi_structured,  ///< N of every M columns, a `SemiStructured`
  csr,              ///< any entries, a `Csr`
  columns,          ///< whole columns, of the inputs that low rank serves worst
};

/// How `compress<SparseLowRank>` divides a weight between S and U V. For `SparseKind::columns`
/// there is one way, which is exact for the columns that it chose.
enum class SparseLowRankMethod : std::uint8_t {
  joint,  ///< operator splitting in the metric of the calibration, U V eliminated in every step
  oats,   ///< largest entries and leading singular vectors in turns, inputs weighed by their
          ///< energies alone (Zhang and Papyan 2024)
  godec,  ///< the same for the plain Frobenius norm (Zhou and Tao 2011)
};

/// What = S + U V with S sparse, m x n, and U: m x r, V: r x n.
///
/// S is a `SemiStructured`, a `Csr`, or `Columns`: c columns that are kept whole, D P with D: m x c
/// dense and P: c x n, a `Csr` with a one in every row, which takes the inputs of D out of x.
///
/// Stored: what S does, and r (m + n) values. Cost of `apply`: that of S and 2 r (m + n) flops a
/// sample; Y = S X, then Y += U (V X).
///
/// Source: 3BASiL (Makni et al., 2025) for N:M beside low rank.
template <Real T>
class SparseLowRank : public OperatorBase<SparseLowRank<T>, T> {
 public:
  static constexpr std::string_view name = "SparseLowRank";
  using Columns = Product<Dense<T>, Csr<T>>;

  struct Options {
    SparseKind sparse = SparseKind::semi_structured;
    /// The share of the bytes that S gets at most, in (0, 1]; 0 searches for the best. Of N:M it is
    /// the densest pattern within that share.
    double share = 0;
    /// The rank; 0 leaves it to the budget, which may want none. At most min(m, n).
    Index rank = 0;
    SparseLowRankMethod method = SparseLowRankMethod::joint;
    /// Steps of the method; 0 takes 80 for `oats` and `godec`, and for `joint` from 18 to 108, as
    /// the size allows.
    Index iterations = 0;
    /// Of an S that is N:M: its pattern, how its places are stored, and the instruction set that
    /// the group is chosen for, as for `SemiStructured`. Of {0, 0} the search chooses N as well.
    /// `automatic` places are those that take fewer bytes.
    SparsePattern pattern = {0, 0};
    Places places = Places::automatic;
    std::string target = {};
    /// How the values of S, but of a `Csr`, and both factors are stored.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// Whether S and V in narrow storage are of rotated inputs, as for `Dense`. With planted
    /// outliers the unseen error went from 0.63 to 0.16 in int4, but to 0.82 to 1.2 times what it
    /// was in int8; of real layers to 0.93 to 1.01 times in both.
    bool rotate = false;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the random vectors from which leading ones are iterated, and of the signs of the
    /// rotation.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From its parts. Throws `std::invalid_argument` if the shapes differ.
  SparseLowRank(SemiStructured<T> S, LowRank<T> factors)
      : SparseLowRank(Sparse(std::move(S)), std::move(factors)) {}
  SparseLowRank(Csr<T> S, LowRank<T> factors)
      : SparseLowRank(Sparse(std::move(S)), std::move(factors)) {}
  /// The same; throws also unless P has one entry in every row, a one, in ascending columns.
  SparseLowRank(Columns S, LowRank<T> factors)
      : SparseLowRank(Sparse(std::move(S)), std::move(factors)) {}

  /// The same with activations rounded as they meet the parts that are stored so that they can; see
  /// `Dense::with_activations`. Throws `std::invalid_argument` where none can.
  [[nodiscard]] SparseLowRank with_activations(Activations activations) const {
    SparseLowRank result = *this;
    result.factors_ = detail::meeting(factors_, activations);
    std::visit(
        [&](const auto& S) {
          detail::require_meets(structure(), activations, S, factors_);
          result.sparse_ = detail::meeting(S, activations);
        },
        sparse_);
    return result;
  }
  [[nodiscard]] bool rounds_activations() const {
    return factors_.rounds_activations() ||
           std::visit([](const auto& S) { return detail::rounds_activations(S); }, sparse_);
  }
  [[nodiscard]] bool meets(Activations activations) const {
    return factors_.meets(activations) ||
           std::visit([&](const auto& S) { return detail::meets(S, activations); }, sparse_);
  }

  /// This matrix times H, which inputs are multiplied by once for both parts. In any storage, for
  /// a `Csr` beside narrow factors is native. Throws `std::invalid_argument` if H has not as many
  /// rows as this has columns, and where there is a rotation already.
  [[nodiscard]] SparseLowRank rotated(const Hadamard<T>& H) const {
    SparseLowRank result = *this;
    result.rotation_ = detail::Rotation<T>(*this, H);
    return result;
  }
  /// H, where this is the product of S + U V and a rotation.
  [[nodiscard]] std::optional<Hadamard<T>> rotation() const { return rotation_.matrix(); }

  [[nodiscard]] Index rows() const { return factors_.rows(); }
  [[nodiscard]] Index cols() const { return factors_.cols(); }
  [[nodiscard]] std::size_t bytes() const {
    return std::visit([](const auto& S) { return S.bytes(); }, sparse_) + factors_.bytes() +
           rotation_.bytes();
  }
  [[nodiscard]] double flops() const {
    return std::visit([](const auto& S) { return S.flops(); }, sparse_) + factors_.flops() +
           rotation_.flops();
  }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  /// "8:16 by masks + rank 12".
  [[nodiscard]] std::string parameters() const {
    std::string text;
    if (const auto* const S = std::get_if<SemiStructured<T>>(&sparse_)) {
      text = to_string(S->pattern()) + (S->places() == Places::masks ? " by masks" : "");
    } else if (const auto* const csr = std::get_if<Csr<T>>(&sparse_)) {
      text = csr->parameters();
    } else {
      const Index count = columns()->template operand<0>().cols();
      text = std::to_string(count) + (count == 1 ? " column" : " columns");
    }
    return text + " + " + factors_.parameters() + rotation_.text();
  }

  [[nodiscard]] SparseKind kind() const noexcept {
    return static_cast<SparseKind>(sparse_.index());
  }
  /// S, where it is of that kind; else null.
  [[nodiscard]] const SemiStructured<T>* semi_structured() const noexcept {
    return std::get_if<SemiStructured<T>>(&sparse_);
  }
  [[nodiscard]] const Csr<T>* csr() const noexcept { return std::get_if<Csr<T>>(&sparse_); }
  [[nodiscard]] const Columns* columns() const noexcept { return std::get_if<Columns>(&sparse_); }
  /// S, as a dense matrix, of rotated inputs where there is a rotation.
  [[nodiscard]] Matrix<T> sparse_part() const {
    return std::visit([](const auto& S) { return Matrix<T>(S.to_dense()); }, sparse_);
  }

  /// U V, of the same.
  [[nodiscard]] const LowRank<T>& factors() const noexcept { return factors_; }
  [[nodiscard]] Index rank() const { return factors_.rank(); }

  /// "S", or, where it is columns, "columns" and "selection"; "U" and "V"; "rotation": a
  /// `Hadamard`, or none.
  [[nodiscard]] Parts parts() const {
    Parts parts{structure(), {}, {}, {{"U", U().parts()}, {"V", V().parts()}}};
    rotation_.add_to(parts);
    if (const auto* const S = columns()) {
      parts.children.emplace("columns", S->template operand<0>().parts());
      parts.children.emplace("selection", S->template operand<1>().parts());
    } else if (const auto* const rows = csr()) {
      parts.children.emplace("S", rows->parts());
    } else {
      parts.children.emplace("S", semi_structured()->parts());
    }
    return parts;
  }
  /// Throws what the parts of the factors, and the constructors, throw.
  [[nodiscard]] static SparseLowRank from_parts(const Parts& parts) {
    const SparseLowRank core(sparse_from(parts), {Dense<T>::from_parts(parts.child("U")),
                                                  Dense<T>::from_parts(parts.child("V"))});
    return detail::Rotation<T>::read(core, parts);
  }

 private:
  friend OperatorBase<SparseLowRank, T>;
  using Sparse = std::variant<SemiStructured<T>, Csr<T>, Columns>;  // as `SparseKind` has them

  SparseLowRank(Sparse S, LowRank<T> factors)
      : sparse_(std::move(S)), factors_(std::move(factors)) {
    std::visit(
        [this](const auto& part) {
          detail::require(part.rows() == rows() && part.cols() == cols(), [&] {
            return "SparseLowRank: a " + detail::shape_text(part.rows(), part.cols()) +
                   " sparse matrix and factors of a " + detail::shape_text(rows(), cols()) +
                   " one have no sum";
          });
        },
        sparse_);
    if (columns() != nullptr) require_selection(columns()->template operand<1>());
  }

  [[nodiscard]] static Sparse sparse_from(const Parts& parts) {
    if (parts.children.contains("selection"))
      return Columns(Dense<T>::from_parts(parts.child("columns")),
                     Csr<T>::from_parts(parts.child("selection")));
    const Parts& S = parts.child("S");
    if (S.structure == Csr<T>::name) return Csr<T>::from_parts(S);
    return SemiStructured<T>::from_parts(S);
  }

  static void require_selection(const Csr<T>& selection) {
    const Parts parts = selection.parts();
    const auto starts = parts.tensor("starts").template values<std::uint64_t>();
    const Matrix<T> values = parts.template matrix<T>("values");
    for (Index row = 0; row < selection.rows(); ++row) {
      const auto at = static_cast<std::size_t>(row);
      detail::require(
          starts[at + 1] == starts[at] + 1 && values(static_cast<Index>(starts[at])) == T(1), [&] {
            return "SparseLowRank: row " + std::to_string(row) +
                   " of the selection is not a one and zeros";
          });
    }
    const auto ascending = [&](const auto& chosen) {
      for (std::size_t row = 1; row < chosen.size(); ++row)
        detail::require(chosen[row - 1] < chosen[row], [&] {
          return "SparseLowRank: row " + std::to_string(row) + " of the selection has column " +
                 std::to_string(chosen[row]) + ", after column " + std::to_string(chosen[row - 1]);
        });
    };
    const Tensor& chosen = parts.tensor("columns");
    if (chosen.type == DataType::u16) ascending(chosen.template values<std::uint16_t>());
    else ascending(chosen.template values<std::uint32_t>());
  }

  [[nodiscard]] const Dense<T>& U() const noexcept { return factors_.U(); }
  [[nodiscard]] const Dense<T>& V() const noexcept { return factors_.V(); }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    rotation_.apply(X, Y, workspace, [&](const ConstMatrixView<T>& in, MatrixView<T> out) {
      std::visit([&](const auto& S) { detail::Unchecked::apply(S, in, out, update, workspace); },
                 sparse_);
      if (rank() > 0) detail::Unchecked::apply(factors_, in, out, Update::add, workspace);
    });
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    rotation_.apply_transpose(
        Y, X, workspace, [&](const ConstMatrixView<T>& in, MatrixView<T> out) {
          std::visit(
              [&](const auto& S) { detail::Unchecked::apply_transpose(S, in, out, workspace); },
              sparse_);
          if (rank() == 0) return;
          Workspace::Frame frame(workspace);
          const MatrixView<T> term(frame.allocate<T>(out.rows() * out.cols()), out.rows(),
                                   out.cols(), Eigen::OuterStride<>(out.rows()));
          detail::Unchecked::apply_transpose(factors_, in, term, workspace);
          out += term;
        });
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    rotation_.reserve(workspace, batch, [&](Index most) {
      std::visit([&](const auto& S) { S.reserve(workspace, most); }, sparse_);
      Workspace::Frame frame(workspace);
      if (rank() > 0) (void)frame.template allocate<T>(cols() * most);
      factors_.reserve(workspace, most);
    });
  }

  Sparse sparse_;
  LowRank<T> factors_;
  detail::Rotation<T> rotation_ = {};
};

}  // namespace PLEAT_ABI
}  // namespace pleat
