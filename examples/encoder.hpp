// SPDX-License-Identifier: MIT
// The Universal Sentence Encoder (lite), a two-layer transformer, with each linear layer behind an
// AnyOperator: a weight can be dense or compressed, and the forward pass does not know which.
#pragma once

#include "tfjs.hpp"

#include <Eigen/Dense>
#include <pleat/core/any_operator.hpp>
#include <pleat/io/operator_file.hpp>
#include <pleat/io/safetensors.hpp>
#include <pleat/matrix/dense.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace encoder {

using Eigen::Index;
using Eigen::MatrixXf;
using Eigen::VectorXf;
using Operator = pleat::AnyOperator<float>;

/// The operators of the linear layers, by the names of these.
using Weights = std::map<std::string, Operator>;

/// The ten linear layers, by their short names, in the order in which a sentence meets them.
inline const std::array<std::string, 10> linear_layers{
    "layer0.qkv", "layer0.attn_out", "layer0.residual_dense", "layer0.ffn1", "layer0.ffn2",
    "layer1.qkv", "layer1.attn_out", "layer1.ffn1",           "layer1.ffn2", "tanh"};

/// Everything else: embeddings, normalizations and biases, which stay as they are.
using Parameters = std::map<std::string, MatrixXf>;

/// Hears what enters each linear layer: its name, and its inputs, one token a column.
using Observer = std::function<void(const std::string& layer, const MatrixXf& inputs)>;

namespace detail {

struct Entry {
  std::string name;  // here and in our files
  std::string tfjs;  // in the published model
  Index rows, cols;  // column-major, which is the published row-major cols x rows
  bool is_weight;    // the matrix of a linear layer
};

inline const std::vector<Entry>& entries() {
  static const std::vector<Entry> all = [] {
    const std::string applied = "module_apply_default/Encoder_en/KonaTransformer/Encode/";
    const std::string stored = "module/Encoder_en/KonaTransformer/Encode/";
    const std::string concat = "/ConcatPartitions/concat";
    std::vector<Entry> list;
    const auto parameter = [&](std::string name, std::string tfjs, Index rows, Index cols = 1) {
      list.push_back({std::move(name), std::move(tfjs), rows, cols, false});
    };
    const auto linear = [&](const std::string& name, std::string weight, std::string bias,
                            Index outputs, Index inputs) {
      list.push_back({name, std::move(weight), outputs, inputs, true});
      parameter(name + ".bias", std::move(bias), outputs);
    };

    parameter("embeddings", "module/Embeddings_en", 256, 8002);
    parameter("inv_timescales",
              applied + "TransformerStack/Layer_0/AddTimingSignal/TimingSignal/ExpandDims_1", 128);
    for (const Index i : {0, 1}) {
      const Index width = i == 0 ? 256 : 512;
      const std::string name = "layer" + std::to_string(i);
      const std::string inner = "Layer_" + std::to_string(i) + "/TransformerLayer/";
      const auto norm = [&](const std::string& part, const std::string& where, Index size) {
        const std::string path = applied + inner + where + "layer_prepostprocess/layer_norm/";
        parameter(name + part + ".scale", path + "layer_norm_scale" + concat, size);
        parameter(name + part + ".bias", path + "layer_norm_bias" + concat, size);
      };
      const auto attention = [&](const std::string& part, const std::string& where, Index outputs) {
        const std::string path = inner + "MultiheadAttention/" + where;
        linear(name + part, stored + path + "/kernel/part_0", applied + path + "/bias" + concat,
               outputs, width);
      };
      const auto conv = [&](const std::string& part, const std::string& where, Index outputs,
                            Index inputs) {
        linear(name + part, applied + "TransformerStack/" + inner + where + "/Tensordot/Reshape_1",
               applied + inner + where + "/bias" + concat, outputs, inputs);
      };

      norm(".attn_norm", "", width);
      attention(".qkv", "qkv_transform_single", 3 * width);
      attention(".attn_out", "output_transform_single", 512);
      if (i == 0)
        linear(name + ".residual_dense", applied + inner + "dense/kernel" + concat,
               applied + inner + "dense/bias" + concat, 512, width);
      norm(".ffn_norm", "FFN/", 512);
      conv(".ffn1", "FFN/conv1", 1536, 512);
      conv(".ffn2", "FFN/conv2", 512, 1536);
    }
    linear("tanh", "module/Encoder_en/hidden_layers/tanh_layer_0/weights",
           "module/Encoder_en/hidden_layers/tanh_layer_0/bias", 512, 512);
    return list;
  }();
  return all;
}

/// Each column minus its mean, over its standard deviation; then a gain and an offset per feature.
inline MatrixXf layer_norm(const MatrixXf& x, const MatrixXf& scale, const MatrixXf& bias) {
  constexpr float epsilon = 1e-6F;
  MatrixXf y = x.rowwise() - x.colwise().mean();
  const Eigen::RowVectorXf deviation = (y.colwise().squaredNorm() / static_cast<float>(x.rows()) +
                                        Eigen::RowVectorXf::Constant(x.cols(), epsilon))
                                           .cwiseSqrt();
  y.array().rowwise() /= deviation.array();
  y.array().colwise() *= scale.col(0).array();
  y.colwise() += bias.col(0);
  return y;
}

/// Four heads of attention. qkv: queries over keys over values, each d x tokens, as the result is.
inline MatrixXf attention(const MatrixXf& qkv) {
  constexpr Index heads = 4;
  const Index d = qkv.rows() / 3;
  const Index width = d / heads;
  const float scale = 1 / std::sqrt(static_cast<float>(width));
  MatrixXf output(d, qkv.cols());
  if (qkv.cols() == 0) return output;
  MatrixXf weights;
  for (Index head = 0; head < heads; ++head) {
    const auto queries = qkv.middleRows(head * width, width);
    const auto keys = qkv.middleRows(d + head * width, width);
    const auto values = qkv.middleRows(2 * d + head * width, width);
    weights.noalias() = keys.transpose() * (scale * queries);  // keys x queries
    const Eigen::RowVectorXf largest = weights.colwise().maxCoeff();
    weights = (weights.rowwise() - largest).array().exp();
    const Eigen::RowVectorXf sums = weights.colwise().sum();
    weights.array().rowwise() /= sums.array();
    output.middleRows(head * width, width).noalias() = values * weights;
  }
  return output;
}

}  // namespace detail

/// An immutable value. Copies, and what `with` returns for other weights, share all that does not
/// differ.
class Encoder {
 public:
  /// Reads the published model, with dense weights. Throws `std::runtime_error` on what is not it.
  [[nodiscard]] static Encoder from_tfjs(const std::filesystem::path& model_json) {
    const tfjs::Weights tensors = tfjs::read_weights(model_json);
    Weights weights;
    auto parameters = std::make_shared<Parameters>();
    for (const detail::Entry& entry : detail::entries()) {
      const auto found = tensors.find(entry.tfjs);
      if (found == tensors.end() ||
          found->second.size() != static_cast<std::size_t>(entry.rows * entry.cols))
        throw std::runtime_error(model_json.string() + ": tensor " + entry.tfjs +
                                 " is missing or of another size");
      // A layer is published as y = x W with W inputs x outputs and row-major. The same memory read
      // column-major is the transpose: outputs x inputs, which is what an operator is.
      const Eigen::Map<const MatrixXf> matrix(found->second.data(), entry.rows, entry.cols);
      if (entry.is_weight) weights.emplace(entry.name, pleat::Dense<float>(matrix));
      else parameters->emplace(entry.name, matrix);
    }
    return Encoder(std::move(weights), std::move(parameters));
  }

  /// Reads what `save` wrote; it needs no other file.
  [[nodiscard]] static Encoder load(const std::filesystem::path& path) {
    const pleat::Safetensors file = pleat::Safetensors::open(path);
    Weights weights;
    auto parameters = std::make_shared<Parameters>();
    Index units = 0;  // of the feed-forward pair at hand: some may have been dropped
    for (const detail::Entry& entry : detail::entries()) {
      const auto check = [&](const auto& matrix) {
        const bool before = entry.name.ends_with(".ffn1");
        if (before) units = matrix.rows();
        const Index rows = before || entry.name.ends_with(".ffn1.bias") ? units : entry.rows;
        const Index cols = entry.name.ends_with(".ffn2") ? units : entry.cols;
        if (matrix.rows() != rows || matrix.cols() != cols)
          throw std::runtime_error(path.string() + ": " + entry.name + " is of another shape");
      };
      if (entry.is_weight) {
        weights[entry.name] = pleat::read_operator<float>(file, entry.name + ".weight");
        check(weights.at(entry.name));
      } else {
        (*parameters)[entry.name] = file.matrix<float>(entry.name);
        check(parameters->at(entry.name));
      }
    }
    return Encoder(std::move(weights), std::move(parameters));
  }

  /// Writes the whole encoder, weights as they are compressed, to one safetensors file.
  void save(const std::filesystem::path& path) const {
    pleat::Safetensors file;
    for (const auto& [name, matrix] : *parameters_) file.add(name, pleat::Tensor::of(matrix));
    for (const auto& [name, weight] : weights_) pleat::add_operator(file, name + ".weight", weight);
    file.save(path);
  }

  [[nodiscard]] const Weights& weights() const noexcept { return weights_; }

  /// What a layer adds to its products.
  [[nodiscard]] VectorXf bias(const std::string& layer) const {
    return parameter(layer + ".bias").col(0);
  }

  /// This encoder with other weights.
  [[nodiscard]] Encoder with(Weights weights) const {
    return Encoder(std::move(weights), parameters_);
  }

  /// The same with other biases of some layers, as they have other outputs.
  [[nodiscard]] Encoder with(Weights weights, const std::map<std::string, VectorXf>& biases) const {
    auto parameters = std::make_shared<Parameters>(*parameters_);
    for (const auto& [layer, bias] : biases) (*parameters)[layer + ".bias"] = bias;
    return Encoder(std::move(weights), std::move(parameters));
  }

  /// The embedding of a sentence: 512 numbers, unit norm. Token ids index the vocabulary.
  [[nodiscard]] VectorXf embed(std::span<const std::int32_t> ids,
                               const Observer& observe = {}) const {
    constexpr std::size_t longest = 128;  // the model looks no further
    MatrixXf x = embedded_tokens(ids.first(std::min(ids.size(), longest)));
    for (const std::string layer : {"layer0", "layer1"}) {
      const MatrixXf h = normalized(layer + ".attn_norm", x);
      const MatrixXf heads = detail::attention(linear(layer + ".qkv", h, observe));
      // The first layer widens 256 features to 512, so what passes by it has to be widened too.
      if (layer == "layer0") x = linear("layer0.residual_dense", x, observe);
      x += linear(layer + ".attn_out", heads, observe);
      const MatrixXf hidden = linear(layer + ".ffn1", normalized(layer + ".ffn_norm", x), observe);
      x += linear(layer + ".ffn2", hidden.cwiseMax(0.0F), observe);
    }
    const float tokens = std::max(1.0F, static_cast<float>(x.cols()));
    const MatrixXf pooled = x.rowwise().sum() / tokens;
    const VectorXf u = linear("tanh", pooled, observe).array().tanh();
    return u / std::sqrt(std::max(u.squaredNorm(), 1e-12F));
  }

 private:
  Encoder(Weights weights, std::shared_ptr<const Parameters> parameters)
      : weights_(std::move(weights)), parameters_(std::move(parameters)) {}

  const MatrixXf& parameter(const std::string& name) const { return parameters_->at(name); }

  MatrixXf normalized(const std::string& name, const MatrixXf& x) const {
    return detail::layer_norm(x, parameter(name + ".scale"), parameter(name + ".bias"));
  }

  MatrixXf linear(const std::string& name, const MatrixXf& x, const Observer& observe) const {
    if (observe) observe(name, x);
    const Operator& weight = weights_.at(name);
    MatrixXf y(weight.rows(), x.cols());
    weight.apply(x, y);
    y.colwise() += parameter(name + ".bias").col(0);
    return y;
  }

  /// Twice the embedding of each token (the published graph adds it twice) plus its position: the
  /// sines of all frequencies, then the cosines.
  MatrixXf embedded_tokens(std::span<const std::int32_t> ids) const {
    const MatrixXf& embeddings = parameter("embeddings");
    const MatrixXf& frequencies = parameter("inv_timescales");
    MatrixXf x(embeddings.rows(), static_cast<Index>(ids.size()));
    for (Index t = 0; t < x.cols(); ++t) {
      const Index id = ids[static_cast<std::size_t>(t)];
      if (id < 0 || id >= embeddings.cols())
        throw std::invalid_argument("token id " + std::to_string(id) + " is not in the vocabulary");
      const Eigen::ArrayXf angles = static_cast<float>(t) * frequencies.col(0).array();
      x.col(t) << angles.sin(), angles.cos();
      x.col(t) = embeddings.col(id) + (embeddings.col(id) + x.col(t));
    }
    return x;
  }

  Weights weights_;
  std::shared_ptr<const Parameters> parameters_;
};

}  // namespace encoder
