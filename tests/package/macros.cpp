// SPDX-License-Identifier: MIT
// What <windows.h> and <complex.h> define, after all that pleat includes and before pleat itself.
#include <Eigen/Dense>
#include <nlohmann/json.hpp>
#include <xsimd/xsimd.hpp>

#include <algorithm>
#include <any>
#include <array>
#include <atomic>
#include <bit>
#include <charconv>
#include <chrono>
#include <cmath>
#include <complex>
#include <concepts>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define I (__extension__ 1.0iF)
#define small char
#define near
#define far

#include <pleat/pleat.hpp>

// They are still there.
#if !defined(min) || !defined(max) || !defined(I) || !defined(small) || !defined(near)
#error "pleat takes macros away"
#endif

int main() {
  const Eigen::MatrixXf W = Eigen::MatrixXf::Identity(4, 4);
  const pleat::Dense<float> op(W, pleat::Storage::int8);
  return pleat::AnyOperator<float>(op).rows() == 4 ? 0 : 1;
}
