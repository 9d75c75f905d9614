// SPDX-License-Identifier: MIT
// Prepares, checks and runs the contestants of each batch.
#include "heat.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <utility>

namespace pleat::bench {
namespace {

constexpr const char* dense_group = "dense";

/// Of the libraries that multiply the same narrow numbers.
std::string narrow_group(const std::string& numbers) { return "dense " + numbers; }

}  // namespace

Heat::Heat(Shape shape, std::vector<Index> batches, int threads, const std::string& only)
    : shape_(shape),
      batches_(std::move(batches)),
      inputs_(Columns::Random(shape.cols, batches_.back())),
      signs_(Eigen::VectorXf::Random(batches_.back()).unaryExpr([](float x) {
        return x < 0 ? -1.0F : 1.0F;
      })),
      workspace_(threads > 1 ? Workspace(OpenMP{threads}) : Workspace()) {
  // Column i is for the batch number i.
  Columns sums(shape.cols, static_cast<Index>(batches_.size()));
  for (Index i = 0; i < sums.cols(); ++i) {
    const Index batch = batches_[static_cast<std::size_t>(i)];
    sums.col(i) = inputs_.leftCols(batch) * signs_.head(batch);
  }
  const auto refer = [&](const std::string& group, const Columns& W) {
    if (!references_.contains(group)) references_.emplace(group, Reference{Weights(W), W * sums});
  };
  refer(dense_group, Columns::Random(shape.rows, shape.cols));
  for (const Kernel& kernel : kernels()) {
    if (kernel.name.find(only) == std::string::npos) continue;
    if (kernel.only.rows > 0 && kernel.only != shape) continue;
    const Subject subject = kernel.make(shape);
    entries_.push_back({&kernel, subject.op, subject.exact(sums), subject.rounding});
    if (!kernel.sparse_matrix.empty()) refer(kernel.sparse_matrix, subject.op.to_dense());
  }
}

bool Heat::is_right(const Contestant& contestant, Samples& samples, bool side_by_side,
                    const Columns& expected, double rounding) const {
  samples.Y.setConstant(std::nanf(""));
  samples.Y_rows.setConstant(std::nanf(""));
  contestant.run();
  const Index batch = samples.X.cols();
  Index number = 0;
  while (batches_[static_cast<std::size_t>(number)] != batch) ++number;
  const Eigen::VectorXf signs = signs_.head(batch);
  const Eigen::VectorXf sum =
      side_by_side ? Eigen::VectorXf(samples.Y_rows * signs) : Eigen::VectorXf(samples.Y * signs);
  // Beside what is rounded, arithmetic is in float, whatever the weights are stored as.
  return (sum - expected.col(number)).norm() <=
         (1e-4F + static_cast<float>(rounding)) * expected.col(number).norm();
}

void Heat::add_peers(const std::string& group, const std::vector<Peer>& peers,
                     const Reference& reference, Samples& samples,
                     std::vector<Contestant>& contestants) const {
  const bool is_sparse = !group.starts_with(dense_group);  // which narrow ones do
  const double count = is_sparse ? double((reference.weights.columns.array() != 0.0F).count())
                                 : double(reference.weights.columns.size());
  const auto batch = double(samples.X.cols());
  for (const Peer& peer : peers) {
    Contestant contestant{
        peer.name, group,
        peer.bytes * count + sizeof(float) * double(shape_.rows + shape_.cols) * batch,
        2 * count * batch, peer.prepare(reference.weights, samples)};
    if (is_sparse) contestant.name += " (" + group + ")";
    const bool runs = contestant.run != nullptr;
    if (runs && is_right(contestant, samples, peer.side_by_side, reference.expected, peer.rounding))
      contestants.push_back(std::move(contestant));
    else
      std::fprintf(stderr, "skipped: %s %s for %s, batch %td\n", contestant.name.c_str(),
                   runs ? "is wrong" : "does not run", text_of(shape_).c_str(), samples.X.cols());
  }
}

void Heat::run(const Peers& dense, const Peers& narrow, const Peers& sparse, Race& race,
               std::vector<Cell>& cells) {
  if (entries_.empty()) return;
  std::map<std::string, std::vector<Peer>> wanted;  // of the narrow ones, by their numbers
  for (const Peer& peer : narrow.peers)
    if (std::any_of(entries_.begin(), entries_.end(),
                    [&](const Entry& entry) { return entry.kernel->numbers == peer.numbers; }))
      wanted[peer.numbers].push_back(peer);
  for (const Index batch : batches_) {
    Samples samples(inputs_.leftCols(batch), shape_.rows);
    std::vector<Contestant> contestants;
    for (const Entry& entry : entries_) {
      const double activations = sizeof(float) * double(shape_.rows + shape_.cols) * double(batch);
      Contestant own{entry.kernel->name, "", double(entry.op.bytes()) + activations,
                     entry.op.flops() * double(batch),
                     [&] { entry.op.apply(samples.X, samples.Y, workspace_); }};
      if (!is_right(own, samples, false, entry.expected, entry.rounding))
        throw std::runtime_error(own.name + " is wrong for " + text_of(shape_) + ", batch " +
                                 std::to_string(batch));
      contestants.push_back(std::move(own));
    }
    for (const auto& [group, reference] : references_)
      add_peers(group, group == dense_group ? dense.peers : sparse.peers, reference, samples,
                contestants);
    for (const auto& [numbers, peers] : wanted)
      add_peers(narrow_group(numbers), peers, references_.at(dense_group), samples, contestants);

    const std::string title = text_of(shape_) + ", batch " + std::to_string(batch);
    const Race::Result result = race.run(title, contestants);
    std::fprintf(stderr, "%s, %d repetitions; best", title.c_str(), result.repetitions);
    for (const auto& [group, winner] : result.winners)
      std::fprintf(stderr, "; %s: %s, %.1f us", group.c_str(), winner.c_str(),
                   result.seconds.at(winner) * 1e6);
    std::fprintf(stderr, "\n");
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      const Contestant& own = contestants[i];
      const auto best_of = [&](const std::string& group) {
        const auto winner = result.winners.find(group);
        return winner == result.winners.end() ? 0 : result.seconds.at(winner->second);
      };
      const Kernel& kernel = *entries_[i].kernel;
      cells.push_back({&kernel, shape_, batch, result.seconds.at(own.name), best_of(dense_group),
                       best_of(narrow_group(kernel.numbers)), best_of(kernel.sparse_matrix),
                       own.bytes, own.flops, entries_[i].rounding > 0});
    }
  }
}

}  // namespace pleat::bench
