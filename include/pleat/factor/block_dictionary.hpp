// SPDX-License-Identifier: MIT
// A weight whose blocks of columns are sparse codes over small dictionaries of their own.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/dictionary_codes.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// Which of the shapes that a budget allows `compress<BlockDictionary>` takes.
enum class Prefer : std::uint8_t {
  error,  ///< the closest to the weight; a shape that no kernel is made for must be worth it
  speed,  ///< the closest of those that the kernels of `Options::target` are fastest with
};

/// What = [C_1 D_1 | C_2 D_2 | ...]: each block of b columns has a dictionary D_j of k atoms, k x
/// b, and in every row of C_j, m x k, s entries. So every row of a block lies in one of many
/// subspaces of s dimensions, where low rank has but one for all.
///
/// Held as a product: C = [C_1 | C_2 | ...] times D = diag(D_1, D_2, ...), a `KroneckerSparse`.
/// Codes over 4, 8, 16 or 32 atoms are N:M, s of every k columns of C, in a `SemiStructured`; over
/// any other number of atoms in a `RowSparse`. The last block may be narrower. With J = ceil(n / b)
/// blocks,
///
///     stored          m J s values with their columns, and k n values
///     flops of apply  2 (m J s + k n) a sample
///
/// It keeps far more of a weight than low rank of its size. It is fast where the instruction set
/// picks one of k inputs for every lane, see `SemiStructured`; codes in a `RowSparse` take more
/// time than dense at few samples.
///
/// Source: DSFormer (Chand et al., arXiv 2312.13211).
template <Real T>
class BlockDictionary
    : public detail::ProductStructure<BlockDictionary<T>, DictionaryCodes<T>, KroneckerSparse<T>> {
  using Base = detail::ProductStructure<BlockDictionary, DictionaryCodes<T>, KroneckerSparse<T>>;

 public:
  static constexpr std::string_view name = "BlockDictionary";

  struct Options {
    /// b, columns of a block; 0 leaves it to the budget. It is at most n.
    Index block = 0;
    /// k, atoms of a dictionary; 0 leaves it to the budget. It may be more than b.
    Index atoms = 0;
    /// s, entries in every row of a block; 0 leaves it to the budget. At most k.
    Index nonzeros = 0;
    /// Rounds over all blocks; twice as many steps before for each block by itself.
    Index iterations = 12;
    /// Which shape to take where they are left to the budget.
    Prefer prefer = Prefer::error;
    /// The instruction set that `Prefer::speed` chooses for: "sse2", "fma3+avx2", "avx512" or
    /// "neon64"; that in force if empty.
    std::string target = {};
    /// How codes and dictionaries are stored. Narrow codes are N:M, of 4, 8, 16 or 32 atoms.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// Whether dictionaries in narrow storage are of rotated inputs, as for `Dense`: with planted
    /// outliers the error went from 0.85 to 0.25 in int4.
    bool rotate = false;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the signs of the rotation; nothing else is random here.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From codes, m x J k, and dictionaries, J k x n. Throws `std::invalid_argument` if the inner
  /// sizes differ, if the dictionaries are not block-diagonal or the last of them lacks an atom, if
  /// N:M codes are not over groups of k, or, naming the row, if the entries of a row of codes,
  /// zeros among them, are not as many for each block.
  BlockDictionary(DictionaryCodes<T> codes, KroneckerSparse<T> dictionaries)
      : Base(std::move(codes), std::move(dictionaries)) {
    detail::require(this->dictionaries().pattern().d == 1, [&] {
      return "BlockDictionary: the dictionaries, of " + this->dictionaries().parameters() +
             ", are not block-diagonal";
    });
    detail::require(this->codes().cols() == blocks() * atoms(), [&] {
      return "BlockDictionary: codes of " + std::to_string(this->codes().cols()) +
             " columns are not those of " + std::to_string(blocks()) + " blocks with " +
             std::to_string(atoms()) + " atoms each";
    });
    nonzeros_ = detail::entries_of_each_block(name, this->codes(), blocks(), atoms());
  }

  /// b, columns of a block.
  [[nodiscard]] Index block() const { return dictionaries().pattern().c; }
  /// J, at least 1.
  [[nodiscard]] Index blocks() const {
    return std::max<Index>(1, (this->cols() + block() - 1) / block());
  }
  /// k, atoms of a dictionary.
  [[nodiscard]] Index atoms() const { return dictionaries().pattern().b; }
  /// s, entries in every row of a block.
  [[nodiscard]] Index nonzeros() const { return nonzeros_; }
  [[nodiscard]] std::string parameters() const {
    return "blocks of " + std::to_string(block()) + ", " + std::to_string(nonzeros()) + " of " +
           std::to_string(atoms()) + " atoms a row" +
           detail::codes_storage_text(codes(), dictionaries()) +
           detail::rotation_text(dictionaries().rotation());
  }

  /// This matrix times H: C and D times H, for which see `KroneckerSparse::rotated`, also for what
  /// it throws.
  [[nodiscard]] BlockDictionary rotated(const Hadamard<T>& H) const {
    return {codes(), dictionaries().rotated(H)};
  }

  /// C, m x J k.
  [[nodiscard]] const DictionaryCodes<T>& codes() const noexcept {
    return this->template factor<0>();
  }
  /// D, J k x n.
  [[nodiscard]] const KroneckerSparse<T>& dictionaries() const noexcept {
    return this->template factor<1>();
  }

  [[nodiscard]] Parts parts() const {
    return {this->structure(),
            {},
            {},
            {{"codes", codes().parts()}, {"dictionaries", dictionaries().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static BlockDictionary from_parts(const Parts& parts) {
    return BlockDictionary(DictionaryCodes<T>::from_parts(parts.child("codes")),
                           KroneckerSparse<T>::from_parts(parts.child("dictionaries")));
  }

 private:
  Index nonzeros_ = 0;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
