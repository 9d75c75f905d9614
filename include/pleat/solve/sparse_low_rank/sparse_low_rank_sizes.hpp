// SPDX-License-Identifier: MIT
// What sparse parts and ranks fit a number of bytes.
#pragma once

#include "pleat/core/scalar.hpp"
#include "pleat/factor/sparse_low_rank.hpp"
#include "pleat/solve/low_rank/rank_rule.hpp"
#include "pleat/solve/sparse_low_rank/sparse_rule.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// One way to spend the bytes: a sparse part, how its places are stored, and a rank.
struct SparseLowRankSize {
  SparseRule rule{};
  Places places = Places::codes;
  Index rank = 0;
};

/// What of `SparseLowRank::Options` says which sizes there are; `group` is that of a pattern {0,
/// 0}, but for budgets that want less than one of so many columns.
template <Real T>
class SparseLowRankSizes {
 public:
  using Options = typename SparseLowRank<T>::Options;

  SparseLowRankSizes(Index rows, Index cols, const Options& options, Index group)
      : m_(rows), n_(cols), options_(options) {
    if (options.sparse == SparseKind::semi_structured) {
      const bool given = !(options.pattern == SparsePattern{0, 0});
      const SparsePattern pattern = given ? options.pattern : SparsePattern{1, group};
      const Index last = given ? pattern.kept : (std::min)(group - 1, cols);
      for (Index wider = 32; !given && wider > group; wider /= 2) patterns_.push_back({1, wider});
      for (Index kept = pattern.kept; kept <= (std::max)(pattern.kept, last); ++kept)
        patterns_.push_back({kept, pattern.group});
    }
  }

  /// The bytes of a sparse part.
  [[nodiscard]] std::size_t bytes(const SparseRule& rule, Places places) const {
    const auto count = static_cast<std::size_t>(rule.count);
    const std::size_t entry = sizeof(T) + ColumnIndices::index_size(n_);
    switch (rule.kind) {
      case SparseRule::Kind::pattern:
        return semi_structured_bytes(m_, n_, rule.pattern, options_.storage, places);
      case SparseRule::Kind::entries: return count * entry + 8 * (static_cast<std::size_t>(m_) + 1);
      case SparseRule::Kind::columns: break;
    }
    return matrix_bytes(options_.storage, static_cast<std::size_t>(m_), count) + count * entry +
           8 * (count + 1);
  }

  /// The fewest bytes that the options allow.
  [[nodiscard]] std::size_t smallest() const {
    const SparseLowRankSize size = least();
    return bytes(size.rule, size.places) + low_rank_bytes(m_, n_, options_.rank, options_.storage);
  }

  /// Bytes beyond which nothing is gained: the densest sparse part, and W itself.
  [[nodiscard]] std::size_t largest() const {
    std::size_t sparse = bytes(least().rule, least().places);
    if (options_.sparse == SparseKind::semi_structured)
      sparse = bytes({SparseRule::Kind::pattern, patterns_.back()}, places_of(patterns_.back()));
    if (options_.sparse == SparseKind::csr)
      sparse = bytes({SparseRule::Kind::entries, {}, m_ * n_}, Places::codes);
    if (options_.sparse == SparseKind::columns)
      sparse = bytes({SparseRule::Kind::columns, {}, n_}, Places::codes);
    const Index rank = options_.rank > 0 ? options_.rank : (std::min)(m_, n_);
    return sparse + low_rank_bytes(m_, n_, rank, options_.storage);
  }

  /// Sizes that fit, at most six, from the largest sparse part down; none if nothing fits.
  [[nodiscard]] std::vector<SparseLowRankSize> within(std::size_t limit) const {
    std::vector<SparseLowRankSize> sizes;
    const auto offer = [&](const SparseRule& rule, Places places) {
      const std::size_t own = bytes(rule, places);
      const std::size_t factors = low_rank_bytes(m_, n_, options_.rank, options_.storage);
      if (own > limit || factors > limit - own) return;
      const Index rank =
          options_.rank > 0 ? options_.rank : largest_rank(m_, n_, limit - own, options_.storage);
      sizes.push_back({rule, places, rank});
    };
    if (options_.sparse == SparseKind::semi_structured) {
      const std::size_t most = share_of(limit, options_.share > 0 ? options_.share : 1);
      for (auto pattern = patterns_.rbegin(); pattern != patterns_.rend() && sizes.size() < 6;
           ++pattern) {
        const SparseRule rule{SparseRule::Kind::pattern, *pattern};
        const Places places = places_of(*pattern);
        if (bytes(rule, places) > most && *pattern != patterns_.front()) continue;
        offer(rule, places);
        if (options_.share > 0 && !sizes.empty()) break;
      }
      return sizes;
    }
    std::vector<double> shares{1, 0.85, 0.7, 0.5, 0.3};
    if (options_.sparse == SparseKind::columns) shares = {0.6, 0.35, 0.2, 0.1, 0.04, 0};
    if (options_.share > 0) shares = {options_.share};
    const bool columns = options_.sparse == SparseKind::columns;
    Index before = -1;
    for (const double share : shares) {
      const std::size_t most = share_of(limit, share);
      SparseRule rule{columns ? SparseRule::Kind::columns : SparseRule::Kind::entries, {}, 0};
      const Index all = columns ? n_ : m_ * n_;
      Index above = all + 1;
      while (rule.count + 1 < above) {
        SparseRule middle = rule;
        middle.count = rule.count + (above - rule.count) / 2;
        if (bytes(middle, Places::codes) <= most) rule = middle;
        else above = middle.count;
      }
      if (rule.count != before) offer(rule, Places::codes);
      before = rule.count;
    }
    if (sizes.empty()) offer(least().rule, least().places);
    return sizes;
  }

 private:
  [[nodiscard]] static std::size_t share_of(std::size_t limit, double share) {
    if (share >= 1) return limit;
    return static_cast<std::size_t>(share * static_cast<double>(limit));
  }

  [[nodiscard]] Places places_of(SparsePattern pattern) const {
    if (options_.places != Places::automatic) return options_.places;
    return smaller_places(pattern, n_);
  }

  [[nodiscard]] SparseLowRankSize least() const {
    if (options_.sparse == SparseKind::semi_structured)
      return {{SparseRule::Kind::pattern, patterns_.front()}, places_of(patterns_.front()), 0};
    const bool columns = options_.sparse == SparseKind::columns;
    return {{columns ? SparseRule::Kind::columns : SparseRule::Kind::entries, {}, 0}};
  }

  Index m_;
  Index n_;
  const Options& options_;
  std::vector<SparsePattern> patterns_{};  // from the sparsest up
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
