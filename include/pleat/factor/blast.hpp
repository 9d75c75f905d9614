// SPDX-License-Identifier: MIT
// A BLAST matrix: blocks of low rank that share their bases along rows and columns of blocks.
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

/// Sizes of the weights by which the `BLAST` repository and others hold a BLAST layer: B is
/// row_blocks x height x rank, C column_blocks x rank x width, and D row_blocks x column_blocks x
/// rank. The layer has row_blocks height outputs and column_blocks width inputs, of which the first
/// `rows` and `cols` are kept; 0 keeps all.
struct BlastSizes {
  Index row_blocks = 1;
  Index column_blocks = 1;
  Index height = 1;
  Index width = 1;
  Index rank = 1;
  Index rows = 0;
  Index cols = 0;
};

/// What = U S V^T, cut into b1 x b2 blocks of p = ceil(m / b1) rows and q = ceil(n / b2) columns,
/// the last of which may be smaller. Each has rank r, by a basis that all blocks of its row share,
/// one that all of its column share, and r numbers of its own:
///
///     What_ij = U_i diag(s_ij) V_j^T,   U_i: p x r,   V_j: q x r.
///
/// All factors are `KroneckerSparse`: U, m x b1 r, of the pattern (b1, p, r, 1); the coupling S, b1
/// r x b2 r, of (1, b1, b2, r), with s_ij[e] as entry (i, j) of its matrix number e; and V^T, b2 r
/// x n, of (b2, r, q, 1).
///
///     stored          r (m + n + b1 b2) values
///     flops of apply  2 r (m + n + b1 b2) a sample
///
/// That is hardly more than low rank r, which is all s_ij = 1, and yet What can be of a rank up to
/// r min(b1, b2): blocks on the diagonal, and a rank of r / b in every one of b x b blocks, are
/// BLAST matrices too. Fast where r is at least 16, a multiple of that at best.
///
/// Source: C. Lee et al., "BLAST: Block-level adaptive structured matrices", NeurIPS 2024, here for
/// any shape.
template <Real T>
class Blast : public detail::ProductStructure<Blast<T>, KroneckerSparse<T>, KroneckerSparse<T>,
                                              KroneckerSparse<T>> {
  using Base =
      detail::ProductStructure<Blast, KroneckerSparse<T>, KroneckerSparse<T>, KroneckerSparse<T>>;

 public:
  static constexpr std::string_view name = "Blast";

  struct Options {
    /// b1, rows of blocks; 0 leaves it to the budget. At most m.
    Index row_blocks = 0;
    /// b2, columns of blocks; 0 leaves it to the budget. At most n.
    Index column_blocks = 0;
    /// r, the rank of a block; 0 leaves it to the budget. At most min(m, n).
    Index rank = 0;
    /// Sweeps of least squares over the three factors, at most; 0 are 30, and fewer where those
    /// would take minutes.
    Index iterations = 0;
    /// How U and V are stored; the coupling, which is small, in bf16 where those are in less.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the randomized method for singular vectors of large weights.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From its factors, U: m x b1 r, S: b1 r x b2 r and V^T: b2 r x n. Throws
  /// `std::invalid_argument` if inner sizes differ, if U or V^T is not block-diagonal or S of more
  /// than one block, and if the three do not agree on b1, b2 and r.
  Blast(KroneckerSparse<T> left, KroneckerSparse<T> coupling, KroneckerSparse<T> right)
      : Base(std::move(left), std::move(coupling), std::move(right)) {
    check();
  }

  /// Of weights that were trained elsewhere, each in row-major order: B, b1 x p x r; C, b2 x r x q;
  /// and D, b1 x b2 x r. With inputs x_j, q of them each, and outputs y_i, p of them each,
  ///
  ///     x_j -> C_j -> z_j (r) -> sum over j of D_ij o z_j (r) -> B_i -> y_i
  ///
  ///     What[i p + l, j q + k] = sum over e of B[i, l, e] D[i, j, e] C[j, e, k].
  ///
  /// `storage` is as in `Options`. Throws `std::invalid_argument` where sizes are below 1, where
  /// there are more or fewer values than that, and where more rows or columns are kept than there
  /// are.
  [[nodiscard]] static Blast from_factors(const Eigen::Ref<const Vector<T>>& B,
                                          const Eigen::Ref<const Vector<T>>& C,
                                          const Eigen::Ref<const Vector<T>>& D,
                                          const BlastSizes& sizes,
                                          Storage storage = native_storage<T>) {
    check(sizes, B.size(), C.size(), D.size());
    const auto& [b1, b2, p, q, r, rows, cols] = sizes;
    Vector<T> coupling(D.size());
    for (Index i = 0; i < sizes.row_blocks; ++i)
      for (Index j = 0; j < sizes.column_blocks; ++j)
        for (Index e = 0; e < sizes.rank; ++e)
          coupling((e * sizes.row_blocks + i) * sizes.column_blocks + j) =
              D((i * sizes.column_blocks + j) * sizes.rank + e);
    return Blast(
        KroneckerSparse<T>(rows > 0 ? rows : b1 * p, b1 * r, {b1, p, r, 1}, B).stored_as(storage),
        KroneckerSparse<T>(b1 * r, b2 * r, {1, b1, b2, r}, coupling)
            .stored_as(coupling_storage(storage)),
        KroneckerSparse<T>(b2 * r, cols > 0 ? cols : b2 * q, {b2, r, q, 1}, C).stored_as(storage));
  }

  /// How the coupling is stored where U and V are stored so: groups of a row of b2 values would
  /// have more scales than is won, and each of these values stands for a column of a block.
  [[nodiscard]] static constexpr Storage coupling_storage(Storage storage) noexcept {
    return detail::integer_bits(storage) > 0 ? Storage::bf16 : storage;
  }

  /// b1, rows of blocks.
  [[nodiscard]] Index row_blocks() const { return left().pattern().a; }
  /// b2, columns of blocks.
  [[nodiscard]] Index column_blocks() const { return right().pattern().a; }
  /// r, the rank of a block.
  [[nodiscard]] Index rank() const { return left().pattern().c; }
  [[nodiscard]] std::string parameters() const {
    return std::to_string(row_blocks()) + " x " + std::to_string(column_blocks()) +
           " blocks, rank " + std::to_string(rank()) + detail::stored_text(left());
  }

  /// U, m x b1 r.
  [[nodiscard]] const KroneckerSparse<T>& left() const noexcept {
    return this->template factor<0>();
  }
  /// S, b1 r x b2 r.
  [[nodiscard]] const KroneckerSparse<T>& coupling() const noexcept {
    return this->template factor<1>();
  }
  /// V^T, b2 r x n.
  [[nodiscard]] const KroneckerSparse<T>& right() const noexcept {
    return this->template factor<2>();
  }

  [[nodiscard]] Parts parts() const {
    return {
        this->structure(),
        {},
        {},
        {{"left", left().parts()}, {"coupling", coupling().parts()}, {"right", right().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static Blast from_parts(const Parts& parts) {
    return Blast(KroneckerSparse<T>::from_parts(parts.child("left")),
                 KroneckerSparse<T>::from_parts(parts.child("coupling")),
                 KroneckerSparse<T>::from_parts(parts.child("right")));
  }

 private:
  void check() const {
    const KroneckerPattern& outer = left().pattern();
    const KroneckerPattern& middle = coupling().pattern();
    const KroneckerPattern& inner = right().pattern();
    detail::require(outer.d == 1, [&] {
      return "Blast: the left factor, of " + left().parameters() + ", is not block-diagonal";
    });
    detail::require(inner.d == 1, [&] {
      return "Blast: the right factor, of " + right().parameters() + ", is not block-diagonal";
    });
    detail::require(middle.a == 1, [&] {
      return "Blast: the coupling, of " + coupling().parameters() + ", has " +
             std::to_string(middle.a) + " blocks, not 1";
    });
    detail::require(middle.d == outer.c && middle.d == inner.b, [&] {
      return "Blast: the rank is " + std::to_string(outer.c) + " by the left factor, " +
             std::to_string(middle.d) + " by the coupling and " + std::to_string(inner.b) +
             " by the right factor";
    });
    detail::require(middle.b == outer.a && middle.c == inner.a, [&] {
      return "Blast: the coupling is of " + detail::shape_text(middle.b, middle.c) +
             " blocks, the left factor of " + std::to_string(outer.a) +
             " rows of them and the right one of " + std::to_string(inner.a) + " columns";
    });
    detail::require(left().cols() == outer.a * outer.c && right().rows() == inner.a * inner.b, [&] {
      return "Blast: the left factor has " + std::to_string(left().cols()) + " columns of " +
             std::to_string(outer.a * outer.c) + ", the right one " +
             std::to_string(right().rows()) + " rows of " + std::to_string(inner.a * inner.b);
    });
  }

  static void check(const BlastSizes& sizes, Index of_B, Index of_C, Index of_D) {
    const auto text = [](Index x, Index y, Index z) {
      return std::to_string(x) + " x " + std::to_string(y) + " x " + std::to_string(z);
    };
    const auto texts = [&] {
      return "Blast: B of " + text(sizes.row_blocks, sizes.height, sizes.rank) + ", C of " +
             text(sizes.column_blocks, sizes.rank, sizes.width) + " and D of " +
             text(sizes.row_blocks, sizes.column_blocks, sizes.rank);
    };
    constexpr Index most = Index{1} << 20;  // so that no product overflows
    const auto legal = [](Index size) { return size >= 1 && size <= most; };
    detail::require(legal(sizes.row_blocks) && legal(sizes.column_blocks) && legal(sizes.height) &&
                        legal(sizes.width) && legal(sizes.rank),
                    [&] { return texts() + " have a size below 1, or above 2^20"; });
    detail::require(of_B == sizes.row_blocks * sizes.height * sizes.rank &&
                        of_C == sizes.column_blocks * sizes.rank * sizes.width &&
                        of_D == sizes.row_blocks * sizes.column_blocks * sizes.rank,
                    [&] {
                      return texts() + " are not of " + std::to_string(of_B) + ", " +
                             std::to_string(of_C) + " and " + std::to_string(of_D) + " values";
                    });
    const Index m = sizes.row_blocks * sizes.height;
    const Index n = sizes.column_blocks * sizes.width;
    detail::require(sizes.rows >= 0 && sizes.rows <= m && sizes.cols >= 0 && sizes.cols <= n, [&] {
      return texts() + " make a " + detail::shape_text(m, n) + " matrix, of which there is no " +
             detail::shape_text(sizes.rows, sizes.cols) + " corner";
    });
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
