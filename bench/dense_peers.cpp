// SPDX-License-Identifier: MIT
// Eigen, which is always here, and OpenBLAS, BLIS and oneDNN, where they are installed.
#include "peers.hpp"

#include <cstdio>
#include <dlfcn.h>
#include <initializer_list>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef BENCH_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace pleat::bench {
namespace {

// The enumerators of every CBLAS.
constexpr int column_major = 102;
constexpr int no_transpose = 111;
constexpr int transpose = 112;
using Gemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int,
                      float, float*, int);
using Gemv = void (*)(int, int, int, int, float, const float*, int, const float*, int, float,
                      float*, int);

void add_eigen(Peers& found, int threads) {
  Eigen::setNbThreads(threads);
  found.peers.push_back({"Eigen", false, [](const Weights& W, Samples& samples) {
                           return [&] { samples.Y.noalias() = W.columns * samples.X; };
                         }});
  found.peers.push_back({"Eigen, row-major", false, [](const Weights& W, Samples& samples) {
                           return [&] { samples.Y.noalias() = W.rows * samples.X; };
                         }});
  found.versions = "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." +
                   std::to_string(EIGEN_MAJOR_VERSION) + "." + std::to_string(EIGEN_MINOR_VERSION);
}

/// Opens a BLAS; null, said aloud, if it is not here.
void* add_blas(Peers& found, const std::string& name, std::initializer_list<const char*> files) {
  void* library = nullptr;
  for (const char* file : files)
    if (library == nullptr) library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "skipped: %s is not installed\n", name.c_str());
    return nullptr;
  }
  const auto gemm = reinterpret_cast<Gemm>(dlsym(library, "cblas_sgemm"));
  const auto gemv = reinterpret_cast<Gemv>(dlsym(library, "cblas_sgemv"));
  if (gemm == nullptr || gemv == nullptr) {
    std::fprintf(stderr, "skipped: %s has no CBLAS\n", name.c_str());
    return nullptr;
  }
  for (const bool by_rows : {false, true})
    found.peers.push_back(
        {by_rows ? name + ", row-major" : name, false, [=](const Weights& W, Samples& samples) {
           const int m = static_cast<int>(W.columns.rows());
           const int n = static_cast<int>(W.columns.cols());
           const int b = static_cast<int>(samples.X.cols());
           const float* const w = by_rows ? W.rows.data() : W.columns.data();
           const int leading = by_rows ? n : m;
           const int order = by_rows ? transpose : no_transpose;
           return [=, x = samples.X.data(), y = samples.Y.data()] {
             if (b == 1)
               gemv(column_major, order, by_rows ? n : m, by_rows ? m : n, 1, w, leading, x, 1, 0,
                    y, 1);
             else gemm(column_major, order, no_transpose, m, b, n, 1, w, leading, x, n, 0, y, m);
           };
         }});
  return library;
}

/// Calls a function of a library, where it has it.
template <class Result, class... Arguments>
Result call(void* library, const char* name, Arguments... arguments) {
  void* const function = library == nullptr ? nullptr : dlsym(library, name);
  if (function == nullptr) return Result();
  return reinterpret_cast<Result (*)(Arguments...)>(function)(arguments...);
}

#ifdef BENCH_ONEDNN

std::function<void()> inner_product(const Weights& W, Samples& samples) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::dim m = W.columns.rows();
  const memory::dim n = W.columns.cols();
  const memory::dim b = samples.X.cols();
  const auto f32 = memory::data_type::f32;
  const memory::desc in({b, n}, f32, memory::format_tag::ab);
  const memory::desc out({b, m}, f32, memory::format_tag::ab);
  const memory::desc any({m, n}, f32, memory::format_tag::any);
  const dnnl::inner_product_forward::primitive_desc plan(
      {dnnl::prop_kind::forward_inference, in, any, out}, engine);
  dnnl::stream stream(engine);
  memory given({{m, n}, f32, memory::format_tag::ba}, engine, const_cast<float*>(W.columns.data()));
  memory packed(plan.weights_desc(), engine);
  dnnl::reorder(given, packed).execute(stream, given, packed);
  stream.wait();
  memory source(in, engine, samples.X.data());
  memory target(out, engine, samples.Y.data());
  return [product = dnnl::inner_product_forward(plan), stream, packed, source, target]() mutable {
    product.execute(stream,
                    {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, target}});
    stream.wait();
  };
}

void add_onednn(Peers& found, int threads) {
#ifdef _OPENMP
  omp_set_num_threads(threads);
#else
  (void)threads;
#endif
  // The inner product, with the weights in whatever layout oneDNN likes best.
  found.peers.push_back({"oneDNN, packed", false, inner_product});
  for (const bool by_rows : {false, true})
    found.peers.push_back(
        {by_rows ? "oneDNN, row-major" : "oneDNN", false, [=](const Weights& W, Samples& samples) {
           // Its own order is by rows, in which all our matrices are transposed.
           const dnnl_dim_t m = W.columns.rows();
           const dnnl_dim_t n = W.columns.cols();
           const float* const w = by_rows ? W.rows.data() : W.columns.data();
           return [=, &samples] {
             dnnl::sgemm('N', by_rows ? 'T' : 'N', samples.X.cols(), m, n, 1, samples.X.data(), n,
                         w, by_rows ? n : m, 0, samples.Y.data(), m);
           };
         }});
  const dnnl_version_t* const version = dnnl::version();
  found.versions += ", oneDNN " + std::to_string(version->major) + "." +
                    std::to_string(version->minor) + "." + std::to_string(version->patch);
}

#endif

}  // namespace

Peers find_dense_peers(int threads) {
  Peers found;
  add_eigen(found, threads);
  if (void* const openblas = add_blas(found, "OpenBLAS", {"libopenblas.so.0", "libopenblas.so"})) {
    call<void>(openblas, "openblas_set_num_threads", threads);
    const auto* const version = call<const char*>(openblas, "openblas_get_config");
    const std::string text = version == nullptr ? "OpenBLAS" : version;
    found.versions += ", " + text.substr(0, text.find(' ', text.find(' ') + 1));
    if (const auto* const core = call<const char*>(openblas, "openblas_get_corename"))
      found.versions += std::string(" (") + core + ")";
  }
  if (void* const blis = add_blas(found, "BLIS", {"libblis.so.4", "libblis.so.3", "libblis.so"})) {
    call<void>(blis, "bli_thread_set_num_threads", long{threads});
    const auto* const version = call<const char*>(blis, "bli_info_get_version_str");
    found.versions += std::string(", BLIS ") + (version == nullptr ? "" : version);
  }
#ifdef BENCH_ONEDNN
  add_onednn(found, threads);
#else
  std::fprintf(stderr, "skipped: oneDNN was not found when this was built\n");
#endif
  return found;
}

}  // namespace pleat::bench
