// SPDX-License-Identifier: MIT
// Tables of one number for each cell.
#include "report.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>

namespace pleat::bench {
namespace {

struct Entry {
  double value;
  double goal;  // 0 if there is none
};
using Column = std::function<std::optional<Entry>(const Cell&)>;

const Cell* find(const std::vector<Cell>& cells, const std::string& kernel, Shape shape,
                 Index batch) {
  const auto found = std::find_if(cells.begin(), cells.end(), [&](const Cell& cell) {
    return cell.kernel->name == kernel && cell.shape == shape && cell.batch == batch;
  });
  return found == cells.end() ? nullptr : &*found;
}

/// All different values, in the order in which they come.
template <class Value>
std::vector<Value> distinct(const std::vector<Cell>& cells, Value Cell::*member) {
  std::vector<Value> values;
  for (const Cell& cell : cells)
    if (std::find(values.begin(), values.end(), cell.*member) == values.end())
      values.push_back(cell.*member);
  return values;
}

std::string text_of(const Entry& entry) {
  char text[32];
  std::snprintf(text, sizeof text, entry.value < 9.995 ? "%.2f" : "%.1f", entry.value);
  return std::string(text) + (entry.value < entry.goal ? "*" : "");
}

/// Prints nothing if no cell has an entry.
void print_table(const std::vector<Cell>& cells, const char* title, const Column& entry) {
  const auto batches = distinct(cells, &Cell::batch);
  std::string lines;
  for (const Kernel* kernel : distinct(cells, &Cell::kernel))
    for (const Shape shape : distinct(cells, &Cell::shape)) {
      std::string line = "| " + kernel->name + " | " + text_of(shape) + " |";
      bool any = false;
      for (const Index batch : batches) {
        const Cell* const cell = find(cells, kernel->name, shape, batch);
        const auto found = cell == nullptr ? std::nullopt : entry(*cell);
        line += found ? " " + text_of(*found) + " |" : " - |";
        any = any || found;
      }
      if (any) lines += line + "\n";
    }
  if (lines.empty()) return;
  std::printf("\n%s\n\n| structure | shape |", title);
  for (const Index batch : batches) std::printf(" %td |", batch);
  std::printf("\n|---|---|");
  for (std::size_t i = 0; i < batches.size(); ++i) std::printf("---|");
  std::printf("\n%s", lines.c_str());
}

}  // namespace

std::string text_of(Shape shape) {
  return std::to_string(shape.rows) + " x " + std::to_string(shape.cols);
}

void print_tables(const std::vector<Cell>& cells, const Limits& limits) {
  const auto goal = [&](const Cell& cell) {
    const Cell* const dense = find(cells, "Dense", cell.shape, cell.batch);
    return cell.kernel->goal(cell.shape, cell.batch,
                             dense == nullptr ? 0 : dense->best_dense / dense->own);
  };
  print_table(cells,
              "Time of the best dense library over time of pleat, by batch: above 1, pleat is "
              "faster than all of them. A star: less than the goal.",
              [&](const Cell& cell) {
                return Entry{cell.best_dense / cell.own, goal(cell).ratio};
              });
  print_table(
      cells,
      "Time of oneDNN's product in the narrow numbers of the weights (int4: in int8) over "
      "time of pleat, by batch. In int8, oneDNN has one scale a row of the weights, and one "
      "for all activations, which are rounded beforehand, outside the time; its bf16 rounds "
      "them inside. pleat always does, and has a scale for each group.",
      [](const Cell& cell) {
        return cell.best_narrow > 0 ? std::optional(Entry{cell.best_narrow / cell.own, 0})
                                    : std::nullopt;
      });
  print_table(cells,
              "Fraction of the physical limit, by batch: the time that the bytes, read once, or "
              "the flops take at the measured limit, whichever is more, over the time of pleat. A "
              "star: less than the goal. Of products in narrow numbers the limit is not measured.",
              [&](const Cell& cell) {
                return cell.rounds
                           ? std::nullopt
                           : std::optional(Entry{limits.seconds(cell.bytes, cell.flops) / cell.own,
                                                 goal(cell).limit});
              });
  print_table(cells,
              "Time of the best sparse library over time of pleat, by batch, for the same sparse "
              "matrix.",
              [](const Cell& cell) {
                return cell.best_sparse > 0 ? std::optional(Entry{cell.best_sparse / cell.own, 0})
                                            : std::nullopt;
              });
}

}  // namespace pleat::bench
