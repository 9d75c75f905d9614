// SPDX-License-Identifier: MIT
// The sentences that ship with the example: token ids to calibrate on, and others to judge by.
#pragma once

#include <Eigen/Core>
#include <pleat/io/safetensors.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace encoder {

/// A list of sentences, each a list of token ids.
class Sentences {
 public:
  /// Reads `<name>.token_ids` (all sentences, one after the other) and `<name>.offsets` (where each
  /// begins, and where the last ends). Throws `std::runtime_error` if they do not fit together.
  Sentences(const pleat::Safetensors& file, const std::string& name)
      : ids_(file.tensor(name + ".token_ids").values<std::int32_t>()) {
    for (const std::int32_t offset : file.tensor(name + ".offsets").values<std::int32_t>()) {
      const auto at = static_cast<std::size_t>(offset);
      if (offset < 0 || at > ids_.size() || (!offsets_.empty() && at < offsets_.back()))
        throw std::runtime_error(name + ".offsets do not ascend within " + name + ".token_ids");
      offsets_.push_back(at);
    }
    if (offsets_.size() < 2) throw std::runtime_error(name + " holds no sentences");
  }

  [[nodiscard]] std::size_t size() const noexcept { return offsets_.size() - 1; }
  [[nodiscard]] std::span<const std::int32_t> operator[](std::size_t i) const {
    return std::span(ids_).subspan(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> offsets_{};
};

/// Everything in examples/data/sentences.safetensors.
struct SentenceData {
  explicit SentenceData(const std::filesystem::path& path)
      : SentenceData(pleat::Safetensors::open(path)) {}

  Sentences calibration;
  Sentences held_out;
  Eigen::MatrixXf reference;  // of the held-out sentences, by another implementation; one a column

 private:
  explicit SentenceData(const pleat::Safetensors& file)
      : calibration(file, "calibration"),
        held_out(file, "held_out"),
        reference(file.matrix<float>("held_out.embeddings").transpose()) {
    if (static_cast<std::size_t>(reference.cols()) != held_out.size())
      throw std::runtime_error("there must be one reference embedding for each held-out sentence");
  }
};

}  // namespace encoder
