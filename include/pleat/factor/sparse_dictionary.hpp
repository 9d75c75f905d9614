// SPDX-License-Identifier: MIT
// A weight whose rows are sparse codes over one dictionary.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/dictionary_codes.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/sparse_pattern.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compress<SparseDictionary>` finds a dictionary and codes.
enum class DictionarySolver : std::uint8_t {
  compot,  ///< orthonormal atoms and the largest codes in turns, both exact (COMPOT, 2026), then
           ///< codes and atoms that are not orthonormal
  rocket,  ///< in one shot: the largest of the codes over singular vectors, and the best atoms for
           ///< them (ROCKET, 2026)
  ksvd,    ///< matching pursuit and atoms one by one (Aharon, Elad and Bruckstein 2006), from
           ///< singular vectors; positions are free. It is far slower
};

/// What = C D: every row of C, m x k, has s entries, which combine s of the k atoms, the rows of D,
/// k x n. So each output lies in one of many subspaces of s dimensions, where low rank has one for
/// all.
///
/// The entries of C are N of every M atoms, in a `SemiStructured`, which the kernels are fast with,
/// or s of all k, in a `RowSparse`. Stored: s m values with their places, and k n values. Cost of
/// `apply`: 2 (k n + s m) flops a sample, in tiles over the batch that keep D x in cache.
///
/// Source: CoSpaDi, arXiv 2509.22075, with positions free.
template <Real T>
class SparseDictionary
    : public detail::ProductStructure<SparseDictionary<T>, DictionaryCodes<T>, Dense<T>> {
  using Base = detail::ProductStructure<SparseDictionary, DictionaryCodes<T>, Dense<T>>;

 public:
  static constexpr std::string_view name = "SparseDictionary";

  struct Options {
    /// k; 0 leaves it to the budget. At most min(m, n), but for `ksvd`.
    Index atoms = 0;
    /// s, at most k, in free positions. 0 leaves it to the pattern.
    Index nonzeros = 0;
    DictionarySolver solver = DictionarySolver::compot;
    /// Iterations of `compot` and `ksvd`; 0 takes 30 and 20, fewer where one takes seconds.
    Index iterations = 0;
    /// N of every M atoms that a row may use. {0, 0} leaves N to the budget, and M is the largest
    /// that the kernels of `target` run at full speed; with `nonzeros` it means free positions.
    SparsePattern pattern = {0, 0};
    /// "sse2", "fma3+avx2", "avx512" or "neon64"; that in force if empty.
    std::string target = {};
    /// How codes and dictionary are stored. Free positions need native storage.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// Whether a dictionary in narrow storage is of rotated inputs, as for `Dense`: with planted
    /// outliers the error went from 0.36 to 0.22 in int4.
    bool rotate = false;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Of the random vectors from which singular vectors of large weights are iterated, and of the
    /// signs of the rotation.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From codes, m x k, and a dictionary, k x n. Throws `std::invalid_argument` if the inner sizes
  /// differ.
  SparseDictionary(DictionaryCodes<T> codes, Dense<T> dictionary)
      : Base(std::move(codes), std::move(dictionary)) {}

  /// k.
  [[nodiscard]] Index atoms() const { return dictionary().rows(); }
  /// s, the most entries in a row of C.
  [[nodiscard]] Index nonzeros() const {
    const auto* const brick = codes().template get_if<SemiStructured<T>>();
    if (brick == nullptr) return codes().template get_if<RowSparse<T>>()->row_entries();
    const auto [kept, group] = brick->pattern();
    return atoms() / group * kept + (std::min)(kept, atoms() % group);
  }
  /// "64 atoms, 8:16 a row" or "64 atoms, 20 a row".
  [[nodiscard]] std::string parameters() const {
    const auto* const brick = codes().template get_if<SemiStructured<T>>();
    return std::to_string(atoms()) + " atoms, " +
           (brick != nullptr ? to_string(brick->pattern()) : std::to_string(nonzeros())) +
           " a row" + detail::codes_storage_text(codes(), dictionary()) +
           detail::rotation_text(dictionary().rotation());
  }

  /// This matrix times H: C and D times H, for which see `Dense::rotated`, also for what it throws.
  [[nodiscard]] SparseDictionary rotated(const Hadamard<T>& H) const {
    return {codes(), dictionary().rotated(H)};
  }

  /// C, m x k.
  [[nodiscard]] const DictionaryCodes<T>& codes() const noexcept {
    return this->template factor<0>();
  }
  /// D, k x n.
  [[nodiscard]] const Dense<T>& dictionary() const noexcept { return this->template factor<1>(); }

  [[nodiscard]] Parts parts() const {
    return {this->structure(),
            {},
            {},
            {{"codes", codes().parts()}, {"dictionary", dictionary().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw.
  [[nodiscard]] static SparseDictionary from_parts(const Parts& parts) {
    return SparseDictionary(DictionaryCodes<T>::from_parts(parts.child("codes")),
                            Dense<T>::from_parts(parts.child("dictionary")));
  }
};

}  // namespace PLEAT_ABI
}  // namespace pleat
