// SPDX-License-Identifier: MIT
// Eigen's sparse matrix, which is always here, and libxsmm and XNNPACK, where they are installed.
#include "peers.hpp"

#include <Eigen/SparseCore>

#include <cstdio>
#include <limits>
#include <memory>

#ifdef BENCH_LIBXSMM
#include <libxsmm.h>
#endif
#ifdef BENCH_XNNPACK
#include <xnnpack.h>
#endif

namespace pleat::bench {
namespace {

void add_eigen(Peers& found) {
  using Sparse = Eigen::SparseMatrix<float, Eigen::RowMajor>;
  const auto encode = [](const Weights& W) {
    auto sparse = std::make_shared<Sparse>(W.rows.sparseView());
    sparse->makeCompressed();
    return sparse;
  };
  found.peers.push_back({"Eigen sparse", false, [=](const Weights& W, Samples& samples) {
                           return [sparse = encode(W), &samples] {
                             samples.Y.noalias() = *sparse * samples.X;
                           };
                         }});
  found.peers.push_back(
      {"Eigen sparse, side by side", true, [=](const Weights& W, Samples& samples) {
         return [sparse = encode(W), &samples] {
           samples.Y_rows.noalias() = *sparse * samples.X_rows.topRows(sparse->cols());
         };
       }});
}

#ifdef BENCH_LIBXSMM

/// The product of a sparse matrix, encoded from a dense one, with a dense matrix.
class Spmdm {
 public:
  Spmdm(const Weights& W, Samples& samples, int threads) : samples_(samples), threads_(threads) {
    libxsmm_spmdm_init(static_cast<int>(W.rows.rows()), static_cast<int>(samples.X.cols()),
                       static_cast<int>(W.rows.cols()), threads, &handle_, &slices_);
    const int blocks = libxsmm_spmdm_get_num_createSparseSlice_blocks(&handle_);
    for (int block = 0; block < blocks; ++block)
      libxsmm_spmdm_createSparseSlice_fp32_thread(&handle_, 'N', W.rows.data(), slices_, block, 0,
                                                  1);
  }
  Spmdm(const Spmdm&) = delete;
  Spmdm& operator=(const Spmdm&) = delete;
  ~Spmdm() { libxsmm_spmdm_destroy(&handle_); }

  void run() {
    const float one = 1;
    const float zero = 0;
    const int blocks = libxsmm_spmdm_get_num_compute_blocks(&handle_);
#ifdef _OPENMP
#pragma omp parallel for num_threads(threads_) schedule(static)
#endif
    for (int thread = 0; thread < threads_; ++thread)
      for (int block = thread; block < blocks; block += threads_)
        libxsmm_spmdm_compute_fp32_thread(&handle_, 'N', 'N', &one, slices_, samples_.X_rows.data(),
                                          'N', &zero, samples_.Y_rows.data(), block, thread,
                                          threads_);
  }

 private:
  Samples& samples_;
  int threads_;
  libxsmm_spmdm_handle handle_{};
  libxsmm_CSR_sparseslice* slices_ = nullptr;
};

void add_libxsmm(Peers& found, int threads) {
  libxsmm_init();
  found.peers.push_back({"libxsmm", true, [=](const Weights& W, Samples& samples) {
                           return [product = std::make_shared<Spmdm>(W, samples, threads)] {
                             product->run();
                           };
                         }});
  found.versions += std::string(", libxsmm ") + LIBXSMM_VERSION;
}

#endif
#ifdef BENCH_XNNPACK

void add_xnnpack(Peers& found, int threads) {
  if (xnn_initialize(nullptr) != xnn_status_success) {
    std::fprintf(stderr, "skipped: XNNPACK does not run on this machine\n");
    return;
  }
  const std::shared_ptr<pthreadpool> pool(
      threads > 1 ? pthreadpool_create(std::size_t(threads)) : nullptr, pthreadpool_destroy);
  // A convolution with a 1 x 1 kernel is the product; XNNPACK chooses its sparse kernels itself.
  found.peers.push_back(
      {"XNNPACK", true, [=](const Weights& W, Samples& samples) -> std::function<void()> {
         const auto m = static_cast<std::size_t>(W.rows.rows());
         const auto n = static_cast<std::size_t>(W.rows.cols());
         constexpr float infinity = std::numeric_limits<float>::infinity();
         xnn_operator_t made = nullptr;
         if (xnn_create_convolution2d_nchw_f32(0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, n, m, n, m,
                                               W.rows.data(), nullptr, -infinity, infinity, 0,
                                               &made) != xnn_status_success)
           return nullptr;
         const std::shared_ptr<xnn_operator> product(made, xnn_delete_operator);
         if (xnn_setup_convolution2d_nchw_f32(made, 1, 1, std::size_t(samples.X.cols()),
                                              samples.X_rows.data(), samples.Y_rows.data(),
                                              pool.get()) != xnn_status_success)
           return nullptr;
         return [product, pool] { xnn_run_operator(product.get(), pool.get()); };
       }});
  found.versions += ", XNNPACK";
}

#endif

}  // namespace

Peers find_sparse_peers([[maybe_unused]] int threads) {
  Peers found;
  add_eigen(found);
#ifdef BENCH_LIBXSMM
  add_libxsmm(found, threads);
#else
  std::fprintf(stderr, "skipped: libxsmm was not found when this was built\n");
#endif
#ifdef BENCH_XNNPACK
  add_xnnpack(found, threads);
#else
  std::fprintf(stderr, "skipped: XNNPACK was not found when this was built\n");
#endif
  return found;
}

}  // namespace pleat::bench
