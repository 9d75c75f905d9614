// SPDX-License-Identifier: MIT
// An N:M sparse weight between two block-diagonal ones, which win back most of what pruning loses.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// What `compress<Armor>` makes small.
enum class ArmorObjective : std::uint8_t {
  output,  ///< what `relative_error` reports: the output error in the metric of the calibration, or
           ///< the Frobenius error without one
  proxy,   ///< the proxy loss of NoWag and of the paper, which knows inputs by their energies alone
};

/// What = A S B with A: m x m and B: n x n block-diagonal, S: m x n N:M sparse. The blocks are
/// square; the last one on a diagonal is smaller where sizes are no multiples of it.
///
/// Stored: those of S, and b m + c n values for blocks of b in A and c in B, so that the wrappers
/// add b / n + c / m of dense. Cost of `apply`: 2 m N ceil(n / M) + 2 (b m + c n) flops a
/// sample.
///
/// Source: ARMOR (arXiv 2510.05528, 2025).
template <Real T>
class Armor : public detail::ProductStructure<Armor<T>, KroneckerSparse<T>, SemiStructured<T>,
                                              KroneckerSparse<T>> {
  using Base =
      detail::ProductStructure<Armor, KroneckerSparse<T>, SemiStructured<T>, KroneckerSparse<T>>;

 public:
  static constexpr std::string_view name = "Armor";

  struct Options {
    /// Rows and columns of the blocks of A; 0 leaves them to the budget. At most m.
    Index block_rows = 0;
    /// Rows and columns of the blocks of B; 0 leaves them to the budget. At most n.
    Index block_cols = 0;
    ArmorObjective objective = ArmorObjective::output;
    /// Rounds of exact steps on S, A and B; more are better, and slower. 0 takes from 5 to 32: 32
    /// for 512 x 512 with a calibration, fewer for larger matrices.
    Index rounds = 0;
    /// The pattern of S, how its places are stored, and the instruction set that it is chosen for,
    /// as for `SemiStructured`; `automatic` places are masks, but for 2:4, which leave the wrappers
    /// more bytes.
    SparsePattern pattern = {0, 0};
    Places places = Places::automatic;
    std::string target = {};
    /// How the values of S are stored; A and B are in the native storage.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// Whether S in narrow storage is of rotated inputs, as for `Dense`. With planted outliers the
    /// unseen error went from 0.151 to 0.083 in int4, but from 0.054 to 0.073 in int8, for pruning
    /// alone keeps outliers as they are; of real layers to 0.95 to 1.01 times what it was.
    bool rotate = false;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the signs of the rotation; nothing else is random here.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From its factors. Throws `std::invalid_argument` unless A and B are block-diagonal with square
  /// blocks, square themselves, and as large as S has rows and columns.
  Armor(KroneckerSparse<T> A, SemiStructured<T> S, KroneckerSparse<T> B)
      : Base(checked(std::move(A), "A"), std::move(S), checked(std::move(B), "B")) {}

  /// Rows and columns of the blocks of A.
  [[nodiscard]] Index block_rows() const { return A().pattern().b; }
  /// Rows and columns of the blocks of B.
  [[nodiscard]] Index block_cols() const { return B().pattern().b; }
  [[nodiscard]] std::string parameters() const {
    return "blocks of " + std::to_string(block_rows()) + " and " + std::to_string(block_cols()) +
           ", " + S().parameters() + detail::rotation_text(B().rotation());
  }

  /// This matrix times H: A, S and B times H, for which see `KroneckerSparse::rotated`, also for
  /// what it throws.
  [[nodiscard]] Armor rotated(const Hadamard<T>& H) const { return {A(), S(), B().rotated(H)}; }

  [[nodiscard]] const KroneckerSparse<T>& A() const noexcept { return this->template factor<0>(); }
  [[nodiscard]] const SemiStructured<T>& S() const noexcept { return this->template factor<1>(); }
  [[nodiscard]] const KroneckerSparse<T>& B() const noexcept { return this->template factor<2>(); }

  [[nodiscard]] Parts parts() const {
    return {
        this->structure(), {}, {}, {{"A", A().parts()}, {"S", S().parts()}, {"B", B().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static Armor from_parts(const Parts& parts) {
    return Armor(KroneckerSparse<T>::from_parts(parts.child("A")),
                 SemiStructured<T>::from_parts(parts.child("S")),
                 KroneckerSparse<T>::from_parts(parts.child("B")));
  }

 private:
  static KroneckerSparse<T> checked(KroneckerSparse<T> factor, const char* which) {
    const KroneckerPattern& pattern = factor.pattern();
    detail::require(
        pattern.b == pattern.c && pattern.d == 1 && factor.rows() == factor.cols(), [&] {
          return std::string("Armor: ") + which + ", a " +
                 detail::shape_text(factor.rows(), factor.cols()) + " matrix of the " +
                 factor.parameters() + ", is not square with square blocks on its diagonal";
        });
    return factor;
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
