// SPDX-License-Identifier: MIT
// A weight of low rank: a tall dense matrix times a wide one.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/dense.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compress<LowRank>` chooses a rank.
enum class RankRule : std::uint8_t {
  budget,  ///< the largest rank that the budget allows
  energy,  ///< the smallest rank that keeps the share `energy` of the squared singular values
  elbow,   ///< the singular value farthest from the chord of the spectrum on a logarithmic scale
};

/// How `compress<LowRank>` finds the leading singular vectors.
enum class SvdMethod : std::uint8_t {
  automatic,   ///< randomized where it pays, else exact
  exact,       ///< a complete eigendecomposition
  randomized,  ///< randomized subspace iteration (Halko, Martinsson, Tropp 2011)
};

/// What = U V with U: m x r and V: r x n.
///
/// Stored: r (m + n) values, which is less than dense for r < m n / (m + n), as they are or
/// narrower (see `Storage`). Cost of `apply`: 2 r (m + n) flops a sample, in tiles over the batch
/// that keep V x in cache.
template <Real T>
class LowRank : public detail::ProductStructure<LowRank<T>, Dense<T>, Dense<T>> {
  using Base = detail::ProductStructure<LowRank, Dense<T>, Dense<T>>;

 public:
  static constexpr std::string_view name = "LowRank";

  struct Options {
    /// The rank; 0 leaves it to the budget and `rank_rule`. At most min(m, n).
    Index rank = 0;
    /// Which rank to take among those that the budget allows.
    RankRule rank_rule = RankRule::budget;
    /// For `RankRule::energy`: the share of the squared singular values to keep, in (0, 1].
    double energy = 0.99;
    /// How singular vectors are found.
    SvdMethod svd = SvdMethod::automatic;
    /// Vectors beyond the rank in the randomized method; 0 takes max(10, rank / 10).
    Index oversampling = 0;
    /// Power iterations of the randomized method, each re-orthonormalised.
    Index power_iterations = 6;
    /// How both factors are stored.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// Whether V in narrow storage is of rotated inputs, as for `Dense`.
    bool rotate = false;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Seed of the randomized method, and of the signs of the rotation.
    std::uint64_t seed = 0;
    /// Is told of the progress, and may stop it.
    Monitor monitor = {};
  };

  /// From its factors, U: m x r and V: r x n. Throws `std::invalid_argument` if the inner sizes
  /// differ.
  LowRank(Dense<T> U, Dense<T> V) : Base(std::move(U), std::move(V)) {}

  [[nodiscard]] Index rank() const { return U().cols(); }
  [[nodiscard]] std::string parameters() const {
    const std::string stored = V().rotation() ? V().parameters() : U().parameters();
    return "rank " + std::to_string(rank()) + (stored.empty() ? "" : ", " + stored);
  }

  /// This matrix times H: U and V times H, for which see `Dense::rotated`, also for what it throws.
  [[nodiscard]] LowRank rotated(const Hadamard<T>& H) const { return {U(), V().rotated(H)}; }

  [[nodiscard]] const Dense<T>& U() const noexcept { return this->template factor<0>(); }
  [[nodiscard]] const Dense<T>& V() const noexcept { return this->template factor<1>(); }

  [[nodiscard]] Parts parts() const {
    return {this->structure(), {}, {}, {{"U", U().parts()}, {"V", V().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static LowRank from_parts(const Parts& parts) {
    return LowRank(Dense<T>::from_parts(parts.child("U")), Dense<T>::from_parts(parts.child("V")));
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
