// SPDX-License-Identifier: MIT
// A weight made of some of its own columns and rows.
#pragma once

#include "pleat/core/progress.hpp"
#include "pleat/factor/detail/product_structure.hpp"
#include "pleat/matrix/dense.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// How `compress<Cur>` chooses columns and rows.
enum class CurSelection : std::uint8_t {
  pivoted_qr,  ///< QR with column pivoting of leading singular vectors (Q-DEIM)
  leverage,    ///< the largest leverage scores in them
};

/// What = C U R, where C: m x c holds columns of the weight and R: r x n rows of it, as they are in
/// the weight, and U: c x r what stands between them. So the outputs of a layer are combinations of
/// what some of its inputs do, in the units of these inputs, and sums run over what some of its
/// outputs see: both can be named, where the singular vectors of `LowRank` are mixtures of all.
///
/// Stored: c m + c r + r n values, and c + r indices of two bytes, or of four where the weight has
/// more than 65536 columns, or rows. Cost of `apply`: 2 (c m + c r + r n) flops a sample. For c = r
/// it is never closer than `LowRank` of this rank, which is also smaller: it is for those who must
/// explain.
///
/// Source: M. Mahoney and P. Drineas, "CUR matrix decompositions for improved data analysis", PNAS
/// 2009.
template <Real T>
class Cur : public detail::ProductStructure<Cur<T>, Dense<T>, Dense<T>, Dense<T>> {
  using Base = detail::ProductStructure<Cur, Dense<T>, Dense<T>, Dense<T>>;

 public:
  static constexpr std::string_view name = "Cur";

  struct Options {
    /// c, the number of columns; 0 leaves it to the budget. At most n.
    Index columns = 0;
    /// r, the number of rows; 0 leaves it to the budget, as many as columns. At most m.
    Index rows = 0;
    CurSelection selection = CurSelection::pivoted_qr;
    /// How the values of C and R are stored; U is fitted to what they became, and native.
    Storage storage = native_storage<T>;
    /// Of int4, int3 and int2: see `Dense::Options`.
    Levels levels = Levels::uniform;
    /// How activations meet what is stored narrower; see `Dense::with_activations`.
    Activations activations = Activations::automatic;
    /// Seed of the randomized method by which large matrices are decomposed.
    std::uint64_t seed = 0;
    Monitor monitor = {};
  };

  /// From its factors, C: m x c, U: c x r and R: r x n; which columns of the weight C has, and
  /// which rows of it R. Throws `std::invalid_argument` if the inner sizes differ, if there are not
  /// as many indices as columns of C and rows of R, and, naming it, for an index that is none of
  /// the weight, or there twice.
  Cur(Dense<T> C, Dense<T> U, Dense<T> R, std::vector<Index> columns,
      std::vector<Index> rows_of_weight)
      : Base(std::move(C), std::move(U), std::move(R)),
        columns_(std::move(columns)),
        rows_of_weight_(std::move(rows_of_weight)) {
    check(columns_, this->C().cols(), this->cols(), "column");
    check(rows_of_weight_, this->R().rows(), this->rows(), "row");
  }

  // Copies only: what was moved from stays as it was.
  Cur(const Cur&) = default;
  Cur& operator=(const Cur&) = default;
  ~Cur() = default;

  /// Which columns of the weight are those of C, in the order of C: as they were chosen.
  [[nodiscard]] const std::vector<Index>& columns() const noexcept { return columns_; }
  /// Which rows of the weight are those of R, in the order of R: as they were chosen.
  [[nodiscard]] const std::vector<Index>& rows_of_weight() const noexcept {
    return rows_of_weight_;
  }

  /// The same rows and columns with other factors.
  [[nodiscard]] Cur made_of(Dense<T> C, Dense<T> U, Dense<T> R) const {
    return Cur(std::move(C), std::move(U), std::move(R), columns_, rows_of_weight_);
  }

  [[nodiscard]] const Dense<T>& C() const noexcept { return this->template factor<0>(); }
  [[nodiscard]] const Dense<T>& U() const noexcept { return this->template factor<1>(); }
  [[nodiscard]] const Dense<T>& R() const noexcept { return this->template factor<2>(); }

  [[nodiscard]] std::size_t bytes() const {
    return Base::bytes() + columns_.size() * index_bytes(this->cols()) +
           rows_of_weight_.size() * index_bytes(this->rows());
  }
  /// Bytes of an m x n one with c columns and r rows.
  [[nodiscard]] static std::size_t stored_bytes(Index m, Index n, Index c, Index r,
                                                Storage storage = native_storage<T>) {
    const auto columns = static_cast<std::size_t>(c);
    const auto rows = static_cast<std::size_t>(r);
    return matrix_bytes(storage, static_cast<std::size_t>(m), columns) +
           columns * rows * sizeof(T) + matrix_bytes(storage, rows, static_cast<std::size_t>(n)) +
           columns * index_bytes(n) + rows * index_bytes(m);
  }

  [[nodiscard]] std::string parameters() const {
    const std::string stored = C().parameters();
    return std::to_string(C().cols()) + " columns, " + std::to_string(R().rows()) + " rows" +
           (stored.empty() ? "" : ", " + stored);
  }

  /// "columns" and "rows": the indices, of 16 bits, or of 32 where the weight has more than 65536
  /// columns, or rows; and the factors "C", "U" and "R".
  [[nodiscard]] Parts parts() const {
    return {this->structure(),
            {},
            {{"columns", packed(columns_, this->cols())},
             {"rows", packed(rows_of_weight_, this->rows())}},
            {{"C", C().parts()}, {"U", U().parts()}, {"R", R().parts()}}};
  }
  /// Throws what the parts of the factors, and the constructor, throw, and unless the indices are
  /// vectors of the right type.
  [[nodiscard]] static Cur from_parts(const Parts& parts) {
    auto C = Dense<T>::from_parts(parts.child("C"));
    auto U = Dense<T>::from_parts(parts.child("U"));
    auto R = Dense<T>::from_parts(parts.child("R"));
    auto columns = unpacked(parts.tensor("columns"), R.cols());
    auto rows = unpacked(parts.tensor("rows"), C.rows());
    return Cur(std::move(C), std::move(U), std::move(R), std::move(columns), std::move(rows));
  }

 private:
  static constexpr std::size_t index_bytes(Index count) noexcept {
    return count <= Index{1} << 16 ? 2U : 4U;
  }

  static void check(const std::vector<Index>& indices, Index count, Index size, const char* what) {
    detail::require(static_cast<Index>(indices.size()) == count, [&] {
      return "Cur: " + std::to_string(indices.size()) + " indices are not those of " +
             std::to_string(count) + " " + what + "s";
    });
    // Sorted copies, not a mark for each of the weight: a file may claim any number of these.
    std::vector<Index> sorted = indices;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 0; i < sorted.size(); ++i) {
      detail::require(sorted[i] >= 0 && sorted[i] < size, [&] {
        return std::string("Cur: the weight has no ") + what + " " + std::to_string(sorted[i]) +
               " among " + std::to_string(size);
      });
      detail::require(i == 0 || sorted[i] != sorted[i - 1], [&] {
        return std::string("Cur: ") + what + " " + std::to_string(sorted[i]) + " is there twice";
      });
    }
  }

  static Tensor packed(const std::vector<Index>& indices, Index size) {
    return index_bytes(size) == 2 ? packed_as<std::uint16_t>(indices)
                                  : packed_as<std::uint32_t>(indices);
  }
  template <class Integer>
  static Tensor packed_as(const std::vector<Index>& indices) {
    Tensor tensor{data_type_of<Integer>, {static_cast<std::int64_t>(indices.size())}, {}};
    tensor.data.resize(indices.size() * sizeof(Integer));
    for (std::size_t i = 0; i < indices.size(); ++i) {
      const auto value = static_cast<Integer>(indices[i]);
      std::memcpy(tensor.data.data() + i * sizeof(Integer), &value, sizeof(Integer));
    }
    return tensor;
  }

  static std::vector<Index> unpacked(const Tensor& stored, Index size) {
    detail::require(stored.shape.size() == 1, [&] {
      return "Cur: indices of " + std::to_string(stored.shape.size()) +
             " dimensions are not a vector";
    });
    std::vector<Index> indices;
    const auto read = [&](const auto& values) { indices.assign(values.begin(), values.end()); };
    if (index_bytes(size) == 2) read(stored.values<std::uint16_t>());
    else read(stored.values<std::uint32_t>());
    detail::require(static_cast<std::int64_t>(indices.size()) == stored.shape[0], [&] {
      return "Cur: a vector of " + std::to_string(stored.shape[0]) + " holds " +
             std::to_string(indices.size()) + " indices";
    });
    return indices;
  }

  std::vector<Index> columns_;
  std::vector<Index> rows_of_weight_;
};

}  // namespace PLEAT_ABI
}  // namespace pleat
