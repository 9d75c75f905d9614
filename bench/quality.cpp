// SPDX-License-Identifier: MIT
// How close each method comes to the weights of a real model: the relative output error of every
// linear layer, on the inputs it was fitted to and on others, as Markdown.
#include "pleat/compress/armor.hpp"
#include "pleat/compress/blast.hpp"
#include "pleat/compress/block_dictionary.hpp"
#include "pleat/compress/block_sparse.hpp"
#include "pleat/compress/compensate.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/kronecker.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/compress/monarch.hpp"
#include "pleat/compress/semi_structured.hpp"
#include "pleat/compress/sparse_dictionary.hpp"
#include "pleat/compress/sparse_low_rank.hpp"
#include "pleat/core/any_operator.hpp"
#include "pleat/core/threads.hpp"
#include "pleat/io/safetensors.hpp"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace pleat::bench {
namespace {

using Operator = AnyOperator<float>;

/// One linear layer: its weights, and what enters it in two halves of the data.
struct Layer {
  std::string name;
  Matrix<float> weights;
  Calibration<float> fitted;
  Calibration<float> held_out;
};

struct Method {
  std::string name;
  std::function<Operator(const Matrix<float>&, const Calibration<float>&)> compress;
};

Method semi_structured(std::string name, PruneCriterion criterion, bool refit,
                       SparsePattern pattern, Storage storage = Storage::f32) {
  return {std::move(name), [=](const auto& W, const auto& calibration) -> Operator {
            return compress<SemiStructured>(
                W, keep(1), calibration,
                {.criterion = criterion, .refit = refit, .pattern = pattern, .storage = storage});
          }};
}

Method armor(std::string name, double share, ArmorObjective objective, SparsePattern pattern,
             Storage storage = Storage::f32) {
  return {std::move(name), [=](const auto& W, const auto& calibration) -> Operator {
            return compress<Armor>(
                W, keep(share), calibration,
                {.objective = objective, .pattern = pattern, .storage = storage});
          }};
}

Method sparse_low_rank(std::string name, double share, SparsePattern pattern,
                       Storage storage = Storage::f32) {
  return {std::move(name), [=](const auto& W, const auto& calibration) -> Operator {
            return compress<SparseLowRank>(W, keep(share), calibration,
                                           {.pattern = pattern, .storage = storage});
          }};
}

Method dense(std::string name, Storage storage, bool calibrated) {
  return {std::move(name), [=](const auto& W, const auto& calibration) -> Operator {
            return compress<Dense>(W, keep(1), calibrated ? calibration : Calibration<float>(),
                                   {.storage = storage});
          }};
}

/// A structure with default options; or blind to the inputs.
template <template <Real> class Structure>
Method plainly(std::string name, double share, bool calibrated = true) {
  return {std::move(name), [=](const auto& W, const auto& calibration) -> Operator {
            return compress<Structure>(W, keep(share),
                                       calibrated ? calibration : Calibration<float>());
          }};
}

std::vector<Method> methods() {
  constexpr SparsePattern two{2, 4};
  constexpr SparsePattern eight{8, 16};
  return {
      plainly<LowRank>("LowRank, 50 %", 0.5),
      plainly<BlockDictionary>("BlockDictionary, 50 %", 0.5),
      plainly<SparseDictionary>("SparseDictionary, 50 %", 0.5),
      plainly<Blast>("Blast, 50 %", 0.5),
      plainly<Blast>("Blast, 25 %", 0.25),
      plainly<Blast>("Blast, 12.5 %", 0.125),
      plainly<Blast>("Blast, 50 %, plain", 0.5, false),
      plainly<Blast>("Blast, 25 %, plain", 0.25, false),
      plainly<Blast>("Blast, 12.5 %, plain", 0.125, false),
      plainly<Monarch>("Monarch, 50 %", 0.5),
      plainly<Monarch>("Monarch, 25 %", 0.25),
      plainly<Monarch>("Monarch, 12.5 %", 0.125),
      plainly<Monarch>("Monarch, 50 %, plain", 0.5, false),
      plainly<Monarch>("Monarch, 25 %, plain", 0.25, false),
      plainly<Monarch>("Monarch, 12.5 %, plain", 0.125, false),
      plainly<BlockSparse>("BlockSparse, 50 %", 0.5),
      plainly<BlockSparse>("BlockSparse, 25 %", 0.25),
      plainly<BlockSparse>("BlockSparse, 12.5 %", 0.125),
      plainly<BlockSparse>("BlockSparse, 50 %, plain", 0.5, false),
      plainly<BlockSparse>("BlockSparse, 25 %, plain", 0.25, false),
      plainly<BlockSparse>("BlockSparse, 12.5 %, plain", 0.125, false),
      plainly<Kronecker>("Kronecker, 50 %", 0.5),
      plainly<Kronecker>("Kronecker, 25 %", 0.25),
      plainly<Kronecker>("Kronecker, 12.5 %", 0.125),
      plainly<Kronecker>("Kronecker, 50 %, plain", 0.5, false),
      plainly<Kronecker>("Kronecker, 25 %, plain", 0.25, false),
      plainly<Kronecker>("Kronecker, 12.5 %, plain", 0.125, false),
      semi_structured("2:4, magnitude", PruneCriterion::magnitude, false, two),
      semi_structured("2:4, Wanda", PruneCriterion::wanda, false, two),
      semi_structured("2:4, NoWag", PruneCriterion::nowag, false, two),
      semi_structured("2:4, SparseGPT", PruneCriterion::sparsegpt, false, two),
      semi_structured("2:4, SparseGPT + refit", PruneCriterion::sparsegpt, true, two),
      semi_structured("SemiStructured 2:4", PruneCriterion::automatic, true, two),
      semi_structured("SemiStructured 4:8", PruneCriterion::automatic, true, {4, 8}),
      semi_structured("SemiStructured 8:16", PruneCriterion::automatic, true, eight),
      semi_structured("SemiStructured 16:32", PruneCriterion::automatic, true, {16, 32}),
      semi_structured("SemiStructured 4:16", PruneCriterion::automatic, true, {4, 16}),
      {"2:4 + low rank, 57.5 %",
       [=](const auto& W, const auto& calibration) -> Operator {
         return compensate(compress<SemiStructured>(W, keep(1), calibration, {.pattern = two}), W,
                           keep(0.575), calibration);
       }},
      {"8:16 by masks + low rank, 57.5 %",
       [=](const auto& W, const auto& calibration) -> Operator {
         return compensate(compress<SemiStructured>(W, keep(1), calibration,
                                                    {.pattern = eight, .places = Places::masks}),
                           W, keep(0.575), calibration);
       }},
      sparse_low_rank("SparseLowRank 2:4, 57.5 %", 0.575, two),
      sparse_low_rank("SparseLowRank 8:16, 57.5 %", 0.575, eight),
      sparse_low_rank("SparseLowRank, 57.5 %", 0.575, {0, 0}),
      sparse_low_rank("SparseLowRank, 40 %", 0.4, {0, 0}),
      armor("Armor 2:4, 57.5 %", 0.575, ArmorObjective::output, two),
      armor("Armor 2:4, 62 %", 0.62, ArmorObjective::output, two),
      armor("Armor 2:4, 57.5 %, proxy", 0.575, ArmorObjective::proxy, two),
      armor("Armor 8:16, 57.5 %", 0.575, ArmorObjective::output, eight),
      armor("Armor 8:16, 62 %", 0.62, ArmorObjective::output, eight),
      semi_structured("SemiStructured 2:4 int8", PruneCriterion::automatic, true, two,
                      Storage::int8),
      semi_structured("SemiStructured 8:16 int8", PruneCriterion::automatic, true, eight,
                      Storage::int8),
      armor("Armor 2:4 int8", 0.21, ArmorObjective::output, two, Storage::int8),
      dense("Dense int8", Storage::int8, true),
      dense("Dense int4, to the nearest", Storage::int4, false),
      dense("Dense int4", Storage::int4, true),
      dense("Dense int4, levels fitted", Storage::int4_fitted, true),
      dense("Dense int3", Storage::int3, true),
      dense("Dense int3, levels fitted", Storage::int3_fitted, true),
      dense("Dense int2", Storage::int2, true),
      dense("Dense int2, levels fitted", Storage::int2_fitted, true),
      {"Dense int4 + low rank bf16",
       [](const auto& W, const auto& calibration) -> Operator {
         return compensate(compress<Dense>(W, keep(1), calibration, {.storage = Storage::int4}), W,
                           keep(0.17), calibration, {.storage = Storage::bf16});
       }},
  };
}

struct Row {
  std::string name;
  double share = 0;    // of the dense bytes of all layers
  double seconds = 0;  // of all layers
  std::vector<double> fitted;
  std::vector<double> held_out;
};

std::vector<Layer> read(const std::filesystem::path& directory, const std::string& only) {
  const Safetensors weights = Safetensors::open(directory / "use.safetensors");
  const Safetensors grams = Safetensors::open(directory / "use_grams.safetensors");
  std::vector<Layer> layers;
  for (const char* const name :
       {"layer0.qkv", "layer0.attn_out", "layer0.residual_dense", "layer0.ffn1", "layer0.ffn2",
        "layer1.qkv", "layer1.attn_out", "layer1.ffn1", "layer1.ffn2", "tanh"}) {
    const std::string layer = name;
    if (layer.find(only) == std::string::npos) continue;
    constexpr Index samples = 32000;  // about; the stored matrices are means over them
    const auto calibration = [&](const char* half) {
      const Matrix<double> mean = grams.matrix<float>(layer + half).cast<double>();
      return Calibration<float>::from_gram(mean * static_cast<double>(samples), samples);
    };
    // Stored as inputs x outputs.
    layers.push_back({layer, weights.matrix<float>(layer + ".weight").transpose(),
                      calibration(".gram_calib"), calibration(".gram_heldout")});
  }
  if (layers.empty()) throw std::invalid_argument("no layer has \"" + only + "\" in its name");
  return layers;
}

Row measure(const Method& method, const std::vector<Layer>& layers) {
  Row row;
  row.name = method.name;
  double stored = 0;
  double full = 0;
  for (const Layer& layer : layers) {
    const auto start = std::chrono::steady_clock::now();
    const Operator op = method.compress(layer.weights, layer.fitted);
    row.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    stored += static_cast<double>(op.bytes());
    full += 4 * static_cast<double>(layer.weights.size());
    row.fitted.push_back(relative_error(layer.weights, op, layer.fitted));
    row.held_out.push_back(relative_error(layer.weights, op, layer.held_out));
    std::fprintf(stderr, "%s, %s: %.4f\n", method.name.c_str(), layer.name.c_str(),
                 row.fitted.back());
  }
  row.share = stored / full;
  return row;
}

void print(const std::vector<Row>& rows, const std::vector<Layer>& layers,
           std::vector<double> Row::*errors) {
  std::printf("\n| method | %% of bytes |");
  for (const Layer& layer : layers) std::printf(" %s |", layer.name.c_str());
  std::printf(" mean | seconds |\n|---|---|");
  for (std::size_t i = 0; i < layers.size() + 2; ++i) std::printf("---|");
  std::printf("\n");
  for (const Row& row : rows) {
    std::printf("| %s | %.1f |", row.name.c_str(), 100 * row.share);
    double sum = 0;
    for (const double error : row.*errors) {
      std::printf(" %.4f |", error);
      sum += error;
    }
    std::printf(" %.4f | %.1f |\n", sum / static_cast<double>(layers.size()), row.seconds);
  }
}

void run(int argc, char** argv) {
  std::string only;
  std::string layer;
  const char* const data = std::getenv("PLEAT_DATA");
  std::filesystem::path directory = data != nullptr ? data : "";
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (i + 1 < argc && option == "--only") only = argv[++i];
    else if (i + 1 < argc && option == "--layer") layer = argv[++i];
    else if (i + 1 < argc && option == "--threads") set_num_threads(std::atoi(argv[++i]));
    else if (option.empty() || option.front() == '-')
      throw std::invalid_argument(
          "usage: bench_quality [--only METHOD] [--layer NAME] [--threads N] [DIRECTORY]\n"
          "DIRECTORY has use.safetensors and use_grams.safetensors; PLEAT_DATA may name it");
    else directory = option;
  }
  if (directory.empty()) {
    std::fprintf(stderr, "skipped: neither an argument nor PLEAT_DATA names the data\n");
    return;
  }
  const std::vector<Layer> layers = read(directory, layer);
  std::vector<Row> rows;
  for (const Method& method : methods())
    if (method.name.find(only) != std::string::npos) rows.push_back(measure(method, layers));
  if (rows.empty()) throw std::invalid_argument("no method has \"" + only + "\" in its name");
  std::printf("Relative output error, on the inputs that weights were fitted to:\n");
  print(rows, layers, &Row::fitted);
  std::printf("\nOn inputs held out:\n");
  print(rows, layers, &Row::held_out);
}

}  // namespace
}  // namespace pleat::bench

int main(int argc, char** argv) {
  try {
    pleat::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return EXIT_FAILURE;
  }
}
