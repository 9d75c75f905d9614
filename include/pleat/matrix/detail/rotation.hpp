// SPDX-License-Identifier: MIT
// The rotation of an operator's inputs, which it applies before its kernels or parts see them.
#pragma once

#include "pleat/core/compose.hpp"
#include "pleat/core/linear_operator.hpp"
#include "pleat/core/parts.hpp"
#include "pleat/matrix/hadamard.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace pleat {
inline namespace PLEAT_ABI {
namespace detail {

/// ", rotated by blocks of 128", or nothing.
template <Real T>
[[nodiscard]] std::string rotation_text(const std::optional<Hadamard<T>>& H) {
  return H ? ", rotated by blocks of " + std::to_string(H->block()) : std::string();
}

/// The rotation H of the inputs of a brick, or of a structure whose parts all see them, or none:
/// What = core H, where kernels and parts know the core alone. Copies share it. Cost: that of H,
/// and a pass over a tile of samples in scratch memory.
template <Real T>
class Rotation {
 public:
  Rotation() = default;
  /// That of `op`, which has none yet. Throws `std::invalid_argument` if it has, or if H is of
  /// another size than its inputs.
  template <class Op>
  Rotation(const Op& op, const Hadamard<T>& H) : H_(std::make_shared<const Hadamard<T>>(H)) {
    const auto name = [&] { return op.structure() + ": a "; };
    require(H.cols() == op.cols(), [&] {
      return name() + shape_text(op.rows(), op.cols()) +
             " matrix cannot be rotated by one of size " + std::to_string(H.cols());
    });
    require(!op.rotation().has_value(),
            [&] { return name() + "matrix that is rotated is not rotated again"; });
  }
  /// The same of a brick whose native kernels are to know nothing of it. Throws also if it is not
  /// in narrow storage.
  template <class Op>
  [[nodiscard]] static Rotation of_narrow(const Op& op, const Hadamard<T>& H) {
    require(is_narrow(op.storage()), [&] {
      return op.structure() + ": a rotation is for narrow storage, not " +
             std::string(to_string(op.storage())) + "; a Product with it can be had of any";
    });
    return {op, H};
  }

  // Copies only: what was moved from stays as it was.
  Rotation(const Rotation&) = default;
  Rotation& operator=(const Rotation&) = default;
  ~Rotation() = default;

  /// Throws `std::invalid_argument` for a storage that what is rotated cannot have.
  void require_storage(const char* brick, Storage storage) const {
    require(!H_ || is_narrow(storage), [&] {
      return std::string(brick) + ": rotated, it is in narrow storage, not " +
             std::string(to_string(storage));
    });
  }

  /// `core`, rotated if its file says so.
  template <class Op>
  [[nodiscard]] static Op read(const Op& core, const Parts& parts) {
    if (!parts.children.contains("rotation")) return core;
    return core.rotated(Hadamard<T>::from_parts(parts.child("rotation")));
  }
  void add_to(Parts& parts) const {
    if (H_) parts.children.emplace("rotation", H_->parts());
  }

  [[nodiscard]] bool is_none() const noexcept { return !H_; }
  [[nodiscard]] std::optional<Hadamard<T>> matrix() const {
    return H_ ? std::optional(*H_) : std::nullopt;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return H_ ? H_->bytes() : 0; }
  [[nodiscard]] double flops() const noexcept { return H_ ? H_->flops() : 0; }
  [[nodiscard]] std::string text() const { return rotation_text(matrix()); }

  /// core H.
  [[nodiscard]] Matrix<T> after(Matrix<T> core) const {
    if (!H_) return core;
    const Matrix<T> from = core.transpose();
    Matrix<T> to(from.rows(), from.cols());
    H_->apply_transpose(from, to);
    return to.transpose();
  }

  /// core(H X, Y), a tile of samples after another.
  template <class Core>
  void apply(const ConstMatrixView<T>& X, MatrixView<T> Y, Workspace& workspace,
             const Core& core) const {
    if (!H_) {
      core(X, Y);
      return;
    }
    tiled(X.cols(), workspace, [&](Index begin, Index count, T* rotated) {
      const Index n = X.rows();
      Unchecked::apply(*H_, columns(X, begin, count),
                       MatrixView<T>(rotated, n, count, Eigen::OuterStride<>(n)), Update::overwrite,
                       workspace);
      core(ConstMatrixView<T>(rotated, n, count, Eigen::OuterStride<>(n)),
           columns(Y, begin, count));
    });
  }

  /// X = H^T core(Y), where core(Y, to) overwrites `to`.
  template <class Core>
  void apply_transpose(const ConstMatrixView<T>& Y, MatrixView<T> X, Workspace& workspace,
                       const Core& core) const {
    if (!H_) {
      core(Y, X);
      return;
    }
    tiled(Y.cols(), workspace, [&](Index begin, Index count, T* rotated) {
      const Index n = X.rows();
      core(columns(Y, begin, count), MatrixView<T>(rotated, n, count, Eigen::OuterStride<>(n)));
      Unchecked::apply_transpose(*H_,
                                 ConstMatrixView<T>(rotated, n, count, Eigen::OuterStride<>(n)),
                                 columns(X, begin, count), workspace);
    });
  }

  /// What both take, beside core(batch).
  template <class Core>
  void reserve(Workspace& workspace, Index batch, const Core& core) const {
    if (!H_) {
      core(batch);
      return;
    }
    // The widest tile is that of the largest batch.
    tiled(product_tile<T>(H_->cols(), batch), workspace, [&](Index, Index count, T*) {
      H_->reserve(workspace, count);
      core(count);
    });
  }

 private:
  template <class Step>
  void tiled(Index batch, Workspace& workspace, const Step& step) const {
    const Index n = H_->cols();
    const Index width = product_tile<T>(n, batch);
    Workspace::Frame frame(workspace);
    T* const memory = frame.allocate<T>(n * width);
    for (Index begin = 0; begin < batch; begin += width)
      step(begin, (std::min)(width, batch - begin), memory);
  }

  std::shared_ptr<const Hadamard<T>> H_ = {};
};

}  // namespace detail
}  // namespace PLEAT_ABI
}  // namespace pleat
