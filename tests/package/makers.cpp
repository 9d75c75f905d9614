// SPDX-License-Identifier: MIT
// Calls the makers that no example calls: what a compiler may warn of is in here, and in those.
#include <pleat/pleat.hpp>

#include <vector>

int main() {
  using Matrix = pleat::Matrix<float>;
  const Matrix W = Matrix::Random(24, 16);
  const Matrix V = Matrix::Random(16, 24);
  pleat::Calibration<float> calibration(16);
  calibration.add(Matrix::Random(16, 40));
  const std::vector<Matrix> both{W, W};
  const pleat::Budget half = pleat::keep(0.5);

  const auto low_rank = pleat::compress<pleat::LowRank>(W, half, calibration);
  const auto updated = pleat::update(low_rank, Matrix::Random(24, 2), Matrix::Random(2, 16));
  const bool fine =
      pleat::recompress(updated, half, calibration).rank() <= updated.rank() &&
      pleat::compress<pleat::Cur>(W, half, calibration).rows() == 24 &&
      pleat::compress_product(W, V, 1, half).rank > 0 &&
      pleat::compress_shared<pleat::LowRank>(both, half, calibration).matrices() == 2 &&
      pleat::compress_shared<pleat::SparseDictionary>(both, half, calibration).matrices() == 2 &&
      pleat::compress_permuted(W, pleat::keep(0.7), calibration).rows() == 24 &&
      pleat::compensate(low_rank, W, pleat::keep(0.2), calibration).rows() == 24;
  return fine ? 0 : 1;
}
