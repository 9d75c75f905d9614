// SPDX-License-Identifier: MIT
// Operators in files: what is saved comes back bit for bit, and nothing else comes in.
#include "pleat/io/operator_file.hpp"

#include "io/files.hpp"
#include "support/catch.hpp"
#include "support/operators.hpp"
#include "support/random.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace pleat::test;
using Catch::Matchers::Contains;
using pleat::AnyOperator;
using pleat::Csr;
using pleat::Dense;
using pleat::Index;
using pleat::LowRank;
using pleat::Matrix;
using pleat::Product;
using pleat::Real;
using pleat::RowSparse;
using pleat::Safetensors;
using pleat::Sum;
using pleat::Tensor;

std::string written(const Safetensors& file) {
  std::ostringstream stream;
  file.write(stream);
  return stream.str();
}

Safetensors parse(const std::string& bytes) {
  return Safetensors::read(std::make_unique<std::istringstream>(bytes), "some.safetensors");
}

template <class T>
bool same_bits(const Matrix<T>& A, const Matrix<T>& B) {
  return A.rows() == B.rows() && A.cols() == B.cols() &&
         (A.size() == 0 ||
          std::memcmp(A.data(), B.data(), static_cast<std::size_t>(A.size()) * sizeof(T)) == 0);
}

/// Fails unless two operators are one in all that can be seen from outside.
template <Real T>
void check_same(const AnyOperator<T>& a, const AnyOperator<T>& b) {
  REQUIRE(a.rows() == b.rows());
  REQUIRE(a.cols() == b.cols());
  CHECK(a.structure() == b.structure());
  CHECK(pleat::describe(a) == pleat::describe(b));
  CHECK(a.bytes() == b.bytes());
  CHECK(a.flops() == b.flops());
  Random random(11);
  for (const Index batch : {Index{1}, Index{3}, Index{200}}) {
    const Matrix<T> X = random.matrix<T>(a.cols(), batch);
    const Matrix<T> Y = random.matrix<T>(a.rows(), batch);
    Matrix<T> Ya = Y;
    Matrix<T> Yb = Y;
    a.apply_add(X, Ya);
    b.apply_add(X, Yb);
    CHECK(same_bits(Ya, Yb));
    a.apply(X, Ya);
    b.apply(X, Yb);
    CHECK(same_bits(Ya, Yb));
    Matrix<T> Xa(a.cols(), batch);
    Matrix<T> Xb(a.cols(), batch);
    a.apply_transpose(Y, Xa);
    b.apply_transpose(Y, Xb);
    CHECK(same_bits(Xa, Xb));
  }
  CHECK(same_bits<T>(a.to_dense(), b.to_dense()));
}

template <Real T>
AnyOperator<T> through_file(const AnyOperator<T>& op) {
  const TemporaryDirectory directory;
  pleat::save(directory / "op.safetensors", op);
  CHECK(directory.files() == 1);
  return pleat::load<T>(directory / "op.safetensors");
}

Dense<float> dense(Index rows, Index cols, std::uint64_t seed = 1) {
  return Dense<float>(Random(seed).matrix<float>(rows, cols));
}

LowRank<float> low_rank(Index rows, Index rank, Index cols) {
  return LowRank<float>(dense(rows, rank, 2), dense(rank, cols, 3));
}

TEMPLATE_TEST_CASE("every operator that has parts comes back bit for bit", "[io][operator_file]",
                   float, double) {
  using T = TestType;
  int saved = 0;
  const auto check = [&]<class Entry>(const Entry& entry) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<Index, Index>>{{1, 1}, {17, 5}, {33, 70}}) {
      CAPTURE(entry.name, rows, cols);
      Source<T> source(Pattern::uniform, 5);
      const auto op = entry.make(source, rows, cols).op;
      if constexpr (pleat::HasParts<std::remove_const_t<decltype(op)>>) {
        const AnyOperator<T> any = op;
        try {
          (void)any.parts();
        } catch (const std::invalid_argument&) {
          const TemporaryDirectory directory;
          CHECK_THROWS_AS(pleat::save(directory / "op", any), std::invalid_argument);
          CHECK(directory.files() == 0);
          continue;
        }
        check_same(any, through_file(any));
        ++saved;
      }
    }
  };
  std::apply([&](const auto&... entries) { (check(entries), ...); }, operator_list<T>());
  CHECK(saved >= 3 * 12);
}

TEST_CASE("the type that was saved is the type that is loaded", "[io][operator_file]") {
  const LowRank<float> op = low_rank(6, 2, 5);
  const AnyOperator<float> loaded = through_file<float>(op);
  REQUIRE(loaded.get_if<LowRank<float>>() != nullptr);
  CHECK(loaded.get_if<LowRank<float>>()->rank() == 2);
  CHECK(loaded.get_if<Dense<float>>() == nullptr);
  // But for sums and products, whose type would fix what only the file knows.
  const AnyOperator<float> sum = through_file<float>(Sum(op, op));
  CHECK(sum.structure() == "Sum");
  CHECK(sum.get_if<Sum<LowRank<float>, LowRank<float>>>() == nullptr);
}

TEST_CASE("operators of extreme values, or none, come back", "[io][operator_file]") {
  Matrix<float> A = Matrix<float>::Zero(3, 3);
  A(0, 0) = std::numeric_limits<float>::quiet_NaN();
  A(0, 1) = std::numeric_limits<float>::infinity();
  A(0, 2) = -0.0F;
  A(1, 0) = std::numeric_limits<float>::denorm_min();
  CHECK(same_bits<float>(through_file<float>(Dense<float>(A)).to_dense(), A));
  for (const auto& [rows, cols] : std::vector<std::pair<Index, Index>>{{0, 0}, {0, 4}, {4, 0}}) {
    const AnyOperator<float> back = through_file<float>(dense(rows, cols));
    CHECK(back.rows() == rows);
    CHECK(back.cols() == cols);
    check_same<float>(low_rank(3, 0, 4), through_file<float>(low_rank(3, 0, 4)));
  }
}

TEST_CASE("sums and products of any number of operands keep it, and every bit",
          "[io][operator_file]") {
  const auto A = dense(20, 20, 1);
  const auto B = low_rank(20, 3, 20);
  check_same<float>(Sum(A), through_file<float>(Sum(A)));
  check_same<float>(Product(A), through_file<float>(Product(A)));
  check_same<float>(Product(A, B), through_file<float>(Product(A, B)));
  check_same<float>(Sum(A, B, A), through_file<float>(Sum(A, B, A)));
  check_same<float>(Product(A, B, A, B), through_file<float>(Product(A, B, A, B)));
  const Product wide(dense(3, 1000, 4), low_rank(1000, 2, 5), dense(5, 7, 6));
  check_same<float>(wide, through_file<float>(wide));
  const Sum eleven(A, B, A, B, A, B, A, B, A, B, A);
  check_same<float>(eleven, through_file<float>(eleven));
  const Product twelve(A, A, A, A, A, B, A, A, A, A, A, A);
  check_same<float>(twelve, through_file<float>(twelve));
  CHECK(through_file<float>(twelve).parts().children.size() == 12);
}

TEST_CASE("compositions nest, and what was loaded can be saved again", "[io][operator_file]") {
  const auto A = dense(9, 9, 1);
  const AnyOperator<float> any =
      Sum(Product(A, AnyOperator<float>(Sum(A, A))), AnyOperator<float>(A));
  const AnyOperator<float> once = through_file(any);
  check_same(any, once);
  check_same(any, through_file(once));
  Safetensors first;
  Safetensors second;
  add_operator(first, "", any);
  add_operator(second, "", once);
  CHECK(written(first) == written(second));
}

TEST_CASE("composites from files check what they are made of", "[io][operator_file]") {
  CHECK_THROWS_AS(pleat::detail::LoadedSum<float>({}), std::invalid_argument);
  CHECK_THROWS_AS(pleat::detail::LoadedProduct<float>({}), std::invalid_argument);
  CHECK_THROWS_WITH(pleat::detail::LoadedSum<float>({dense(2, 3), dense(3, 2)}),
                    Contains("2 x 3") && Contains("3 x 2"));
  CHECK_THROWS_WITH(pleat::detail::LoadedProduct<float>({dense(2, 3), dense(2, 3)}),
                    Contains("no product"));
}

TEST_CASE("scalars are widened and narrowed", "[io][operator_file]") {
  const TemporaryDirectory directory;
  const Matrix<double> U = Random(7).matrix<double>(8, 3);
  const Matrix<double> V = Random(8).matrix<double>(3, 8);
  pleat::save(directory / "double", LowRank<double>(Dense<double>(U), Dense<double>(V)));
  const AnyOperator<float> narrow = pleat::load<float>(directory / "double");
  check_same<float>(narrow,
                    LowRank<float>(Dense<float>(U.cast<float>()), Dense<float>(V.cast<float>())));
  pleat::save(directory / "float", narrow);
  const AnyOperator<double> wide = pleat::load<double>(directory / "float");
  CHECK(wide.get_if<LowRank<double>>()->U().to_dense() == U.cast<float>().cast<double>());
}

TEST_CASE("numbers that a narrower scalar does not have are named, and infinities stay",
          "[io][operator_file]") {
  const TemporaryDirectory directory;
  Matrix<double> W = Random(7).matrix<double>(8, 3);
  W(5, 1) = 1e300;
  const auto check = [&](const auto& op, const std::string& tensor, const std::string& where) {
    pleat::save(directory / "op", op);
    CHECK_NOTHROW(pleat::load<double>(directory / "op"));
    CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "op"); }),
               Contains(tensor) && Contains(where) && Contains("1e+300"));
  };
  check(Dense<double>(W), "\"weight\"", "row 5, column 1");
  check(LowRank<double>(Dense<double>(W), Dense<double>(W.topRows(3))), "\"weight\"",
        "row 5, column 1");
  check(pleat::SemiStructured<double>(Matrix<double>(W.leftCols(2))), "\"values\"",
        "row 5, column 1");
  check(Csr<double>(W), "\"values\"", "row 16");
  check(pleat::Diagonal<double>(W.col(1)), "\"diagonal\"", "row 5");
  W(5, 1) = std::numeric_limits<double>::infinity();
  pleat::save(directory / "op", Dense<double>(W));
  CHECK(pleat::load<float>(directory / "op").to_dense() == W.cast<float>());
  W(5, 1) = 1e-300;
  pleat::save(directory / "op", Dense<double>(W));
  CHECK(pleat::load<float>(directory / "op").to_dense()(5, 1) == 0);
}

TEST_CASE("a file says what it holds", "[io][operator_file]") {
  Safetensors file;
  add_operator(file, "fc1", low_rank(6, 2, 5));
  CHECK(file.names() == std::vector<std::string>{"fc1.U.weight", "fc1.V.weight"});
  CHECK(file.shape("fc1.U.weight") == std::vector<std::int64_t>{6, 2});
  CHECK(file.metadata() == std::map<std::string, std::string>{{"fc1.pleat.version", "1"},
                                                              {"fc1.pleat.structure", "LowRank"},
                                                              {"fc1.pleat.rows", "6"},
                                                              {"fc1.pleat.cols", "5"},
                                                              {"fc1.pleat.scalar", "f32"},
                                                              {"fc1.U.pleat.structure", "Dense"},
                                                              {"fc1.V.pleat.structure", "Dense"}});
}

TEST_CASE("a whole model shares a file", "[io][operator_file]") {
  Safetensors file;
  file.set_metadata("format", "pt");
  file.add("layer.0.bias", Matrix<float>(Matrix<float>::Ones(4, 1)));
  add_operator(file, "layer.0.weight", dense(4, 3));
  add_operator(file, "layer.1.weight", low_rank(4, 2, 4));
  add_operator(file, "layer.10.weight", Sum(dense(4, 3), dense(4, 3, 9)));
  const Safetensors back = parse(written(file));
  CHECK(pleat::operator_names(back) ==
        std::vector<std::string>{"layer.0.weight", "layer.1.weight", "layer.10.weight"});
  check_same<float>(pleat::read_operator<float>(back, "layer.0.weight"), dense(4, 3));
  check_same<float>(pleat::read_operator<float>(back, "layer.1.weight"), low_rank(4, 2, 4));
  check_same<float>(pleat::read_operator<float>(back, "layer.10.weight"),
                    Sum(dense(4, 3), dense(4, 3, 9)));
  CHECK(back.matrix<float>("layer.0.bias") == Matrix<float>::Ones(4, 1));
  CHECK_THROWS_WITH(pleat::read_operator<float>(back, "layer.2.weight"),
                    Contains("layer.2.weight"));
  CHECK_THROWS_AS(pleat::read_operator<float>(back, "layer.2.weight"), std::invalid_argument);
  CHECK_THROWS_AS(pleat::read_operator<float>(back, "layer"), std::invalid_argument);
}

TEST_CASE("names that no operator can have are a fault of the file", "[io][operator_file]") {
  for (const std::string name : {"", ".a", "a.", "."}) {
    CAPTURE(name);
    Safetensors file;
    file.set_metadata(name + ".pleat.version", "1");
    CHECK_THROWS_AS(pleat::operator_names(parse(written(file))), pleat::FormatError);
  }
}

TEST_CASE("no operator is added where another one, or a tensor, lies", "[io][operator_file]") {
  Safetensors file;
  add_operator(file, "a.b", low_rank(4, 2, 4));
  file.add("t.x", Matrix<float>(Matrix<float>::Ones(1, 1)));
  const std::string before = written(file);
  for (const char* name :
       {"a.b", "a", "a.b.c", "a.b.U", "a.b.U.weight", "t", "t.x", "", ".", "z.", ".z", "\xff"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(add_operator(file, name, dense(2, 2)), std::invalid_argument);
    CHECK(written(file) == before);
  }
  Safetensors alone;
  add_operator(alone, "", dense(2, 2));
  CHECK_THROWS_AS(add_operator(alone, "a", dense(2, 2)), std::invalid_argument);
  Safetensors parted = file;
  CHECK_THROWS_AS(add_operator(parted, "any", AnyOperator<float>()), std::invalid_argument);
  CHECK(written(parted) == before);
}

/// A structure of a user's own: c times the identity, with the number in an attribute.
template <Real T>
class Scaling : public pleat::OperatorBase<Scaling<T>, T> {
 public:
  static constexpr std::string_view name = "Scaling";
  Scaling(Index size, std::int64_t factor) : size_(size), factor_(factor) {}
  [[nodiscard]] Index rows() const { return size_; }
  [[nodiscard]] Index cols() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return 8; }
  [[nodiscard]] double flops() const { return static_cast<double>(size_); }
  [[nodiscard]] std::string structure() const { return std::string(name); }
  [[nodiscard]] pleat::Parts parts() const {
    return {structure(),
            {{"size", std::to_string(size_)}, {"factor", std::to_string(factor_)}},
            {},
            {}};
  }
  [[nodiscard]] static Scaling from_parts(const pleat::Parts& parts) {
    return {parts.integer("size"), parts.integer("factor")};
  }

 private:
  friend pleat::OperatorBase<Scaling, T>;
  void evaluate(const pleat::ConstMatrixRef<T>& X, pleat::MatrixRef<T>& Y, pleat::Update update,
                pleat::Workspace&) const {
    if (update == pleat::Update::overwrite) Y = static_cast<T>(factor_) * X;
    else Y += static_cast<T>(factor_) * X;
  }
  void evaluate_transpose(const pleat::ConstMatrixRef<T>& Y, pleat::MatrixRef<T>& X,
                          pleat::Workspace&) const {
    X = static_cast<T>(factor_) * Y;
  }
  Index size_;
  std::int64_t factor_;
};

TEST_CASE("no tensor is added where an operator lies", "[io][operator_file]") {
  const Matrix<float> b = Matrix<float>::Ones(3, 1);
  Safetensors file;
  add_operator(file, "a.fc1", low_rank(4, 2, 4));
  file.add("a.fc10", b);
  file.add("a.bias", b);
  file.add("b", b);
  const std::string before = written(file);
  for (const std::string name : {"a.fc1", "a.fc1.bias", "a.fc1.U.bias", "a.fc1.U", "a.fc1."}) {
    CAPTURE(name);
    const std::string where = "the tensor \"" + name + "\" would lie inside the operator \"a.fc1\"";
    CHECK_THROWS_WITH(file.add(name, b), Contains(where));
    CHECK_THROWS_WITH(file.add(name, b, pleat::DataType::f16), Contains(where));
    Safetensors other;
    other.add(name, b);
    CHECK_THROWS_WITH(file.add(other), Contains(where));
    CHECK_THROWS_WITH(other.add(file), Contains(where));
    CHECK_THROWS_AS(add_operator(other, "a.fc1", dense(2, 2)), std::invalid_argument);
    CHECK(other.names() == std::vector<std::string>{name});
    CHECK(other.metadata().empty());
  }
  CHECK(written(file) == before);
  check_same<float>(pleat::read_operator<float>(parse(before), "a.fc1"), low_rank(4, 2, 4));

  Safetensors alone;
  add_operator(alone, "", dense(2, 2));
  const std::string alone_before = written(alone);
  CHECK_THROWS_WITH(alone.add("bias", b), Contains("\"bias\"") && Contains("alone"));
  Safetensors bias;
  bias.add("bias", b);
  CHECK_THROWS_WITH(alone.add(bias), Contains("\"bias\""));
  CHECK_THROWS_WITH(bias.add(alone), Contains("\"bias\""));
  CHECK(written(alone) == alone_before);
}

TEST_CASE("files whose operators lie apart are joined, and others refused", "[io][operator_file]") {
  const auto with = [](const std::string& name, const auto& op) {
    Safetensors file;
    add_operator(file, name, op);
    return file;
  };
  const Scaling<float> bare(3, 2);  // no tensor, only attributes
  Safetensors file = with("a", dense(2, 2));
  file.add(parse(written(with("b", low_rank(3, 1, 3)))));
  file.add(with("c.d", bare));
  const Safetensors back = parse(written(file));
  CHECK(pleat::operator_names(back) == std::vector<std::string>{"a", "b", "c.d"});
  for (const char* name : {"a", "b", "c.d"})
    CHECK_NOTHROW(pleat::read_operator<float, Scaling<float>>(back, name));
  const std::string before = written(file);
  for (const char* name : {"a", "a.x", "b", "c", "c.d", "c.d.e", ""}) {
    CAPTURE(name);
    Safetensors other = with(name, bare);
    CHECK_THROWS_AS(file.add(other), std::invalid_argument);
    CHECK_THROWS_AS(other.add(file), std::invalid_argument);
    CHECK_THROWS_AS(add_operator(file, name, bare), std::invalid_argument);
    CHECK(written(file) == before);
  }
}

TEST_CASE("a structure of a user's own is saved with its attributes, and loaded by who knows it",
          "[io][operator_file]") {
  const TemporaryDirectory directory;
  const Product op(dense(3, 4), Scaling<float>(4, -3));
  pleat::save(directory / "op", op);
  CHECK(Safetensors::open(directory / "op").metadata().at("1.pleat.attribute.factor") == "-3");
  check_same<float>(op, pleat::load<float, Scaling<float>>(directory / "op"));
  CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "op"); }),
             Contains("there is no structure \"Scaling\""));
}

/// The file of an operator, after `change` had its way with its tensors and metadata.
struct Contents {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

template <class Op>
std::string refused(const Op& op, const std::function<void(Contents&)>& change,
                    const std::string& name = {}) {
  Safetensors file;
  add_operator(file, name, op);
  Contents contents{{}, file.metadata()};
  for (const std::string& tensor : file.names()) contents.tensors[tensor] = file.tensor(tensor);
  change(contents);
  Safetensors changed;
  for (const auto& [key, tensor] : contents.tensors) changed.add(key, tensor);
  for (const auto& [key, value] : contents.metadata) changed.set_metadata(key, value);
  const Safetensors back = parse(written(changed));
  return refusal([&] { (void)pleat::read_operator<float, Scaling<float>>(back, name); });
}

Tensor tensor_of(Index rows, Index cols) {
  return Tensor::of(Matrix<float>(Matrix<float>::Ones(rows, cols)));
}

TEST_CASE("a file that is not the operator it claims is refused", "[io][operator_file]") {
  const auto op = low_rank(6, 2, 5);
  for (const std::string name : {"", "fc1"}) {
    const std::string p = name.empty() ? "" : "fc1.";
    const auto metadata = [&](const std::string& key, const std::string& value) {
      return refused(
          op, [&](Contents& c) { c.metadata[p + key] = value; }, name);
    };
    const auto without = [&](const std::string& key) {
      return refused(
          op, [&](Contents& c) { c.metadata.erase(p + key); }, name);
    };
    const auto tensor = [&](const std::string& key, const Tensor& value) {
      return refused(
          op, [&](Contents& c) { c.tensors[p + key] = value; }, name);
    };
    CHECK(refused(
              op, [](Contents&) {}, name) == "accepted");

    CHECK_THAT(metadata("pleat.structure", "LowRanked"),
               Contains("there is no structure \"LowRanked\""));
    CHECK_THAT(metadata("pleat.structure", ""), Contains("there is no structure"));
    CHECK_THAT(metadata("pleat.structure", "Dense"), Contains("has no tensor \"weight\""));
    CHECK_THAT(metadata("pleat.structure", "Sum"), Contains("has no part \"0\""));
    CHECK_THAT(metadata("U.pleat.structure", "LowRank"),
               Contains("a part of structure \"LowRank\""));
    CHECK_THAT(metadata("U.pleat.structure", "nonsense"), Contains("\"nonsense\""));
    CHECK_THAT(without("pleat.structure"), Contains("has no metadata"));
    CHECK_THAT(without("U.pleat.structure"), Contains("has no metadata"));

    for (const char* version : {"2", "100", "0", "-1"})
      CHECK_THAT(metadata("pleat.version", version), Contains("format version"));
    for (const char* version : {"", "1.0", "01", "+1", " 1", "1 ", "one", "99999999999999999999"})
      CHECK_THAT(metadata("pleat.version", version), Contains("not a number"));

    CHECK_THAT(metadata("pleat.rows", "7"), Contains("7 x 5") && Contains("6 x 5"));
    CHECK_THAT(metadata("pleat.cols", "6"), Contains("6 x 6") && Contains("6 x 5"));
    CHECK_THAT(metadata("pleat.rows", "x"), Contains("not a number"));
    CHECK_THAT(metadata("pleat.rows", "-6"), Contains("-6 x 5"));
    CHECK_THAT(metadata("pleat.scalar", "f16"), Contains("neither f32 nor f64"));
    for (const char* key : {"pleat.rows", "pleat.cols", "pleat.scalar"})
      CHECK_THAT(without(key), Contains("has no metadata"));
    CHECK_THAT(metadata("pleat.other", "1"), Contains("unknown metadata"));
    CHECK_THAT(metadata("U.pleat.rows", "6"), Contains("unknown metadata"));
    CHECK_THAT(metadata("pleat.attribute.rank", "2"), Contains("unknown attribute"));
    CHECK_THAT(metadata("U.pleat.attribute.x", ""), Contains("unknown attribute"));
    CHECK_THAT(metadata("W.pleat.structure", "Dense"), Contains("unknown part \"W\""));
    CHECK(metadata("format", "pt") == "accepted");
    CHECK(metadata("note.of.mine", "x") == "accepted");

    CHECK_THAT(tensor("extra", tensor_of(1, 1)), Contains("unknown tensor \"extra\""));
    CHECK_THAT(tensor("U.extra", tensor_of(1, 1)),
               Contains("unknown tensor \"extra\" in \"" + p + "U\""));
    CHECK_THAT(tensor("W.weight", tensor_of(1, 1)), Contains("has no metadata"));
    CHECK_THAT(tensor(".weight", tensor_of(1, 1)), Contains("without a name"));
    CHECK_THAT(tensor("U..weight", tensor_of(1, 1)), Contains("without a name"));
    CHECK_THAT(refused(
                   op, [&](Contents& c) { c.tensors.erase(p + "U.weight"); }, name),
               Contains("has no tensor \"weight\""));

    CHECK_THAT(tensor("U.weight", tensor_of(6, 3)), Contains("no product"));
    CHECK_THAT(tensor("U.weight", tensor_of(7, 2)), Contains("6 x 5"));
    CHECK_THAT(tensor("U.weight", Tensor{pleat::DataType::f32, {12}, tensor_of(6, 2).data}),
               Contains("no product"));
    CHECK_THAT(tensor("U.weight", Tensor{pleat::DataType::f32, {6, 2, 1}, tensor_of(6, 2).data}),
               Contains("3 dimensions"));
    CHECK_THAT(tensor("U.weight", Tensor{pleat::DataType::i32, {6, 2}, tensor_of(6, 2).data}),
               Contains("integers"));
    CHECK_THAT(tensor("U.weight", Tensor{pleat::DataType::f32, {6, std::int64_t{1} << 40, 0}, {}}),
               Contains("is empty, but of an extent"));
  }
  // A vector is a column, but a column is saved as a matrix.
  const auto thin = low_rank(6, 1, 5);
  CHECK_THAT(refused(thin, [](Contents& c) { c.tensors["U.weight"].shape = {6}; }),
             Contains("wrong shape"));
}

TEST_CASE("a diagonal from a file is a vector", "[io][operator_file]") {
  const pleat::Diagonal<float> op(Random(12).matrix<float>(6, 1).col(0));
  check_same<float>(op, through_file<float>(op));
  const auto tensor = [&](const Tensor& value) {
    return refused(op, [&](Contents& c) { c.tensors["diagonal"] = value; });
  };
  CHECK(tensor(Tensor{pleat::DataType::f32, {6}, tensor_of(6, 1).data}) == "accepted");
  CHECK_THAT(tensor(tensor_of(6, 1)), Contains("not a vector"));
  CHECK_THAT(tensor(Tensor{pleat::DataType::f32, {}, tensor_of(1, 1).data}),
             Contains("not a vector"));
  CHECK_THAT(tensor(Tensor{pleat::DataType::f32, {5}, tensor_of(5, 1).data}), Contains("6 x 6"));
  CHECK_THAT(tensor(Tensor{pleat::DataType::i32, {6}, tensor_of(6, 1).data}), Contains("integers"));
  CHECK_THAT(refused(op, [](Contents& c) { c.tensors.erase("diagonal"); }),
             Contains("has no tensor"));
}

TEST_CASE("a permutation from a file takes each index once", "[io][operator_file]") {
  const pleat::Permutation<float> op(std::vector<Index>{2, 0, 3, 1});
  check_same<float>(op, through_file<float>(op));
  const auto of = [](const std::vector<std::uint16_t>& indices) {
    Tensor tensor{pleat::DataType::u16, {static_cast<std::int64_t>(indices.size())}, {}};
    tensor.data.resize(2 * indices.size());
    if (!indices.empty()) std::memcpy(tensor.data.data(), indices.data(), tensor.data.size());
    return tensor;
  };
  const auto tensor = [&](const Tensor& value) {
    return refused(op, [&](Contents& c) { c.tensors["indices"] = value; });
  };
  CHECK(tensor(of({0, 1, 2, 3})) == "accepted");
  CHECK_THAT(tensor(of({0, 1, 4, 3})), Contains("index 2 is 4"));
  CHECK_THAT(tensor(of({0, 1, 1, 3})), Contains("index 2 is 1"));
  CHECK_THAT(tensor(of({0, 1, 2})), Contains("4 x 4"));
  Tensor wrong = of({0, 1, 2, 3});
  wrong.shape = {2, 2};
  CHECK_THAT(tensor(wrong), Contains("not a vector"));
  wrong = of({0, 1, 2, 3});
  wrong.type = pleat::DataType::i16;
  CHECK_THAT(tensor(wrong), Contains("another type"));
  CHECK_THAT(tensor(Tensor{pleat::DataType::u32, {4}, std::vector<std::byte>(16)}),
             Contains("another type"));
  CHECK_THAT(refused(op, [](Contents& c) { c.tensors.erase("indices"); }),
             Contains("has no tensor"));
}

TEST_CASE("a Hadamard matrix from a file has signs for its size, or none", "[io][operator_file]") {
  const auto op = pleat::Hadamard<float>::with_random_signs(20, 8, 3);
  check_same<float>(op, through_file<float>(op));
  const pleat::Hadamard<float> plain(20, 8);
  check_same<float>(plain, through_file<float>(plain));
  CHECK(refused(op, [](Contents& c) { c.tensors.erase("signs"); }) == "accepted");
  const auto attribute = [&](const std::string& name, const std::string& value) {
    return refused(op, [&](Contents& c) { c.metadata["pleat.attribute." + name] = value; });
  };
  CHECK_THAT(attribute("block", "12"), Contains("not a power of two"));
  CHECK_THAT(attribute("size", "25"), Contains("are not 4 bytes"));
  CHECK_THAT(attribute("size", "19"), Contains("19 x 19"));
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       c.tensors["signs"].shape = {1, 3};
                     }),
             Contains("are not 3 bytes"));
  CHECK_THAT(refused(op, [](Contents& c) { c.tensors["signs"].data[2] |= std::byte{0x10}; }),
             Contains("past the last sign"));
  CHECK_THAT(refused(op, [](Contents& c) { c.tensors["signs"].type = pleat::DataType::i8; }),
             Contains("another type"));
}

TEST_CASE("transforms come back from files", "[io][operator_file]") {
  const auto cosines = pleat::dct<float>(36);
  check_same<float>(cosines, through_file<float>(cosines));
  const auto circulant = pleat::circulant(Random(13).matrix<float>(61, 1).col(0));
  check_same<float>(circulant, through_file<float>(circulant));
}

TEST_CASE("a Kronecker-sparse matrix from a file has a pattern, and its values",
          "[io][operator_file]") {
  const Matrix<float> W = Matrix<float>::Zero(11, 8);
  const pleat::KroneckerSparse<float> op(W, {2, 3, 2, 2});
  check_same<float>(op, through_file<float>(op));
  const auto with = [&](const std::string& name, const std::string& value) {
    return refused(op, [&](Contents& c) { c.metadata["pleat.attribute." + name] = value; });
  };
  for (const char* name : {"a", "b", "c", "d"}) {
    CAPTURE(name);
    CHECK_THAT(with(name, "0"), Contains("below 1"));
    CHECK_THAT(with(name, "-2"), Contains("below 1"));
    CHECK_THAT(with(name, "1"), Contains("does not cover"));
    for (const char* huge : {"1073741824", "2147483648", "4294967296", "4611686018427387904"})
      CHECK_THAT(with(name, huge), Contains("more than 2^31"));
    CHECK_THAT(with(name, "99999999999999999999"), Contains("not a whole number"));
    CHECK_THAT(with(name, ""), Contains("not a whole number"));
    CHECK_THAT(
        refused(op, [&](Contents& c) { c.metadata.erase(std::string("pleat.attribute.") + name); }),
        Contains("has no attribute"));
  }
  CHECK(with("a", "3") == "accepted");  // the corner is the same
  CHECK_THAT(with("c", "3"), Contains("not a tensor of this shape"));
  CHECK_THAT(with("rows", "12"), Contains("not a tensor of this shape"));
  CHECK_THAT(with("rows", "13"), Contains("does not cover"));
  CHECK_THAT(with("rows", "-1"), Contains("does not cover"));
  CHECK_THAT(with("cols", "9"), Contains("does not cover"));
  CHECK_THAT(with("cols", "7"), Contains("not a tensor of this shape"));
  CHECK_THAT(with("e", "1"), Contains("unknown attribute"));
  const auto tensor = [&](const Tensor& value) {
    return refused(op, [&](Contents& c) { c.tensors["values"] = value; });
  };
  const auto count = static_cast<Index>(op.bytes() / sizeof(float));
  CHECK_THAT(tensor(tensor_of(count, 1)), Contains("not a tensor of this shape"));
  CHECK_THAT(tensor(Tensor{pleat::DataType::i32, {count}, tensor_of(count, 1).data}),
             Contains("integers"));
}

TEST_CASE("sums and products in files are complete, in order, and fit", "[io][operator_file]") {
  const Sum op(dense(2, 3), dense(2, 3, 4));
  CHECK_THAT(refused(op, [](Contents& c) { c.metadata["2.pleat.structure"] = "Dense"; }),
             Contains("has no tensor \"weight\""));
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       c.metadata.erase("1.pleat.structure");
                       c.tensors.erase("1.weight");
                       c.metadata["2.pleat.structure"] = "Dense";
                       c.tensors["2.weight"] = tensor_of(2, 3);
                     }),
             Contains("has no part \"1\""));
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       c.metadata["02.pleat.structure"] = "Dense";
                       c.tensors["02.weight"] = tensor_of(2, 3);
                     }),
             Contains("has no part \"2\""));
  CHECK_THAT(refused(op, [](Contents& c) { c.tensors["1.weight"] = tensor_of(3, 2); }),
             Contains("have no sum"));
  CHECK_THAT(refused(op, [](Contents& c) { c.metadata["pleat.structure"] = "Product"; }),
             Contains("no product"));
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       c.tensors.clear();
                       c.metadata.erase("0.pleat.structure");
                       c.metadata.erase("1.pleat.structure");
                     }),
             Contains("has no operands"));
  const Product scaled(dense(3, 4), Scaling<float>(4, 2));
  CHECK_THAT(refused(scaled, [](Contents& c) { c.metadata["1.pleat.attribute.factor"] = "two"; }),
             Contains("not a whole number"));
  CHECK_THAT(refused(scaled, [](Contents& c) { c.metadata.erase("1.pleat.attribute.factor"); }),
             Contains("has no attribute"));
}

/// A tensor with one of its elements, all of type V, set to another value.
template <class V>
Tensor with_element(Tensor tensor, std::size_t at, V value) {
  std::memcpy(tensor.data.data() + at * sizeof(V), &value, sizeof(V));
  return tensor;
}

TEST_CASE("compressed rows in files are checked before they are used", "[io][operator_file]") {
  Matrix<float> W = Matrix<float>::Zero(3, 5);
  W(0, 0) = 1;
  W(0, 4) = 2;
  W(2, 2) = 3;
  const Csr<float> op(W);
  check_same<float>(op, through_file<float>(op));
  check_same<float>(Csr<float>(), through_file<float>(Csr<float>()));
  check_same<float>(Csr<float>(Matrix<float>(4, 0)),
                    through_file<float>(Csr<float>(Matrix<float>(4, 0))));
  const Csr<float> wide(Matrix<float>::Identity(2, 65537));
  check_same<float>(wide, through_file<float>(wide));
  const auto element = [&](const char* name, std::size_t at, auto value) {
    return refused(
        op, [&](Contents& c) { c.tensors[name] = with_element(c.tensors[name], at, value); });
  };
  CHECK(element("values", 1, 7.0F) == "accepted");
  CHECK(element("columns", 2, std::uint16_t{1}) == "accepted");
  CHECK(element("starts", 1, std::uint64_t{1}) == "accepted");
  CHECK_THAT(element("starts", 0, std::uint64_t{1}), Contains("does not begin at 0"));
  CHECK_THAT(element("starts", 1, std::uint64_t{3}), Contains("ends before it begins"));
  CHECK_THAT(element("starts", 2, ~std::uint64_t{0}), Contains("ends before it begins"));
  CHECK_THAT(element("starts", 3, std::uint64_t{2}), Contains("3 values"));
  CHECK_THAT(element("starts", 3, std::uint64_t{4}), Contains("3 values"));
  CHECK_THAT(element("columns", 1, std::uint16_t{5}), Contains("column 5 of 5"));
  CHECK_THAT(element("columns", 2, std::uint16_t{65535}), Contains("column 65535 of 5"));
  CHECK_THAT(element("columns", 0, std::uint16_t{4}), Contains("do not ascend"));
  for (const char* name : {"values", "columns", "starts"}) {
    CAPTURE(name);
    CHECK_THAT(refused(op, [&](Contents& c) { c.tensors.erase(name); }), Contains(name));
    CHECK(refused(op, [&](Contents& c) {
            c.tensors[name] = Tensor{pleat::DataType::i8, {1}, {std::byte(0)}};
          }) != "accepted");
    CHECK(refused(op, [&](Contents& c) { c.tensors[name].shape.push_back(1); }) != "accepted");
  }
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       c.tensors["starts"] = Tensor{pleat::DataType::u64, {0}, {}};
                     }),
             Contains("does not begin at 0"));
  for (const char* cols : {"4", "-1", "4294967297", "", "five"}) {
    CAPTURE(cols);
    CHECK(refused(op, [&](Contents& c) {
            c.metadata["pleat.attribute.cols"] = cols;
            c.metadata["pleat.cols"] = cols;
          }) != "accepted");
  }
  CHECK_THAT(refused(op, [](Contents& c) { c.metadata["pleat.attribute.cols"] = "6"; }),
             Contains("3 x 6"));
  CHECK_THAT(refused(op, [](Contents& c) { c.metadata.erase("pleat.attribute.cols"); }),
             Contains("has no attribute"));
}

TEST_CASE("rows of equally many entries in files are checked before they are used",
          "[io][operator_file]") {
  Matrix<float> W = Matrix<float>::Zero(2, 37);
  W(0, 5) = W(0, 36) = W(1, 0) = W(1, 20) = 1;
  const RowSparse<float> indices(W, 2);
  const RowSparse<float> mask(W, 3);
  check_same<float>(indices, through_file<float>(indices));
  check_same<float>(mask, through_file<float>(mask));
  check_same<float>(RowSparse<float>(W * 0, 0), through_file<float>(RowSparse<float>(W * 0, 0)));
  check_same<float>(RowSparse<float>(), through_file<float>(RowSparse<float>()));
  const auto column = [&](std::size_t at, std::uint16_t value) {
    return refused(indices, [&](Contents& c) {
      c.tensors["columns"] = with_element(c.tensors["columns"], at, value);
    });
  };
  CHECK(column(0, 6) == "accepted");
  CHECK_THAT(column(1, 37), Contains("column 37 of 37"));
  CHECK_THAT(column(3, 65535), Contains("column 65535 of 37"));
  CHECK_THAT(column(0, 36), Contains("do not ascend"));
  const auto bits = [&](std::size_t at, std::uint8_t value) {
    return refused(
        mask, [&](Contents& c) { c.tensors["mask"] = with_element(c.tensors["mask"], at, value); });
  };
  CHECK(bits(0, 0x03) == "accepted");
  CHECK_THAT(bits(0, 0x01), Contains("2 bits for 3 values"));
  CHECK_THAT(bits(6, 0xff), Contains("bits for 3 values"));
  CHECK_THAT(bits(4, 0x20), Contains("past the last column"));
  for (const RowSparse<float>& op : {indices, mask}) {
    const std::string other = op.has_mask() ? "columns" : "mask";
    for (const std::string name : {"values", op.has_mask() ? "mask" : "columns"}) {
      CAPTURE(name);
      CHECK_THAT(refused(op, [&](Contents& c) { c.tensors.erase(name); }), Contains(name));
      CHECK(refused(op, [&](Contents& c) {
              c.tensors[name] = Tensor{pleat::DataType::i8, {1, 1}, {std::byte(0)}};
            }) != "accepted");
      CHECK(refused(op, [&](Contents& c) { c.tensors[name].shape.push_back(1); }) != "accepted");
    }
    CHECK_THAT(refused(op, [&](Contents& c) { c.tensors[other] = tensor_of(1, 1); }),
               Contains("tensor"));
    for (const char* cols : {"1", "36", "-1", "4294967297", "", "many"}) {
      CAPTURE(cols);
      CHECK(refused(op, [&](Contents& c) {
              c.metadata["pleat.attribute.cols"] = cols;
              c.metadata["pleat.cols"] = cols;
            }) != "accepted");
    }
    CHECK_THAT(refused(op, [](Contents& c) { c.metadata.erase("pleat.attribute.cols"); }),
               Contains("has no attribute"));
  }
}

TEST_CASE("operators nest 16 deep, and no deeper", "[io][operator_file]") {
  AnyOperator<float> op = dense(2, 2);
  for (int depth = 1; depth < 16; ++depth) op = Sum(op);
  check_same(op, through_file(op));
  const TemporaryDirectory directory;
  CHECK_THROWS_WITH(pleat::save(directory / "op", Sum(op)), Contains("nested"));
  CHECK(directory.files() == 0);
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       std::string path;
                       for (int depth = 1; depth <= 17; ++depth, path += "0.")
                         c.metadata[path + "pleat.structure"] = "Sum";
                     }),
             Contains("nested"));
  CHECK_THAT(refused(op,
                     [](Contents& c) {
                       std::string path;
                       for (int i = 0; i < 100'000; ++i) path += "0.";
                       c.metadata[path + "pleat.structure"] = "Sum";
                     }),
             Contains("has no metadata") || Contains("nested"));
}

TEST_CASE("a file without an operator is refused", "[io][operator_file]") {
  const TemporaryDirectory directory;
  Safetensors file;
  file.add("weight", Matrix<float>(Matrix<float>::Ones(2, 2)));
  file.save(directory / "plain");
  CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "plain"); }),
             Contains("holds no operator"));
  Safetensors named;
  add_operator(named, "a", dense(2, 2));
  named.save(directory / "named");
  CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "named"); }),
             Contains("holds no operator"));
  write_file(directory / "text", "not a safetensors file at all");
  CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "text"); }), Contains("text"));
  CHECK_THAT(refusal([&] { (void)pleat::load<float>(directory / "nothing"); }),
             Contains("cannot be opened"));
}

TEST_CASE("an operator file cut anywhere is refused", "[io][operator_file]") {
  Safetensors file;
  add_operator(file, "", low_rank(3, 1, 2));
  const std::string bytes = written(file);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal([&] { (void)pleat::read_operator<float>(parse(bytes.substr(0, length)), ""); }) !=
          "accepted");
  }
}

}  // namespace
