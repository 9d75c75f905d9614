// SPDX-License-Identifier: MIT
// A Monarch matrix: two block-diagonal matrices, and between them a permutation that costs nothing.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// Sizes of the two block-diagonal weights by which the `fly` repository and others hold a Monarch
/// layer: blkdiag1 is k x q x p, blkdiag2 l x s x r, and l r = k q. The layer has s l outputs and
/// k p inputs, of which the first `rows` and `cols` are kept; 0 keeps all.
struct BlkdiagSizes {
  Index k = 1;
  Index q = 1;
  Index p = 1;
  Index l = 1;
  Index s = 1;
  Index r = 1;
  Index rows = 0;
  Index cols = 0;
};

/// What = L R. The n inputs are cut into K blocks of p = ceil(n / K), one after the other; the m
/// outputs into J classes, output i in class i mod J, each of at most q = ceil(m / J). The slice of
/// What of every block and every class, q x p, has rank t:
///
///     What[l J + j, k p + i] = sum over r < t of L[j][l, k t + r] R[k][r J + j, i].
///
/// Both factors are `KroneckerSparse`, L: m x t J K of the pattern (1, q, K t, J), and R: t J K x n
/// of (K, t J, p, 1). The permutations of the definition lie in their addresses.
///
///     stored          t (J n + K m) values
///     flops of apply  2 t (J n + K m) a sample
///
/// That is as much as low rank t K for K = J, and yet What can be of full rank: where the slices
/// are of low rank and the whole is not, such as in fast transforms and in sums of t Kronecker
/// products, it is exact. K = J = 1 is low rank t. Fast where J = 1, or from J = 16 on; between,
/// and in narrow storage, see `KroneckerSparse`.
///
/// Source: T. Dao et al., "Monarch", ICML 2022, here with block rank t and for any shape.
template <Real T>
class Monarch
    : public detail::ProductStructure<Monarch<T>, KroneckerSparse<T>, KroneckerSparse<T>> {
  using Base = detail::ProductStructure<Monarch, KroneckerSparse<T>, KroneckerSparse<T>>;

 public:
  static constexpr std::string_view name = "Monarch";

  struct Options {
    /// K, blocks of inputs; 0 leaves it to the budget. At most n.
    Index input_blocks = 0;
    /// J, classes of outputs; 0 leaves it to the budget. At most m.
    Index output_classes = 0;
    /// t, the rank of a slice; 0 leaves it to the budget. At most min(ceil(m / J), ceil(n / K)).
    Index block_rank = 0;
    /// Sweeps over the slices, where there is a calibration: without, the first step is the best.
    Index iterations = 8;
    /// How both factors are stored.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Which slices are looked at to choose K and J, and the randomized method for large slices.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From its factors, L: m x t J K and R: t J K x n. Throws `std::invalid_argument` if the inner
  /// sizes differ, if R is not block-diagonal or L of more than one block, if J does not divide the
  /// rows of a block of R, if the matrices of L do not have t columns for each block of R, or if
  /// the inner size is not all of t J K.
  Monarch(KroneckerSparse<T> L, KroneckerSparse<T> R) : Base(std::move(L), std::move(R)) {
    const KroneckerPattern& outer = left().pattern();
    const KroneckerPattern& inner = right().pattern();
    detail::require(inner.d == 1, [&] {
      return "Monarch: the right factor, of " + right().parameters() + ", is not block-diagonal";
    });
    detail::require(outer.a == 1, [&] {
      return "Monarch: the left factor, of " + left().parameters() + ", has " +
             std::to_string(outer.a) + " blocks, not 1";
    });
    detail::require(inner.b % outer.d == 0, [&] {
      return "Monarch: " + std::to_string(inner.b) + " rows of a block of the right factor are " +
             "not as many for each of " + std::to_string(outer.d) + " output classes";
    });
    detail::require(outer.c == inner.a * block_rank(), [&] {
      return "Monarch: the left factor, of " + left().parameters() + ", does not have " +
             std::to_string(inner.a * block_rank()) + " columns a class, block rank " +
             std::to_string(block_rank()) + " for each of " + std::to_string(inner.a) + " blocks";
    });
    detail::require(right().rows() == inner.a * inner.b, [&] {
      return "Monarch: the right factor, of " + right().parameters() + ", has " +
             std::to_string(right().rows()) + " rows, not all " + std::to_string(inner.a * inner.b);
    });
  }

  /// Of weights that were trained elsewhere, each in row-major order, blkdiag1 as k x q x p and
  /// blkdiag2 as l x s x r. With f = 0, ..., k q - 1 for the rows of blkdiag1, block after block,
  ///
  ///     inputs -> blkdiag1 -> f -> f = r_index l + l_index -> blkdiag2 -> s_index l + l_index
  ///
  ///     What[s_index l + l_index, k_index p + i]
  ///         = sum over f of block k_index with f mod l = l_index of
  ///           blkdiag2[l_index, s_index, f / l] blkdiag1[k_index, f - k_index q, i],
  ///
  /// so K = k and J = l. Where l divides q, the block rank is q / l, and the values are taken as
  /// they lie; else slices have rank floor(q / l) or one more, and are held with zeros at the
  /// largest. Throws `std::invalid_argument` where sizes are below 1 or l r is not k q, where there
  /// are more or fewer values than that, and where more rows or columns are kept than there are.
  [[nodiscard]] static Monarch from_blkdiag(const Eigen::Ref<const Vector<T>>& blkdiag1,
                                            const Eigen::Ref<const Vector<T>>& blkdiag2,
                                            const BlkdiagSizes& sizes,
                                            Storage storage = native_storage<T>) {
    check(sizes, blkdiag1.size(), blkdiag2.size());
    const Index rows = sizes.rows > 0 ? sizes.rows : sizes.s * sizes.l;
    const Index cols = sizes.cols > 0 ? sizes.cols : sizes.k * sizes.p;
    const auto at_most = [&](Index t) {
      return std::pair{KroneckerPattern{1, sizes.s, sizes.k * t, sizes.l},
                       KroneckerPattern{sizes.k, t * sizes.l, sizes.p, 1}};
    };
    const auto made = [&](Index t, const auto& L, const auto& R) {
      const auto [outer, inner] = at_most(t);
      const Index middle = sizes.k * t * sizes.l;
      return Monarch(KroneckerSparse<T>(rows, middle, outer, L).stored_as(storage),
                     KroneckerSparse<T>(middle, cols, inner, R).stored_as(storage));
    };
    if (sizes.q % sizes.l == 0) return made(sizes.q / sizes.l, blkdiag2, blkdiag1);

    const Index t = sizes.q / sizes.l + 1;
    Vector<T> L = Vector<T>::Zero(sizes.l * sizes.s * sizes.k * t);
    Vector<T> R = Vector<T>::Zero(sizes.k * t * sizes.l * sizes.p);
    for (Index f = 0; f < sizes.k * sizes.q; ++f) {
      const Index block = f / sizes.q;
      const Index output_class = f % sizes.l;
      // How many before f are of this block and this class.
      const Index slot = f / sizes.l - first_of(block * sizes.q, output_class, sizes.l) / sizes.l;
      R.segment(((block * t + slot) * sizes.l + output_class) * sizes.p, sizes.p) =
          blkdiag1.segment(f * sizes.p, sizes.p);
      for (Index s = 0; s < sizes.s; ++s)
        L((output_class * sizes.s + s) * sizes.k * t + block * t + slot) =
            blkdiag2((output_class * sizes.s + s) * sizes.r + f / sizes.l);
    }
    return made(t, L, R);
  }

  /// K, blocks of inputs.
  [[nodiscard]] Index input_blocks() const { return right().pattern().a; }
  /// J, classes of outputs.
  [[nodiscard]] Index output_classes() const { return left().pattern().d; }
  /// t, the rank of a slice.
  [[nodiscard]] Index block_rank() const { return right().pattern().b / output_classes(); }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(input_blocks()) + " input blocks, " + std::to_string(output_classes()) +
           " output classes, block rank " + std::to_string(block_rank()) +
           detail::stored_text(left());
  }

  /// L, m x t J K.
  [[nodiscard]] const KroneckerSparse<T>& left() const noexcept {
    return this->template factor<0>();
  }
  /// R, t J K x n.
  [[nodiscard]] const KroneckerSparse<T>& right() const noexcept {
    return this->template factor<1>();
  }

  [[nodiscard]] Parts parts() const {
    return {this->structure(), {}, {}, {{"left", left().parts()}, {"right", right().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static Monarch from_parts(const Parts& parts) {
    return Monarch(KroneckerSparse<T>::from_parts(parts.child("left")),
                   KroneckerSparse<T>::from_parts(parts.child("right")));
  }

 private:
  /// The first f from `begin` on with f mod l = `remainder`.
  [[nodiscard]] static Index first_of(Index begin, Index remainder, Index l) {
    return begin + ((remainder - begin) % l + l) % l;
  }

  static void check(const BlkdiagSizes& sizes, Index values1, Index values2) {
    const auto text = [](Index x, Index y, Index z) {
      return std::to_string(x) + " x " + std::to_string(y) + " x " + std::to_string(z);
    };
    const auto texts = [&] {
      return "Monarch: blkdiag1 of " + text(sizes.k, sizes.q, sizes.p) + " and blkdiag2 of " +
             text(sizes.l, sizes.s, sizes.r);
    };
    constexpr Index most = Index{1} << 20;  // so that no product overflows
    const auto legal = [](Index size) { return size >= 1 && size <= most; };
    detail::require(legal(sizes.k) && legal(sizes.q) && legal(sizes.p) && legal(sizes.l) &&
                        legal(sizes.s) && legal(sizes.r),
                    [&] { return texts() + " have a size below 1, or above 2^20"; });
    detail::require(sizes.l * sizes.r == sizes.k * sizes.q, [&] {
      return texts() + " do not fit: between them are " + std::to_string(sizes.k * sizes.q) +
             " values, and " + std::to_string(sizes.l * sizes.r);
    });
    detail::require(
        values1 == sizes.k * sizes.q * sizes.p && values2 == sizes.l * sizes.s * sizes.r, [&] {
          return texts() + " are not of " + std::to_string(values1) + " and " +
                 std::to_string(values2) + " values";
        });
    detail::require(sizes.rows >= 0 && sizes.rows <= sizes.s * sizes.l && sizes.cols >= 0 &&
                        sizes.cols <= sizes.k * sizes.p,
                    [&] {
                      return texts() + " make a " +
                             detail::shape_text(sizes.s * sizes.l, sizes.k * sizes.p) +
                             " matrix, of which there is no " +
                             detail::shape_text(sizes.rows, sizes.cols) + " corner";
                    });
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
