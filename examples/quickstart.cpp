// SPDX-License-Identifier: MIT
// The first thirty seconds with pleat: compress a weight, apply it, measure what was lost, save it.
#include <pleat/pleat.hpp>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

int main() {
  // A layer of 256 outputs and 192 inputs, and 1000 samples of what it sees. A real layer's inputs
  // vary far more in some directions than in others; so do these.
  std::srand(1);  // Eigen's Random() draws from rand()
  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(256, 192);
  const Eigen::MatrixXf X = Eigen::MatrixXf::Random(192, 24) * Eigen::MatrixXf::Random(24, 1000) +
                            0.1F * Eigen::MatrixXf::Random(192, 1000);

  pleat::Calibration<float> calibration(W.cols());  // optional: what the layer sees
  calibration.add(X);                               // in_features x samples, as often as you like

  const auto op = pleat::compress<pleat::LowRank>(W, pleat::keep(0.5), calibration);
  std::printf("%s\n", pleat::describe(op).c_str());

  Eigen::MatrixXf Y(W.rows(), X.cols());
  op.apply(X, Y);  // Y = What * X, no allocation once warm

  std::printf("error of the weight:  %.3f\n", pleat::relative_error(W, op));
  std::printf("error of the outputs: %.3f\n", pleat::relative_error(W, op, calibration));

  const auto path = std::filesystem::temp_directory_path() / "pleat_quickstart.safetensors";
  pleat::save(path, op);
  const auto loaded = pleat::load<float>(path);
  std::filesystem::remove(path);

  Eigen::MatrixXf again(W.rows(), X.cols());
  loaded.apply(X, again);
  std::printf("loaded again, the outputs are %s\n",
              again == Y ? "the same bit for bit" : "DIFFERENT");
  return again == Y ? EXIT_SUCCESS : EXIT_FAILURE;
}
