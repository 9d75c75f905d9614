// SPDX-License-Identifier: MIT
// Finds OpenBLAS, BLIS and oneDNN; Eigen is always here.
#include "peers.hpp"

#include <cstdio>
#include <dlfcn.h>
#include <initializer_list>
#include <memory>
#include <unordered_map>

#ifdef BENCH_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace pleat::bench {
namespace {

using Eigen::MatrixXf;

// The enumerators of every CBLAS.
constexpr int column_major = 102;
constexpr int no_transpose = 111;
using Gemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int,
                      float, float*, int);
using Gemv = void (*)(int, int, int, int, float, const float*, int, const float*, int, float,
                      float*, int);
using SetThreads = void (*)(int);

void add_blas(std::vector<Peer>& peers, const char* name, std::initializer_list<const char*> files,
              const char* set_threads) {
  void* library = nullptr;
  for (const char* file : files)
    if (library == nullptr) library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "skipped: %s is not installed\n", name);
    return;
  }
  const auto gemm = reinterpret_cast<Gemm>(dlsym(library, "cblas_sgemm"));
  const auto gemv = reinterpret_cast<Gemv>(dlsym(library, "cblas_sgemv"));
  if (gemm == nullptr || gemv == nullptr) {
    std::fprintf(stderr, "skipped: %s has no CBLAS\n", name);
    return;
  }
  if (void* const set = dlsym(library, set_threads)) reinterpret_cast<SetThreads>(set)(1);
  peers.push_back({name, [gemm, gemv](const MatrixXf& W, const MatrixXf& X, MatrixXf& Y) {
                     const int m = static_cast<int>(W.rows());
                     const int n = static_cast<int>(W.cols());
                     const int b = static_cast<int>(X.cols());
                     return std::function<void()>([=, &W, &X, &Y] {
                       if (b == 1)
                         gemv(column_major, no_transpose, m, n, 1, W.data(), m, X.data(), 1, 0,
                              Y.data(), 1);
                       else
                         gemm(column_major, no_transpose, no_transpose, m, b, n, 1, W.data(), m,
                              X.data(), n, 0, Y.data(), m);
                     });
                   }});
}

#ifdef BENCH_ONEDNN
void add_onednn(std::vector<Peer>& peers) {
  // The inner product, with the weights in whatever layout oneDNN likes best.
  peers.push_back(
      {"oneDNN", [](const MatrixXf& W, const MatrixXf& X, MatrixXf& Y) {
         using dnnl::memory;
         const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
         const memory::dim m = W.rows();
         const memory::dim n = W.cols();
         const memory::dim b = X.cols();
         const auto f32 = memory::data_type::f32;
         const memory::desc in({b, n}, f32, memory::format_tag::ab);
         const memory::desc out({b, m}, f32, memory::format_tag::ab);
         const memory::desc any({m, n}, f32, memory::format_tag::any);
         const dnnl::inner_product_forward::primitive_desc plan(
             {dnnl::prop_kind::forward_inference, in, any, out}, engine);
         dnnl::stream stream(engine);
         memory given({{m, n}, f32, memory::format_tag::ba}, engine, const_cast<float*>(W.data()));
         memory packed(plan.weights_desc(), engine);
         dnnl::reorder(given, packed).execute(stream, given, packed);
         stream.wait();
         memory source(in, engine, const_cast<float*>(X.data()));
         memory target(out, engine, Y.data());
         return std::function<void()>([product = dnnl::inner_product_forward(plan), stream, packed,
                                       source, target]() mutable {
           product.execute(
               stream,
               {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, target}});
           stream.wait();
         });
       }});
}
#endif

}  // namespace

std::vector<Peer> find_peers() {
  std::vector<Peer> peers;
  peers.push_back({"Eigen", [](const MatrixXf& W, const MatrixXf& X, MatrixXf& Y) {
                     return std::function<void()>([&] { Y.noalias() = W * X; });
                   }});
  add_blas(peers, "OpenBLAS", {"libopenblas.so.0", "libopenblas.so"}, "openblas_set_num_threads");
  add_blas(peers, "BLIS", {"libblis.so.4", "libblis.so.3", "libblis.so"},
           "bli_thread_set_num_threads");
#ifdef BENCH_ONEDNN
  add_onednn(peers);
#else
  std::fprintf(stderr, "skipped: oneDNN was not found when this was built\n");
#endif
  return peers;
}

}  // namespace pleat::bench
