// SPDX-License-Identifier: MIT
// oneDNN's inner products in int8 and bf16, where it is installed.
#include "peers.hpp"

#include <cmath>
#include <cstdint>
#include <cstdio>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef BENCH_ONEDNN
#include <oneapi/dnnl/dnnl.hpp>
#endif

namespace pleat::bench {
namespace {

#ifdef BENCH_ONEDNN

using dnnl::memory;
using Product = dnnl::inner_product_forward;

/// Y = W X, from inputs and weights of a type to outputs of float. Throws `dnnl::error` where
/// oneDNN has no such product.
Product::primitive_desc plan_of(memory::data_type type, memory::dim m, memory::dim n, memory::dim b,
                                const dnnl::engine& engine, const std::vector<float>& scales = {}) {
  const memory::desc in({b, n}, type, memory::format_tag::ab);
  const memory::desc any({m, n}, type, memory::format_tag::any);
  const memory::desc out({b, m}, memory::data_type::f32, memory::format_tag::ab);
  dnnl::primitive_attr attributes;
  if (!scales.empty()) attributes.set_output_scales(1 << 1, scales);  // one for each output
  return {{dnnl::prop_kind::forward_inference, in, any, out}, attributes, engine};
}

/// The weights in whatever layout the product likes best; `given` is column-major.
memory packed(const Product::primitive_desc& plan, memory given, const dnnl::engine& engine) {
  memory result(plan.weights_desc(), engine);
  dnnl::stream stream(engine);
  dnnl::reorder(given, result).execute(stream, given, result);
  stream.wait();
  return result;
}

std::int8_t rounded(float value, float scale) {
  return static_cast<std::int8_t>(std::lrint(value / scale));
}

/// Weights up to `most`, of one scale a row, and one for all inputs, which are rounded here,
/// outside the time.
std::function<void()> in_int8(const Weights& W, Samples& samples, float most) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::dim m = W.columns.rows();
  const memory::dim n = W.columns.cols();
  const memory::dim b = samples.X.cols();
  const auto s8 = memory::data_type::s8;
  const Eigen::VectorXf row_scales = W.columns.cwiseAbs().rowwise().maxCoeff() / most;
  const float input_scale = samples.X.cwiseAbs().maxCoeff() / 127;
  std::vector<float> scales;
  for (const float scale : row_scales) scales.push_back(scale * input_scale);
  const auto plan = plan_of(s8, m, n, b, engine, scales);

  const memory given({{m, n}, s8, memory::format_tag::ba}, engine);
  auto* to = static_cast<std::int8_t*>(given.get_data_handle());
  for (Eigen::Index k = 0; k < n; ++k)
    for (Eigen::Index i = 0; i < m; ++i) *to++ = rounded(W.columns(i, k), row_scales(i));
  memory source(plan.src_desc(), engine);
  to = static_cast<std::int8_t*>(source.get_data_handle());
  for (const float value : samples.X.reshaped()) *to++ = rounded(value, input_scale);
  memory target(plan.dst_desc(), engine, samples.Y.data());
  return [product = Product(plan), stream = dnnl::stream(engine),
          weights = packed(plan, given, engine), source, target]() mutable {
    product.execute(stream,
                    {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}});
    stream.wait();
  };
}

/// Inputs are rounded by each call.
std::function<void()> in_bf16(const Weights& W, Samples& samples) {
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  const memory::dim m = W.columns.rows();
  const memory::dim n = W.columns.cols();
  const memory::dim b = samples.X.cols();
  const auto f32 = memory::data_type::f32;
  const auto plan = plan_of(memory::data_type::bf16, m, n, b, engine);
  const memory given({{m, n}, f32, memory::format_tag::ba}, engine,
                     const_cast<float*>(W.columns.data()));
  memory inputs({{b, n}, f32, memory::format_tag::ab}, engine, samples.X.data());
  memory source(plan.src_desc(), engine);
  memory target(plan.dst_desc(), engine, samples.Y.data());
  return [product = Product(plan), round = dnnl::reorder(inputs, source),
          stream = dnnl::stream(engine), weights = packed(plan, given, engine), inputs, source,
          target]() mutable {
    round.execute(stream, inputs, source);
    product.execute(stream,
                    {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, target}});
    stream.wait();
  };
}

/// Whether oneDNN has the product on this machine, or on as much of it as it is kept to.
bool has_product(memory::data_type type) {
  try {
    (void)plan_of(type, 16, 64, 4, dnnl::engine(dnnl::engine::kind::cpu, 0));
    return true;
  } catch (const dnnl::error&) {
    return false;
  }
}

/// Whether sums of two products of bytes do not fit where oneDNN puts them: without VNNI.
bool saturates() {
  const Weights W(Columns::Ones(16, 64));
  Samples samples(Columns::Ones(64, 1), 16);
  in_int8(W, samples, 127)();
  return (samples.Y.array() - 64).abs().maxCoeff() > 1;
}

void add_onednn(Peers& found) {
  const auto has = [](memory::data_type type, const char* name) {
    if (has_product(type)) return true;
    std::fprintf(stderr, "skipped: oneDNN has no product in %s here\n", name);
    return false;
  };
  if (has(memory::data_type::s8, "int8")) {
    // Those of weights of 7 bits always fit.
    const bool narrower = saturates();
    const auto prepare = [most = narrower ? 63.0F : 127.0F](const Weights& W, Samples& samples) {
      return in_int8(W, samples, most);
    };
    found.peers.push_back({narrower ? "oneDNN int8, weights of 7 bits" : "oneDNN int8", false,
                           prepare, "int8", 1, 2e-2});
  }
  if (has(memory::data_type::bf16, "bf16"))
    found.peers.push_back({"oneDNN bf16", false, in_bf16, "bf16", 2, 6e-3});
}

#endif

}  // namespace

Peers find_narrow_peers([[maybe_unused]] int threads) {
  Peers found;
#ifdef BENCH_ONEDNN  // whose absence the dense peers say
#ifdef _OPENMP
  omp_set_num_threads(threads);
#endif
  add_onednn(found);
#endif
  return found;
}

}  // namespace pleat::bench
