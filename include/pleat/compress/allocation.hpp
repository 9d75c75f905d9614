// SPDX-License-Identifier: MIT
// How the bytes of a model are shared out over its layers.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/scalar.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

/// One way to have a layer: what it takes, and what it costs the model. Dense is one, at error 0.
struct LayerOption {
  std::size_t bytes = 0;
  double error = 0;
};

namespace detail {

/// The option of least error among those of at most so many bytes that `allowed` lets pass; of two
/// alike, the smaller. `options.size()` if there is none.
template <class Allowed>
[[nodiscard]] std::size_t closest_option(const std::vector<LayerOption>& options, std::size_t bytes,
                                         Allowed allowed) {
  std::size_t best = options.size();
  for (std::size_t i = 0; i < options.size(); ++i) {
    const LayerOption& option = options[i];
    if (option.bytes > bytes || !allowed(option)) continue;
    if (best == options.size() || option.error < options[best].error ||
        (option.error <= options[best].error && option.bytes < options[best].bytes))
      best = i;
  }
  return best;
}

/// The smallest option of at most such an error; `options.size()` if there is none.
[[nodiscard]] inline std::size_t smallest_option(const std::vector<LayerOption>& options,
                                                 double error) {
  std::size_t best = options.size();
  for (std::size_t i = 0; i < options.size(); ++i)
    if (options[i].error <= error &&
        (best == options.size() || options[i].bytes < options[best].bytes))
      best = i;
  return best;
}

/// Bytes of the smallest options of at most such an error; the largest number if a layer has none,
/// or there are more.
[[nodiscard]] inline std::size_t least_bytes(const std::vector<std::vector<LayerOption>>& layers,
                                             double error) {
  constexpr std::size_t most = (std::numeric_limits<std::size_t>::max)();
  std::size_t sum = 0;
  for (const auto& options : layers) {
    const std::size_t i = smallest_option(options, error);
    if (i == options.size() || options[i].bytes > most - sum) return most;
    sum += options[i].bytes;
  }
  return sum;
}

/// The least error that all layers can be held to within so many bytes.
[[nodiscard]] inline double least_largest_error(const std::vector<std::vector<LayerOption>>& layers,
                                                std::size_t bytes) {
  std::vector<double> errors;
  for (const auto& options : layers)
    for (const LayerOption& option : options) errors.push_back(option.error);
  std::sort(errors.begin(), errors.end());
  const auto found = std::partition_point(errors.begin(), errors.end(), [&](double error) {
    return least_bytes(layers, error) > bytes;
  });
  return found == errors.end() ? std::numeric_limits<double>::infinity() : *found;
}

}  // namespace detail

/// Which option of each layer to take, so that the sum of their errors is least within so many
/// bytes: the multiple-choice knapsack. Errors are to be what adds up: squares of relative output
/// errors, say, times what a layer matters. With `alpha` no error is more than alpha times the
/// least that all layers can be held to; it is 1 or more.
///
/// Solved by dynamic programming over 50000 steps of bytes, or over the bytes themselves where they
/// are fewer; sizes are rounded up to steps, so the sum never exceeds `bytes`, and what rounding
/// left is spent at the end. Cost: 50000 times the number of options in additions, and two bytes
/// for each step and layer.
///
/// Throws `std::invalid_argument` if a layer has no options or more than 65535, an error is
/// negative or not finite, alpha is below 1, or, naming what they take, if the smallest options do
/// not fit.
///
/// Source: ROCKET (arXiv 2602.11008), section 3.
[[nodiscard]] inline std::vector<std::size_t> allocate_bytes(
    const std::vector<std::vector<LayerOption>>& layers, std::size_t bytes,
    double alpha = std::numeric_limits<double>::infinity()) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  detail::require(alpha >= 1, [&] {
    return "allocate_bytes: alpha must be 1 or more, not " + std::to_string(alpha);
  });
  for (std::size_t l = 0; l < layers.size(); ++l) {
    detail::require(!layers[l].empty() && layers[l].size() < 65536, [&] {
      return "allocate_bytes: layer " + std::to_string(l) + " has " +
             std::to_string(layers[l].size()) + " options";
    });
    for (const LayerOption& option : layers[l])
      detail::require(is_finite(option.error) && option.error >= 0, [&] {
        return "allocate_bytes: an error of layer " + std::to_string(l) +
               " is negative or not finite";
      });
  }
  const std::size_t least = detail::least_bytes(layers, infinity);
  detail::require(least <= bytes, [&] {
    return "allocate_bytes: the smallest options take " + std::to_string(least) + " of " +
           std::to_string(bytes) + " bytes";
  });
  const double cap =
      alpha < infinity ? alpha * detail::least_largest_error(layers, bytes) : infinity;
  const auto allowed = [&](const LayerOption& option) { return option.error <= cap; };

  // The smallest options are a way that fits; steps may be too coarse to have a better one.
  std::vector<std::size_t> choice;
  choice.reserve(layers.size());
  for (const auto& options : layers) choice.push_back(detail::smallest_option(options, cap));

  const std::size_t steps = (std::min)(bytes, std::size_t{50000});
  const auto units = [&](std::size_t size) {
    if (size > bytes) return steps + 1;
    const double exact = double(size) * (double(steps) / double(bytes));
    const auto whole = static_cast<std::size_t>(exact);
    // Rounded up, and in double, which holds no products of large integers.
    return steps == bytes ? size : whole + (double(whole) < exact * (1 - 1e-15) ? 1 : 0);
  };
  if (steps > 0) {
    std::vector<double> sums(steps + 1, 0);  // of the layers so far, within so many steps
    std::vector<std::vector<std::uint16_t>> taken;
    for (const auto& options : layers) {
      std::vector<double> next(steps + 1, infinity);
      std::vector<std::uint16_t> of_layer(steps + 1, 0);
      for (std::size_t i = 0; i < options.size(); ++i) {
        const std::size_t size = units(options[i].bytes);
        if (!allowed(options[i])) continue;
        for (std::size_t step = size; step <= steps; ++step)
          if (const double sum = sums[step - size] + options[i].error; sum < next[step]) {
            next[step] = sum;
            of_layer[step] = static_cast<std::uint16_t>(i);
          }
      }
      sums = std::move(next);
      taken.push_back(std::move(of_layer));
    }
    std::size_t step = steps;
    if (sums[step] < infinity)
      for (std::size_t l = layers.size(); l-- > 0;) {
        choice[l] = taken[l][step];
        step -= units(layers[l][choice[l]].bytes);
      }
  }

  std::size_t left = bytes;
  for (std::size_t l = 0; l < layers.size(); ++l) left -= layers[l][choice[l]].bytes;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const std::size_t own = layers[l][choice[l]].bytes;
    choice[l] = detail::closest_option(layers[l], own + left, allowed);
    left = own + left - layers[l][choice[l]].bytes;
  }
  return choice;
}

}  // namespace PLEAT_ABI
}  // namespace pleat
