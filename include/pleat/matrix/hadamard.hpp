// SPDX-License-Identifier: MIT
// Hadamard matrices in blocks along the diagonal: the rotation that costs next to nothing.
#pragma once

#include "pleat/core/compose.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/kernel/active.hpp"
#include "pleat/matrix/detail/aligned_array.hpp"
#include "pleat/matrix/detail/column_indices.hpp"
#include "pleat/matrix/detail/split.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// The n x n matrix What = H D, H orthonormal Hadamard matrices along the diagonal, D a diagonal of
/// signs 1 and -1, or the identity. In a block of size b, entry (i, j) of H is
///
///     (-1)^(number of bits that i and j share) / sqrt(b)        (Sylvester's order),
///
/// so H is symmetric and What^T = What^-1 = D H. It spreads an outlier evenly over its block, which
/// is why inputs and weights are rotated by one before they are rounded to few bits:
/// W x = (W What^T) (What x).
///
/// There is one for any n: as many blocks of `block` as fit, then one for each bit of what is left,
/// the largest first. Of n = 100 in blocks of 32 these are 32, 32, 32 and 4; where the block is
/// larger than n, as for 64, 32 and 4 in blocks of 128, they are only those for the bits. A last
/// entry that is alone keeps its value.
///
/// Stored: a bit for each sign, or nothing. Memory holds a value for each sign. Cost of `apply` and
/// of `apply_transpose`: log2(b) additions a value, no products but by the signs and by the scale;
/// flops() counts the additions. Sums of up to b values are scaled at the end, so inputs within a
/// factor of b of the largest number may overflow. What is not finite reaches all of its block.
///
/// Source: J. J. Sylvester, 1867; signs: S. Ashkboos et al., "QuaRot", NeurIPS 2024.
template <Real T>
class Hadamard : public OperatorBase<Hadamard<T>, T> {
 public:
  static constexpr std::string_view name = "Hadamard";

  /// The empty 0 x 0 matrix.
  Hadamard() : Hadamard(0) {}

  /// Without signs. Throws `std::invalid_argument` if n is negative or more than 2^24, or the block
  /// no power of two from 1 to 2^24.
  explicit Hadamard(Index size, Index block = 128) : size_(size), block_(block) {
    detail::require(size >= 0 && size <= most, [&] {
      return "Hadamard: the size is " + std::to_string(size) + ", not 0 to 2^24";
    });
    detail::require(
        block >= 1 && block <= most && std::has_single_bit(static_cast<std::size_t>(block)), [&] {
          return "Hadamard: the block is " + std::to_string(block) +
                 ", not a power of two from 1 to 2^24";
        });
    each_part(0, size_, [&](Index, Index of, Index count) {
      flops_ += static_cast<double>(count) * std::log2(static_cast<double>(of));
    });
  }

  /// With the diagonal of D. Throws also if there are not n signs, and, naming it, for one that is
  /// neither 1 nor -1.
  Hadamard(Index size, Index block, const Eigen::Ref<const Vector<T>>& signs)
      : Hadamard(size, block) {
    detail::require(signs.size() == size, [&] {
      return "Hadamard: " + std::to_string(signs.size()) + " signs for a size of " +
             std::to_string(size);
    });
    set_signs([&](Index i) {
      detail::require(signs(i) == T(1) || signs(i) == T(-1), [&] {
        return "Hadamard: sign " + std::to_string(i) + " is " + std::to_string(signs(i)) +
               ", neither 1 nor -1";
      });
      return signs(i) < T(0);
    });
  }

  /// With signs drawn from a seed, the same everywhere.
  [[nodiscard]] static Hadamard with_random_signs(Index size, Index block, std::uint64_t seed) {
    Hadamard result(size, block);
    result.set_signs([&](Index i) {  // SplitMix64: 64 signs from each number
      const auto at = static_cast<std::uint64_t>(i);
      std::uint64_t z = seed + (at / 64 + 1) * 0x9e37'79b9'7f4a'7c15U;
      z = (z ^ (z >> 30U)) * 0xbf58'476d'1ce4'e5b9U;
      z = (z ^ (z >> 27U)) * 0x94d0'49bb'1331'11ebU;
      return ((z ^ (z >> 31U)) >> (at % 64) & 1U) != 0;
    });
    return result;
  }

  // Copies only, sharing the memory: what was moved from stays as it was.
  Hadamard(const Hadamard&) = default;
  Hadamard& operator=(const Hadamard&) = default;
  ~Hadamard() = default;

  [[nodiscard]] Index rows() const noexcept { return size_; }
  [[nodiscard]] Index cols() const noexcept { return size_; }
  /// The size of the blocks; only the last may be smaller.
  [[nodiscard]] Index block() const noexcept { return block_; }
  [[nodiscard]] bool has_signs() const noexcept { return has_signs_; }
  /// The diagonal of D.
  [[nodiscard]] Vector<T> signs() const {
    if (!has_signs_ || size_ == 0) return Vector<T>::Ones(size_);
    return Eigen::Map<const Vector<T>>(signs_.data(), size_);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return has_signs_ ? static_cast<std::size_t>(sign_bytes()) : 0;
  }
  [[nodiscard]] double flops() const noexcept { return flops_; }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const {
    return "blocks of " + std::to_string(block_) + (has_signs_ ? ", signs" : "");
  }

  /// Attributes "size" and "block". With signs "signs": ceil(n / 8) bytes, the first sign in the
  /// lowest bit, 1 for -1.
  [[nodiscard]] Parts parts() const {
    Parts parts{
        structure(), {{"size", std::to_string(size_)}, {"block", std::to_string(block_)}}, {}, {}};
    if (!has_signs_) return parts;
    std::vector<std::uint8_t> bits(bytes());
    for (Index i = 0; i < size_; ++i)
      if (signs_.data()[i] < T(0))
        bits[static_cast<std::size_t>(i / 8)] |= static_cast<std::uint8_t>(1U << (i % 8));
    parts.tensors["signs"] = detail::tensor_of(bits.data(), {sign_bytes()});
    return parts;
  }

  /// Throws `std::invalid_argument` for a size or block that the constructor refuses, and unless
  /// there are as many signs as that, and no bit past the last.
  [[nodiscard]] static Hadamard from_parts(const Parts& parts) {
    Hadamard result(parts.integer("size"), parts.integer("block"));
    if (!parts.tensors.contains("signs")) return result;
    const Tensor& stored = parts.tensor("signs");
    const std::vector<std::uint8_t> bits = stored.values<std::uint8_t>();
    const Index count = result.sign_bytes();
    detail::require(stored.shape == std::vector<std::int64_t>{count} &&
                        bits.size() == static_cast<std::size_t>(count),
                    [&] {
                      return "Hadamard: the signs of a size of " + std::to_string(result.size_) +
                             " are not " + std::to_string(count) + " bytes";
                    });
    const auto bit = [&](Index i) {
      return (bits[static_cast<std::size_t>(i / 8)] >> (i % 8) & 1) != 0;
    };
    for (Index i = result.size_; i < 8 * count; ++i)
      detail::require(!bit(i),
                      [] { return std::string("Hadamard: there is a bit past the last sign"); });
    result.set_signs(bit);
    return result;
  }

 private:
  friend OperatorBase<Hadamard, T>;
  static constexpr Index most = Index{1} << 24;

  [[nodiscard]] Index sign_bytes() const noexcept { return (size_ + 7) / 8; }

  template <class IsNegative>
  void set_signs(IsNegative is_negative) {
    has_signs_ = true;
    signs_ = detail::AlignedArray<T>(static_cast<std::size_t>(size_));
    for (Index i = 0; i < size_; ++i) signs_.data()[i] = is_negative(i) ? T(-1) : T(1);
  }

  /// Calls `body(at, block, count)` for the values [at, at + count) in blocks of one size, which
  /// make up the values [begin, end); these begin with a block, and end with one.
  template <class Body>
  void each_part(Index begin, Index end, Body body) const {
    const Index whole = (std::min)(end, size_ / block_ * block_);
    if (begin < whole) body(begin, block_, whole - begin);
    // In a range that ends before the last block, nothing is left.
    Index at = (std::max)(begin, whole);
    for (Index of = block_; at < end; of /= 2)
      if (of <= end - at) {
        body(at, of, of);
        at += of;
      }
  }

  /// Cuts the samples, or, where there are few, the values into tasks; the latter in whole blocks.
  [[nodiscard]] detail::Split split(Index batch, const Workspace& workspace) const {
    // A value moved costs at least as much as a flop.
    const double work = (flops_ + static_cast<double>(size_)) * static_cast<double>(batch);
    if (batch >= workspace.max_tasks()) return {batch, 1, work, workspace};
    return {size_, (std::max)(block_, Index{16}), work, workspace};
  }

  static std::size_t unsign(Index value) noexcept { return static_cast<std::size_t>(value); }

  /// Scratch of one task.
  [[nodiscard]] std::size_t scratch(bool add) const noexcept {
    return add ? unsign((std::min)(block_, size_)) : 0;
  }

  /// Y = A H B X or Y += A H B X.
  void transform(const ConstMatrixView<T>& X, MatrixView<T> Y, const T* before, const T* after,
                 bool add, Workspace& workspace) const {
    if (size_ == 0) return;
    const Index batch = X.cols();
    const bool by_samples = batch >= workspace.max_tasks();
    const auto& table = kernel::active<T>();
    const auto run = [&](Index begin, Index end, T* memory) {
      const Index first = by_samples ? begin : 0;
      const Index samples = by_samples ? end - begin : batch;
      const T* const x = X.data() + first * X.outerStride();
      T* const y = Y.data() + first * Y.outerStride();
      each_part(
          by_samples ? 0 : begin, by_samples ? size_ : end, [&](Index at, Index of, Index count) {
            table.hadamard_apply(
                unsign(of), unsign(count), static_cast<T>(1 / std::sqrt(static_cast<double>(of))),
                before != nullptr ? before + at : nullptr, after != nullptr ? after + at : nullptr,
                unsign(samples), x + at, unsign(X.outerStride()), y + at, unsign(Y.outerStride()),
                add, memory);
          });
    };
    detail::in_tasks<T>(split(batch, workspace), scratch(add), workspace, run);
  }

  void evaluate(const ConstMatrixView<T>& X, MatrixView<T> Y, Update update,
                Workspace& workspace) const {
    transform(X, Y, signs_.data(), nullptr, update == Update::add, workspace);
  }
  void evaluate_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X,
                          Workspace& workspace) const {
    transform(Y, X, nullptr, signs_.data(), false, workspace);
  }
  void reserve_scratch(Workspace& workspace, Index batch) const {
    detail::reserve_most<T>(workspace, batch, [&](Index samples) {
      return split(samples, workspace).tasks * detail::task_scratch(scratch(true));
    });
  }

  Index size_ = 0;
  Index block_ = 1;
  bool has_signs_ = false;
  double flops_ = 0;
  detail::AlignedArray<T> signs_ = {};
};

}  // namespace PLEAT_ABI
}  // namespace pleat
