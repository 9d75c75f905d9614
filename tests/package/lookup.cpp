// SPDX-License-Identifier: MIT
// An operator in a namespace that has functions of every name that pleat has, each as good a
// match for it or better, and deleted: the library calls its own by their full names.
#include <pleat/pleat.hpp>

#include <filesystem>
#include <string>
#include <type_traits>
#include <utility>

namespace user {

template <class T>
class Scaling : public pleat::OperatorBase<Scaling<T>, T> {
 public:
  static constexpr std::string_view name = "Scaling";
  explicit Scaling(Eigen::Index size) : size_(size) {}
  [[nodiscard]] Eigen::Index rows() const { return size_; }
  [[nodiscard]] Eigen::Index cols() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return 8; }
  [[nodiscard]] double flops() const { return static_cast<double>(size_); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] std::string parameters() const { return "size " + std::to_string(size_); }
  [[nodiscard]] pleat::Parts parts() const {
    return {structure(), {{"size", std::to_string(size_)}}, {}, {}};
  }
  [[nodiscard]] static Scaling from_parts(const pleat::Parts& parts) {
    return Scaling(static_cast<Eigen::Index>(parts.integer("size")));
  }

 private:
  friend pleat::OperatorBase<Scaling, T>;
  void evaluate(const pleat::ConstMatrixRef<T>& X, pleat::MatrixRef<T>& Y, pleat::Update update,
                pleat::Workspace&) const {
    if (update == pleat::Update::overwrite) Y = T(0.5) * X;
    else Y += T(0.5) * X;
  }
  void evaluate_transpose(const pleat::ConstMatrixRef<T>& Y, pleat::MatrixRef<T>& X,
                          pleat::Workspace&) const {
    X = T(0.5) * Y;
  }
  Eigen::Index size_;
};

struct Tag {};
template <class A>
struct Holds : std::false_type {};
template <class T>
struct Holds<Scaling<T>> : std::true_type {};
template <template <class...> class Holder, class... Held>
struct Holds<Holder<Held...>> : std::bool_constant<(Holds<Held>::value || ...)> {};
template <class... A>
concept Mine = (Holds<std::remove_cvref_t<A>>::value || ...);

// Of any number of arguments, one of which is an operator of this namespace, or holds one.
#define PLEAT_TEST_NAME(name)                                 \
  template <class A>                                          \
  requires Mine<A>                                            \
  void name(const A&) = delete;                               \
  template <class A, class B>                                 \
  requires Mine<A, B>                                         \
  void name(const A&, const B&) = delete;                     \
  template <class A, class B, class C>                        \
  requires Mine<A, B, C>                                      \
  void name(const A&, const B&, const C&) = delete;           \
  template <class A, class B, class C, class D>               \
  requires Mine<A, B, C, D>                                   \
  void name(const A&, const B&, const C&, const D&) = delete; \
  template <class A, class B, class C, class D, class E>      \
  requires Mine<A, B, C, D, E>                                \
  void name(const A&, const B&, const C&, const D&, const E&) = delete;
#include "names.inc"
#undef PLEAT_TEST_NAME

}  // namespace user

int main() {
  using user::Scaling;
  const Eigen::MatrixXf W = Eigen::MatrixXf::Identity(6, 6);
  pleat::Calibration<float> calibration(6);
  calibration.add(Eigen::MatrixXf::Identity(6, 6));
  const Scaling<float> op(6);
  Eigen::MatrixXf Y(6, 2);
  op.apply(W.leftCols(2), Y);
  pleat::Workspace workspace;
  const pleat::Sum sum(op, pleat::Dense<float>(W));
  const pleat::Product product(op, sum);
  const pleat::AnyOperator<float> any = product;
  product.apply(W.leftCols(2), Y, workspace);
  product.apply_transpose(W.leftCols(2), Y, workspace);
  std::string text = pleat::describe(op) + pleat::describe(product) + pleat::describe(any);
  double error = pleat::relative_error(W, op) + pleat::relative_error(W, product, calibration);
  const auto corrected = pleat::compensate(op, W, pleat::keep(2), calibration);
  error += pleat::relative_error(W, corrected, calibration);
  const auto better = pleat::compensate(product, W, pleat::error(0.1));
  pleat::Safetensors file;
  pleat::add_operator(file, "a", product);
  pleat::add_operator(file, "b", corrected);
  const auto path = std::filesystem::temp_directory_path() / "pleat_lookup.safetensors";
  pleat::save(path, product);
  const auto loaded = pleat::load<float, Scaling<float>>(path);
  std::filesystem::remove(path);
  const auto read = pleat::read_operator<float, Scaling<float>>(file, "a");
  // Half of the identity, corrected by what is missing.
  return text.find("size 6") != std::string::npos && read.rows() == 6 && loaded.cols() == 6 &&
                 pleat::relative_error(W, better) <= 0.1 && error < 2
             ? 0
             : 1;
}
