// SPDX-License-Identifier: MIT
// Matrices of cosines and sines as Monarch matrices of block rank 2.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/factor/monarch.hpp"
#include "pleat/matrix/permutation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

inline void require_transform_size(std::string_view transform, Index n) {
  require(n >= 0 && n <= Index{1} << 24, [&] {
    return std::string(transform) + ": the size is " + std::to_string(n) + ", not 0 to 2^24";
  });
}

/// The largest divisor of n that is not more than its square root.
[[nodiscard]] inline Index fourier_blocks(Index n) {
  Index K = 1;
  for (Index divisor = 2; divisor * divisor <= n; ++divisor)
    if (n % divisor == 0) K = divisor;
  return K;
}

/// Where frequency r of the order that `Trigonometric` has, 0, ..., n / 2 for cosines, n - r for
/// the sine of r, stands in the order of frequencies: cosine and sine of each in turn.
[[nodiscard]] inline Index frequency_place(Index r, Index n) noexcept {
  if (r == 0) return 0;
  return 2 * r <= n ? 2 * r - 1 : 2 * (n - r);
}

/// The matrices with the entries
///
///     M[r, i K + k] = a(r, k) cos(2 pi i j / J) + b(r, k) sin(2 pi i j / J),  r = l J + j,
///
/// for n = K J, k, l < K, and i, j < J: all with M[r, x] = c_r cos(2 pi (r x / n + e_r)), because
/// r i K / n is i j / J and a whole number. With its columns in the order (k, i), M is L R with
/// K blocks of inputs, J classes of outputs and block rank 2; its transpose is so with its columns
/// in the order (j, l), with J blocks and K classes. For K = 1 both are one dense factor.
class Trigonometric {
 public:
  using Precise = long double;
  using Coefficients = std::pair<Precise, Precise>;

  Trigonometric(std::string_view transform, Index n) : n_(n) {
    require_transform_size(transform, n);
    K_ = fourier_blocks(n);
    J_ = (std::max)(Index{1}, n / K_);
    quarter_.reserve(static_cast<std::size_t>(n) + 1);
    // Each by the function that is steep there: nothing is lost where the other is close to 1.
    for (Index u = 0; u <= n; ++u)
      quarter_.push_back(2 * u <= n ? std::cos(angle(u)) : std::sin(angle(n - u)));
  }

  /// cos(pi u / (2 n)).
  [[nodiscard]] Precise cosine(Index u) const {
    u %= 4 * n_;
    if (u < 0) u += 4 * n_;
    if (u > 2 * n_) u = 4 * n_ - u;
    return u <= n_ ? quarter_[static_cast<std::size_t>(u)]
                   : -quarter_[static_cast<std::size_t>(2 * n_ - u)];
  }
  /// sin(pi u / (2 n)).
  [[nodiscard]] Precise sine(Index u) const { return cosine(u - n_); }

  /// Of the cosine transform, in the order of Makhoul: cos(2 pi r (4 x + 1) / (4 n)).
  [[nodiscard]] auto cosine_coefficients() const {
    return [this](Index r, Index k) -> Coefficients {
      const Index u = r * (4 * k + 1);
      return {scale(r == 0) * cosine(u), -scale(r == 0) * sine(u)};
    };
  }
  /// Of the Fourier transform: cos(2 pi r x / n) for r up to n / 2, sin(2 pi r x / n) beyond, which
  /// is -sin(2 pi (n - r) x / n).
  [[nodiscard]] auto fourier_coefficients() const {
    return [this](Index r, Index k) -> Coefficients {
      const Index u = 4 * (r * k % n_);
      const Precise c = scale(r == 0 || 2 * r == n_);
      if (2 * r <= n_) return {c * cosine(u), -c * sine(u)};
      return {c * sine(u), c * cosine(u)};
    };
  }
  /// The length of a row of these without the first factor: sqrt(1 / n), or sqrt(2 / n).
  [[nodiscard]] Precise scale(bool is_single) const {
    return std::sqrt((is_single ? Precise(1) : Precise(2)) / static_cast<Precise>(n_));
  }

  /// Calls `body(k J + i, i K + k)` for all columns of M in the order of `forward`.
  template <class Body>
  void each_digits(Body body) const {
    if (n_ == 0) return;
    for (Index k = 0; k < K_; ++k)
      for (Index i = 0; i < J_; ++i) body(k * J_ + i, i * K_ + k);
  }
  /// Calls `body(j K + l, l J + j)` for all rows of M in the order of `backward`.
  template <class Body>
  void each_class(Body body) const {
    if (n_ == 0) return;
    for (Index j = 0; j < J_; ++j)
      for (Index l = 0; l < K_; ++l) body(j * K_ + l, l * J_ + j);
  }
  /// What puts inputs in the order of `forward`.
  template <Real T>
  [[nodiscard]] Permutation<T> input_order() const {
    std::vector<Index> order(static_cast<std::size_t>(n_));
    each_digits([&](Index place, Index i) { order[static_cast<std::size_t>(place)] = i; });
    return Permutation<T>(order);
  }

  /// M with its columns in the order of `each_digits`.
  template <Real T, class Of>
  [[nodiscard]] Monarch<T> forward(Of coefficients) const {
    const Index t = block_rank();
    Vector<T> L = Vector<T>::Ones(J_ * K_ * K_ * t);
    Vector<T> R = Vector<T>::Zero(K_ * t * J_ * J_);
    for (Index k = 0; k < K_ && n_ > 0; ++k)
      for (Index j = 0; j < J_; ++j) {
        for (Index l = 0; l < K_ && t == 2; ++l) {
          const Coefficients c = coefficients(l * J_ + j, k);
          L((j * K_ + l) * K_ * t + k * t) = static_cast<T>(c.first);
          L((j * K_ + l) * K_ * t + k * t + 1) = static_cast<T>(c.second);
        }
        for (Index i = 0; i < J_; ++i)
          for (Index s = 0; s < t; ++s)
            R((k * t * J_ + s * J_ + j) * J_ + i) =
                static_cast<T>(t == 1   ? entry(coefficients(j, k), i, j)
                               : s == 0 ? cosine_of(i, j)
                                        : sine_of(i, j));
      }
    const Index middle = t * J_ * K_;
    return Monarch<T>(KroneckerSparse<T>(n_, middle, {1, K_, K_ * t, J_}, L),
                      KroneckerSparse<T>(middle, n_, {K_, t * J_, J_, 1}, R));
  }

  /// The first `rows` rows of the transpose, its columns in the order of `each_class`.
  template <Real T, class Of>
  [[nodiscard]] Monarch<T> backward(Of coefficients, Index rows) const {
    const Index t = block_rank();
    Vector<T> L = Vector<T>::Zero(K_ * J_ * J_ * t);
    Vector<T> R = Vector<T>::Ones(J_ * t * K_ * K_);
    for (Index k = 0; k < K_ && n_ > 0; ++k)
      for (Index j = 0; j < J_; ++j) {
        for (Index i = 0; i < J_; ++i)
          for (Index s = 0; s < t; ++s)
            L((k * J_ + i) * J_ * t + j * t + s) =
                static_cast<T>(t == 1   ? entry(coefficients(j, k), i, j)
                               : s == 0 ? cosine_of(i, j)
                                        : sine_of(i, j));
        for (Index l = 0; l < K_ && t == 2; ++l) {
          const Coefficients c = coefficients(l * J_ + j, k);
          R((j * t * K_ + k) * K_ + l) = static_cast<T>(c.first);
          R((j * t * K_ + K_ + k) * K_ + l) = static_cast<T>(c.second);
        }
      }
    const Index middle = t * J_ * K_;
    return Monarch<T>(KroneckerSparse<T>(rows, middle, {1, J_, J_ * t, K_}, L),
                      KroneckerSparse<T>(middle, n_, {J_, t * K_, K_, 1}, R));
  }
  template <Real T, class Of>
  [[nodiscard]] Monarch<T> backward(Of coefficients) const {
    return backward<T>(coefficients, n_);
  }

 private:
  [[nodiscard]] Index block_rank() const noexcept { return K_ == 1 ? 1 : 2; }

  [[nodiscard]] Precise angle(Index u) const {
    return std::numbers::pi_v<Precise> * static_cast<Precise>(u) / static_cast<Precise>(2 * n_);
  }
  [[nodiscard]] Precise cosine_of(Index i, Index j) const { return cosine(4 * K_ * (i * j % J_)); }
  [[nodiscard]] Precise sine_of(Index i, Index j) const { return sine(4 * K_ * (i * j % J_)); }
  [[nodiscard]] Precise entry(const Coefficients& c, Index i, Index j) const {
    return c.first * cosine_of(i, j) + c.second * sine_of(i, j);
  }

  Index n_;
  Index K_ = 1;
  Index J_ = 1;
  std::vector<Precise> quarter_ = {};
};

/// A size of at least `least` with two divisors that are close to each other.
[[nodiscard]] inline Index circulant_size(Index least) {
  const auto ceil = [](Index x, Index y) { return (x + y - 1) / y; };
  Index K = 1;
  while (K * K < least) ++K;
  return K * ceil((std::max)(least, Index{1}), K);
}

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
