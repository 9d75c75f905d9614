// SPDX-License-Identifier: MIT
// What Monarch matrices of any shape would lose of a weight, from the spectra of some slices.
#pragma once

#include "pleat/solve/kronecker/monarch_shapes.hpp"
#include "pleat/solve/linear/definite_root.hpp"
#include "pleat/solve/linear/multiply.hpp"
#include "pleat/solve/linear/parallel.hpp"
#include "pleat/solve/linear/random.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// The loss of the best slices, each in its own part of the metric, as it is where those are few
/// and the smaller of their sides is at most 128; else from a sample of them, and of their rows and
/// columns, of which the rank has the same share. The spectra of a number of blocks and classes are
/// taken once, for any rank. Cost: at most about 5e7 multiply-adds for each, and those of an
/// eigenvalue problem of 128 for at least four slices.
template <class = void>
class MonarchSpectra {
 public:
  /// Both must live as long as this; an empty G is the identity.
  MonarchSpectra(const Matrix<double>& W, const Matrix<double>& G, std::uint64_t seed)
      : W_(W), G_(G), seed_(seed) {}

  [[nodiscard]] double loss(const MonarchShape& shape) {
    const auto key = std::pair{shape.blocks, shape.classes};
    auto place = losses_.find(key);
    if (place == losses_.end()) place = losses_.emplace(key, losses_of(shape)).first;
    const Vector<double>& by_rank = place->second;
    const Index most = by_rank.size() - 1;
    // Slices of no more than this rank are so in a sample, too.
    if (by_rank((std::min)(shape.rank, most)) == 0 && shape.rank < most) return 0;
    const Index whole = (std::min)(shape.height(W_.rows()), shape.width(W_.cols()));
    const Index below = (std::min)(most, shape.rank * most / whole);
    const double part = static_cast<double>(shape.rank * most % whole) / static_cast<double>(whole);
    return (1 - part) * by_rank(below) + part * by_rank((std::min)(most, below + 1));
  }

 private:
  /// Rows and columns of a slice that are looked at: of one share of both, by which the smaller is
  /// 128, and no more than 1024.
  [[nodiscard]] std::pair<Index, Index> sampled_sides(const MonarchShape& shape) const {
    const Index q = shape.height(W_.rows());
    const Index p = shape.width(W_.cols());
    const double share = (std::min)(1.0, 128 / static_cast<double>((std::min)(q, p)));
    const auto kept = [&](Index side) {
      return std::clamp<Index>(std::lround(share * static_cast<double>(side)), 1, 1024);
    };
    return {kept(q), kept(p)};
  }

  /// Entry t is what rank t loses, from 0 on.
  [[nodiscard]] Vector<double> losses_of(const MonarchShape& shape) const {
    const auto [q, p] = sampled_sides(shape);
    const Index side = (std::min)(p, q);
    const double in_metric = G_.size() > 0 ? double(q + side) * double(p) * double(p) : 0;
    const double work =
        double(side) * double(side) * double(2 * side + (std::max)(p, q)) + in_metric;
    const Index all = shape.blocks * shape.classes;
    const auto most = static_cast<Index>((std::min)(5e7 / work, double(all)));
    const Index count = (std::min)(all, std::max<Index>(4, most));
    // One of each stretch of the slices, at random: no stride falls on one class alone.
    Random random(seed_);
    std::vector<Index> taken;
    for (Index s = 0; s < count; ++s) {
      const Index first = s * all / count;
      const Index length = (s + 1) * all / count - first;
      taken.push_back(first + static_cast<Index>(static_cast<double>(length) * random.uniform()));
    }
    std::vector<Vector<double>> spectra(taken.size());
    parallel_ranges(count, [&](Index begin, Index end) {
      for (Index s = begin; s < end; ++s) {
        const auto at = static_cast<std::size_t>(s);
        spectra[at] = spectrum(shape, taken[at] % shape.blocks, taken[at] / shape.blocks);
      }
    });
    Vector<double> sum = Vector<double>::Zero(side);
    for (const Vector<double>& values : spectra) sum.head(values.size()) += values;
    Vector<double> losses = Vector<double>::Zero(side + 1);
    for (Index t = side; t-- > 0;) losses(t) = losses(t + 1) + sum(t);
    const double energy = losses(0);
    if (!(energy > 0)) return losses;
    // Below this are roundings.
    const double unit = energy_in_blocks(shape) / energy;
    for (Index t = 0; t <= side; ++t) losses(t) = losses(t) > 1e-12 * energy ? losses(t) * unit : 0;
    return losses;
  }

  /// Eigenvalues of T G T^T for a slice, descending, not negative.
  [[nodiscard]] Vector<double> spectrum(const MonarchShape& shape, Index k, Index j) const {
    const Index p = shape.width(W_.cols());
    const Index first = (std::min)(W_.cols(), k * p);
    const auto [height, width] = sampled_sides(shape);
    const std::vector<Index> rows =
        some(height, j, (W_.rows() - j + shape.classes - 1) / shape.classes, shape.classes);
    const std::vector<Index> cols = some(width, first, (std::min)(p, W_.cols() - first), 1);
    const Matrix<double> T = W_(rows, cols);
    if (T.size() == 0) return {};
    Matrix<double> K;
    if (G_.size() == 0) {
      K = T.rows() <= T.cols() ? outer_gram(T) : outer_gram(T.transpose());
    } else {
      const Matrix<double> G = G_(cols, cols);
      K = T.rows() <= T.cols()
              ? symmetric_part(multiply(T, multiply(G, Matrix<double>(T.transpose()))))
              : outer_gram(multiply(T, definite_root(G).root).transpose());
    }
    return eigenpairs(K, Eigen::EigenvaluesOnly).eigenvalues().reverse().cwiseMax(0);
  }

  /// At most `most` of so many, from `first` on, at even distances.
  [[nodiscard]] static std::vector<Index> some(Index most, Index first, Index count, Index stride) {
    std::vector<Index> indices;
    const Index kept = (std::min)(most, count);
    for (Index i = 0; i < kept; ++i) indices.push_back(first + i * count / kept * stride);
    return indices;
  }

  /// What all slices weigh, each in its own part of the metric; there from some of the rows.
  [[nodiscard]] double energy_in_blocks(const MonarchShape& shape) const {
    if (G_.size() == 0) return W_.squaredNorm();
    const Index p = shape.width(W_.cols());
    const std::vector<Index> rows = some(128, 0, W_.rows(), 1);
    double sum = 0;
    for (Index first = 0; first < W_.cols(); first += p) {
      const Index width = (std::min)(p, W_.cols() - first);
      const Matrix<double> T = W_(rows, Eigen::seqN(first, width));
      const Matrix<double> G = G_.block(first, first, width, width);
      sum += T.cwiseProduct(multiply(T, G)).sum();
    }
    return sum * static_cast<double>(W_.rows()) / static_cast<double>(rows.size());
  }

  const Matrix<double>& W_;
  const Matrix<double>& G_;
  std::uint64_t seed_;
  std::map<std::pair<Index, Index>, Vector<double>> losses_{};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
