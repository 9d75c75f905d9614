// SPDX-License-Identifier: MIT
// A small network in a loop that must never wait: an audio effect, sample by sample. Each layer is
// behind an `AnyOperator`, so that a model file may say what it is; all memory is taken before the
// first sample.
#include <pleat/core/any_operator.hpp>
#include <pleat/factor/low_rank.hpp>
#include <pleat/matrix/dense.hpp>
#include <pleat/matrix/semi_structured.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>
#include <vector>

// What the program allocates, to show that its loop does not.
namespace {
std::atomic<std::size_t> allocations{0};

void* counted(std::size_t size, std::size_t alignment) {
  ++allocations;
  const std::size_t whole =
      (std::max<std::size_t>(size, 1) + alignment - 1) / alignment * alignment;
  if (void* memory = std::aligned_alloc(alignment, whole)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return counted(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

/// y = tanh(W3 tanh(W2 tanh(W1 x + b1) + b2) + b3), and what a call of it needs besides.
class Effect {
 public:
  struct Layer {
    pleat::AnyOperator<float> weight;
    Eigen::VectorXf bias;
  };

  explicit Effect(std::vector<Layer> layers) : layers_(std::move(layers)) {
    for (const Layer& layer : layers_) {
      values_.emplace_back(layer.weight.rows());
      layer.weight.reserve(workspace_, 1);  // after it, no `apply` to one sample allocates
    }
  }

  /// For the thread that must not wait: neither locks nor allocates, nor does `apply`, which checks
  /// the shapes of its arguments and throws if they do not fit. They do.
  const Eigen::VectorXf& process(const Eigen::VectorXf& input) noexcept {
    const Eigen::VectorXf* from = &input;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      layers_[i].weight.apply(*from, values_[i], workspace_);
      values_[i] = (values_[i] + layers_[i].bias).array().tanh();
      from = &values_[i];
    }
    return values_.back();
  }

 private:
  std::vector<Layer> layers_;
  std::vector<Eigen::VectorXf> values_{};  // the outputs of each
  pleat::Workspace workspace_{};           // serial; one a thread
};

/// A weight with two values in every four columns.
Eigen::MatrixXf pruned(Eigen::MatrixXf W) {
  for (Eigen::Index j = 0; j < W.cols(); ++j)
    if (j % 4 > 1) W.col(j).setZero();
  return W;
}

}  // namespace

int main() {
  using Eigen::MatrixXf;
  using Eigen::VectorXf;
  constexpr Eigen::Index window = 24;
  constexpr Eigen::Index channels = 16;
  std::srand(1);  // Eigen's Random() draws from rand()

  // From a file it would be pleat::load<float>("layer.safetensors"), whatever was saved there.
  const MatrixXf U = 0.5F * MatrixXf::Random(channels, 4);
  const MatrixXf V = 0.5F * MatrixXf::Random(4, window);
  const MatrixXf W2 = pruned(0.4F * MatrixXf::Random(channels, channels));
  const MatrixXf W3 = 0.4F * MatrixXf::Random(1, channels);
  const VectorXf bias = 0.1F * VectorXf::Random(channels);
  Effect effect({{pleat::LowRank<float>(pleat::Dense<float>(U), pleat::Dense<float>(V)), bias},
                 {pleat::SemiStructured<float>(W2), bias},
                 {pleat::Dense<float>(W3), VectorXf::Zero(1)}});

  constexpr Eigen::Index samples = 48000;  // a second
  const VectorXf signal = VectorXf::Random(samples + window);
  VectorXf output(samples);
  VectorXf input(window);
  std::size_t allocated = 0;
  // On a thread that has never called pleat, as the host's audio thread is.
  std::thread([&] {
    const std::size_t before = allocations;
    for (Eigen::Index t = 0; t < samples; ++t) {
      input = signal.segment(t, window);
      output[t] = effect.process(input)[0];
    }
    allocated = allocations - before;
  }).join();

  // The same by dense products.
  float difference = 0;
  for (Eigen::Index t = 0; t < samples; ++t) {
    const VectorXf first = ((U * (V * signal.segment(t, window))) + bias).array().tanh();
    const VectorXf second = (W2 * first + bias).array().tanh();
    difference = std::max(difference, std::abs(output[t] - std::tanh(W3.row(0).dot(second))));
  }
  std::printf("%d samples: %zu allocations, at most %.1e from the dense network\n",
              static_cast<int>(samples), allocated, static_cast<double>(difference));
  return allocated == 0 && difference < 1e-5F ? EXIT_SUCCESS : EXIT_FAILURE;
}
