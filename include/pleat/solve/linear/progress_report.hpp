// SPDX-License-Identifier: MIT
// How far a compression is, for its monitor.
#pragma once

#include "pleat/core/progress.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <string_view>
#include <utility>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// Told between steps what share of them is done, and the loss so far; returns false to stop.
using Proceed = std::function<bool(double done, double loss)>;

/// A monitor that keeps saying stop once it has said so.
class StopMonitor {
 public:
  explicit StopMonitor(Monitor user) : user_(std::move(user)) {}
  StopMonitor(const StopMonitor&) = delete;
  StopMonitor& operator=(const StopMonitor&) = delete;
  ~StopMonitor() = default;

  /// To hand on; refers to this. Empty where the user gave none.
  [[nodiscard]] Monitor monitor() {
    if (!user_) return {};
    return [this](const Progress& progress) {
      if (!stopped_) stopped_ = !user_(progress);
      return !stopped_;
    };
  }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  Monitor user_;
  bool stopped_ = false;
};

/// Tells a monitor where a compression stands, and remembers that it was asked to stop. The
/// relative error that is told never rises.
class ProgressReport {
 public:
  explicit ProgressReport(Monitor monitor) : monitor_(std::move(monitor)) {}

  /// The loss of a matrix of zeros, 1 unless this says so.
  void relative_to(double total) { total_ = total; }
  /// The loss of a result.
  void reached(double loss) {
    const double share = total_ > 0 ? loss / total_ : 0;
    now_.loss = (std::min)(now_.loss, std::sqrt((std::max)(0.0, share)));
  }

  /// All of these return false to stop. A step begins:
  bool begin(std::string_view phase, Index iteration, Index iterations) {
    now_.phase = phase;
    now_.iteration = iteration;
    now_.iterations = iterations;
    return tell();
  }
  /// Within a step: tells at most twice a second that it goes on.
  bool within() {
    constexpr auto pause = std::chrono::milliseconds(500);
    const bool due = monitor_ && !stopped_ && std::chrono::steady_clock::now() - told_ >= pause;
    return due ? tell() : !stopped_;
  }
  /// For the steps of one phase, in hundredths.
  [[nodiscard]] Proceed phase(std::string_view name) {
    if (!monitor_) return {};
    return [this, name](double done, double) {
      const auto hundredths = std::max<Index>(1, std::lround(100 * done));
      if (now_.phase == name && now_.iteration == hundredths) return within();
      return begin(name, hundredths, 100);
    };
  }

  [[nodiscard]] bool stopped() const noexcept { return stopped_; }

 private:
  bool tell() {
    if (!stopped_ && monitor_) stopped_ = !monitor_(now_);
    told_ = std::chrono::steady_clock::now();
    return !stopped_;
  }

  Monitor monitor_;
  double total_ = 1;
  Progress now_{};
  std::chrono::steady_clock::time_point told_{};
  bool stopped_ = false;
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
