// SPDX-License-Identifier: MIT
// NumPy files: what is read, what is refused, and the bytes that are written.
#include "pleat/io/npy.hpp"

#include "io/files.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace pleat::test;
using namespace std::string_literals;
using Catch::Matchers::Contains;
using pleat::Matrix;
using pleat::Vector;

template <class T = double>
Matrix<T> parse(const std::string& bytes) {
  pleat::detail::Source source(std::make_unique<std::istringstream>(bytes), "some.npy");
  return pleat::detail::read_npy<T>(source);
}

std::string refused(const std::string& bytes) {
  return refusal([&] { (void)parse(bytes); });
}

std::string refused_header(const std::string& dictionary, const std::string& data = {}) {
  return refused(npy_bytes(1, 0, dictionary + '\n', data));
}

std::string header(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

/// Little-endian bytes of numbers.
template <class T>
std::string bytes_of(const std::vector<T>& values) {
  std::string bytes;
  for (const T value : values) {
    if constexpr (sizeof(T) == 8) bytes += little(std::bit_cast<std::uint64_t>(value), 8);
    else if constexpr (sizeof(T) == 4) bytes += little(std::bit_cast<std::uint32_t>(value), 4);
    else bytes += little(Eigen::numext::bit_cast<std::uint16_t>(value), 2);
  }
  return bytes;
}

std::string reversed(std::string bytes, std::size_t width) {
  for (std::size_t i = 0; i < bytes.size(); i += width)
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(i),
                 bytes.begin() + static_cast<std::ptrdiff_t>(i + width));
  return bytes;
}

const std::string plain = header("'<f8'", "False", "(2,)");
const std::string two = bytes_of<double>({1, 2});

TEST_CASE("a matrix is written as NumPy writes it", "[io][npy]") {
  const TemporaryDirectory directory;
  Matrix<float> A(2, 3);
  A << 1, 2, 3, 4, 5, 6;
  pleat::save_npy(directory / "a.npy", A);
  const std::string dictionary = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
  const std::string golden = "\x93NUMPY\x01\0\x76\0"s + dictionary +
                             std::string(128 - 10 - dictionary.size() - 1, ' ') + '\n' +
                             bytes_of<float>({1, 2, 3, 4, 5, 6});
  CHECK(read_file(directory / "a.npy") == golden);
  pleat::save_npy(directory / "a.npy", Vector<double>(Vector<double>::Ones(2)));
  CHECK_THAT(read_file(directory / "a.npy"),
             Contains("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }") &&
                 Catch::Matchers::EndsWith("\n" + bytes_of<double>({1, 1})));
  CHECK(directory.files() == 1);
}

TEMPLATE_TEST_CASE("matrices survive, of any shape", "[io][npy]", float, double) {
  using T = TestType;
  const TemporaryDirectory directory;
  Random random(4);
  for (const auto& [rows, cols] : std::vector<std::pair<int, int>>{
           {1, 1}, {1, 7}, {7, 1}, {5, 3}, {3, 5}, {64, 65}, {0, 0}, {0, 3}, {3, 0}}) {
    CAPTURE(rows, cols);
    const Matrix<T> A = random.matrix<T>(rows, cols);
    pleat::save_npy(directory / "a", A);
    CHECK(pleat::load_npy<T>(directory / "a").rows() == rows);
    CHECK(pleat::load_npy<T>(directory / "a").cols() == cols);
    CHECK(pleat::load_npy<T>(directory / "a") == A);
    CHECK(pleat::load_npy<double>(directory / "a") == A.template cast<double>());
    pleat::save_npy(directory / "a", T(2) * A.transpose());
    CHECK(pleat::load_npy<T>(directory / "a") == T(2) * A.transpose());
  }
}

TEST_CASE("what a column is by its type is one dimension, and comes back as a column",
          "[io][npy]") {
  const TemporaryDirectory directory;
  const Vector<float> v = Vector<float>::LinSpaced(5, 0, 4);
  pleat::save_npy(directory / "v", v);
  CHECK(pleat::load_npy<float>(directory / "v") == v);
  pleat::save_npy(directory / "r", v.transpose());
  CHECK(pleat::load_npy<float>(directory / "r") == v.transpose());
}

TEST_CASE("NaN, infinity and halves survive", "[io][npy]") {
  const TemporaryDirectory directory;
  Matrix<float> A(1, 3);
  A << std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(),
      std::numeric_limits<float>::denorm_min();
  pleat::save_npy(directory / "a", A);
  const Matrix<float> back = pleat::load_npy<float>(directory / "a");
  CHECK(std::memcmp(back.data(), A.data(), 3 * sizeof(float)) == 0);
  const Matrix<Eigen::half> H = Matrix<float>::Constant(2, 2, 0.1F).cast<Eigen::half>();
  pleat::save_npy(directory / "h", H);
  CHECK_THAT(read_file(directory / "h"), Contains("'<f2'"));
  CHECK(pleat::load_npy<float>(directory / "h") == H.cast<float>());
}

TEST_CASE("versions, orders, widths and byte orders are read alike", "[io][npy]") {
  Matrix<double> A(2, 3);
  A << 1, 2, 3, 4, 5, 6.5;
  const std::vector<double> by_rows{1, 2, 3, 4, 5, 6.5};
  const std::vector<double> by_columns{1, 4, 2, 5, 3, 6.5};
  for (const int version : {1, 2, 3})
    for (const bool fortran : {false, true})
      for (const int width : {2, 4, 8})
        for (const char order : {'<', '>'}) {
          CAPTURE(version, fortran, width, order);
          const std::vector<double>& values = fortran ? by_columns : by_rows;
          std::string data;
          for (const double value : values)
            data += width == 2   ? bytes_of<Eigen::half>({Eigen::half(static_cast<float>(value))})
                    : width == 4 ? bytes_of<float>({static_cast<float>(value)})
                                 : bytes_of<double>({value});
          if (order == '>') data = reversed(data, static_cast<std::size_t>(width));
          const std::string bytes =
              npy_bytes(version, 0,
                        header("'"s + order + 'f' + std::to_string(width) + '\'',
                               fortran ? "True" : "False", "(2, 3)") +
                            "     \n",
                        data);
          CHECK(parse<double>(bytes) == A);
          CHECK(parse<float>(bytes) == A.cast<float>());
        }
}

TEST_CASE("an array of one dimension is a column, of none a number", "[io][npy]") {
  CHECK(parse(npy_bytes(1, 0, header("'<f8'", "False", "()") + '\n', bytes_of<double>({7}))) ==
        Matrix<double>::Constant(1, 1, 7));
  for (const char* order : {"False", "True"}) {
    const Matrix<double> column =
        parse(npy_bytes(1, 0, header("'<f8'", order, "(2,)") + '\n', two));
    CHECK(column.rows() == 2);
    CHECK(column.cols() == 1);
    CHECK(column(1, 0) == 2);
  }
  CHECK(parse(npy_bytes(1, 0, header("'<f8'", "False", "(0,)") + '\n')).size() == 0);
  CHECK(parse(npy_bytes(1, 0, header("'<f8'", "True", "(3, 0)") + '\n')).rows() == 3);
}

TEST_CASE("the dictionary is Python: any order, quotes and spaces", "[io][npy]") {
  for (const char* good : {
           "{'descr':'<f8','fortran_order':False,'shape':(2,)}",
           "{\"shape\": (2,), \"descr\": \"<f8\", \"fortran_order\": False}",
           "{'fortran_order': False, 'shape': (2,), 'descr': '<f8'}                ",
           " { 'shape' : ( 2 , ) , 'fortran_order' : False , 'descr' : '<f8' , } ",
           "{'descr': '<f8',\n 'fortran_order': False,\t'shape': (2L,), }",
           "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1), }",
           "{'descr': '<f8', 'fortran_order': False, 'shape': (2L, 1L,), }",
           "{'descr': '<f8', 'fortran_order': True, 'shape': (1, 2), }",
       })
    CHECK(refused_header(good, two) == "accepted");
}

TEST_CASE("a header of any alignment and up to 64 KiB is read", "[io][npy]") {
  for (const std::size_t padding : {0U, 1U, 5U, 63U, 250U, 1000U}) {
    const Matrix<double> A = parse(npy_bytes(1, 0, plain + std::string(padding, ' ') + '\n', two));
    CHECK(A(1, 0) == 2);
  }
  const std::string longest = plain + std::string(65'536 - plain.size() - 1, ' ') + '\n';
  CHECK(refused(npy_bytes(2, 0, longest, two)) == "accepted");
  CHECK_THAT(refused(npy_bytes(2, 0, ' ' + longest, two)), Contains("the most is 65536"));
}

TEST_CASE("a header may end in spaces, or with its dictionary, as NumPy reads it", "[io][npy]") {
  for (const std::string end : {"", " ", "   ", "\n", " \n ", "\n\n"}) {
    CAPTURE(end);
    CHECK(parse(npy_bytes(1, 0, plain + end, two))(1, 0) == 2);
  }
  for (const std::string& end : {"x"s, " x\n"s, "\n{}"s, "\0"s, "#"s})
    CHECK_THAT(refused(npy_bytes(1, 0, plain + end, two)), Contains("goes on after"));
}

TEST_CASE("a number beyond the largest of the scalar is named, and infinities stay", "[io][npy]") {
  const TemporaryDirectory directory;
  Matrix<double> A = Matrix<double>::Ones(2, 3);
  A(1, 2) = -1e300;
  for (const bool fortran : {false, true}) {
    CAPTURE(fortran);
    const Matrix<double> rows = fortran ? A : Matrix<double>(A.transpose());
    const std::string data(reinterpret_cast<const char*>(rows.data()), 48);
    const auto path = write_file(
        directory / "a.npy",
        npy_bytes(1, 0, header("'<f8'", fortran ? "True" : "False", "(2, 3)") + '\n', data));
    CHECK(pleat::load_npy<double>(path) == A);
    CHECK_THAT(refusal([&] { (void)pleat::load_npy<float>(path); }),
               Contains("row 1, column 2") && Contains("a.npy"));
  }
  A(1, 2) = -std::numeric_limits<double>::infinity();
  pleat::save_npy(directory / "b.npy", A);
  CHECK(pleat::load_npy<float>(directory / "b.npy") == A.cast<float>());
}

TEST_CASE("a file of another kind is called by its name", "[io][npy]") {
  const auto check = [](const std::string& bytes, const std::string& name) {
    CHECK_THAT(refused(bytes), Contains("is not a .npy file; it seems to be") && Contains(name));
  };
  check("version https://git-lfs.github.com/spec/v1\n", "git lfs pull");
  check("PK\3\4" + std::string(100, 'x'), "numpy.savez");
  check("\x80\4\x95\x1f"s + std::string(100, 'x'), "pickle");
  check("\x08\0\0\0\0\0\0\0{}      "s, "safetensors");
  check("<html>", "web page");
}

TEST_CASE("a dictionary that is not this one is refused", "[io][npy]") {
  const auto check = [](const std::string& dictionary, const char* problem) {
    CAPTURE(dictionary);
    CHECK_THAT(refused_header(dictionary, two), Contains(problem));
  };
  check("", "lacks a '{'");
  check("{", "string was expected");
  check("{}", "no descr");
  check("{,}", "string was expected");
  check("[]", "lacks a '{'");
  check("{'descr': '<f8', 'shape': (2,)}", "no fortran_order");
  check("{'descr': '<f8', 'fortran_order': False}", "no shape");
  check("{'fortran_order': False, 'shape': (2,)}", "no descr");
  check("{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", "'descr' twice");
  check("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}", "'shape' twice");
  check("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), 'extra': 1}",
        "unknown key 'extra'");
  check("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)", "lacks a '}'");
  check("{'descr': '<f8' 'fortran_order': False, 'shape': (2,)}", "lacks a '}'");
  check("{'descr' '<f8', 'fortran_order': False, 'shape': (2,)}", "lacks a ':'");
  check(plain + "x", "goes on after");
  check(plain + plain, "goes on after");
  check(plain + "\0"s, "goes on after");
  check("{'descr': '<f8, }", "does not end");
  check("{'descr': '\\x3cf8', 'fortran_order': False, 'shape': (2,)}", "escapes");
  check("{u'descr': '<f8', 'fortran_order': False, 'shape': (2,)}", "string was expected");
  check("{'descr': <f8, 'fortran_order': False, 'shape': (2,)}", "string was expected");
  for (const char* word : {"false", "true", "0", "1", "'True'", "None", ""})
    check(header("'<f8'", word, "(2,)"), "neither True nor False");
  // 'True' or 'False' elsewhere in the header does not decide.
  check("{'descr': '<f8', 'fortran_orderTrue': 1, 'shape': (2,)}", "unknown key");
  check(header("'<f8'", "Falsey", "(2,)"), "lacks a '}'");
}

TEST_CASE("a shape that is no tuple of whole numbers is refused", "[io][npy]") {
  const auto check = [](const char* shape) {
    CAPTURE(shape);
    CHECK_THAT(refused_header(header("'<f8'", "False", shape), two), Contains("the .npy header"));
  };
  for (const char* shape : {"2",
                            "[2]",
                            "(2)",
                            "(2 3)",
                            "(,)",
                            "(2,,)",
                            "(2, 3",
                            "2,",
                            "(-2,)",
                            "(+2,)",
                            "(2.0,)",
                            "(2e0,)",
                            "(0x2,)",
                            "(02,)",
                            "(00,)",
                            "(1_0,)",
                            "('2',)",
                            "(True,)",
                            "(None,)",
                            "((2,),)",
                            "(2l,)",
                            "(2LL,)",
                            "(L,)",
                            "()()",
                            "",
                            "(281474976710656,)",
                            "(18446744073709551616,)",
                            "(99999999999999999999999999,)"})
    check(shape);
}

TEST_CASE("elements that are not floating-point numbers are refused", "[io][npy]") {
  for (const char* descr :
       {"'|O'",  "'O'",    "'|V2'",     "'|S4'", "'<U4'",  "'|b1'",      "'|i1'",
        "'|u1'", "'<i4'",  "'<i8'",     "'<c8'", "'<c16'", "'<f16'",     "'<f1'",
        "'<f3'", "'<f'",   "'f8'",      "'=f8'", "'|f8'",  "'<f8 '",     "' <f8'",
        "'<F8'", "'<f88'", "'<M8[ns]'", "''",    "'('",    "\"<f8,<f8\""}) {
    CAPTURE(descr);
    CHECK_THAT(refused_header(header(descr, "False", "(2,)"), two),
               Contains("holds elements of type") && Contains("(at byte 20)"));
  }
  // Structured types are lists.
  CHECK_THAT(refused_header(header("[('a', '<f8')]", "False", "(2,)"), two),
             Contains("string was expected"));
  // A pickle of objects, as numpy.save writes it.
  CHECK_THAT(refused_header(header("'|O'", "False", "()"), "\x80\x04K\x01."), Contains("'|O'"));
}

TEST_CASE("arrays of more than two dimensions are refused", "[io][npy]") {
  CHECK_THAT(refused_header(header("'<f8'", "False", "(1, 1, 2)"), two),
             Contains("3 dimensions") && Contains("(at byte 60)"));
  CHECK_THAT(refused_header(header("'<f8'", "False", "(1, 1, 1, 2)"), two),
             Contains("4 dimensions"));
}

TEST_CASE("what is no .npy file, or of a later version, is refused", "[io][npy]") {
  CHECK_THAT(refused(""), Contains("is not a .npy file"));
  CHECK_THAT(refused("\x93NUMPY\x01"), Contains("is not a .npy file"));
  CHECK_THAT(refused("PK\x03\x04" + std::string(100, 'x')), Contains("is not a .npy file"));
  CHECK_THAT(refused("\x93numpy\x01\0\x10\0"s + plain + '\n'), Contains("is not a .npy file"));
  for (const auto& [major, minor] :
       std::vector<std::pair<int, int>>{{0, 0}, {1, 1}, {2, 1}, {3, 1}, {4, 0}, {255, 255}})
    CHECK_THAT(refused(npy_bytes(major, minor, plain + '\n', two)), Contains("unknown version"));
}

TEST_CASE("a header length beyond the file or reason is refused before anything is allocated",
          "[io][npy]") {
  // Twelve bytes that ask for 4 GB.
  CHECK_THAT(refused("\x93NUMPY\x02\0\xff\xff\xff\xff"s), Contains("the most is 65536"));
  CHECK_THAT(refused("\x93NUMPY\x03\0\x00\x00\x01\x00"s), Contains("ends after the file"));
  CHECK_THAT(refused("\x93NUMPY\x01\0\xff\xff"s), Contains("ends after the file"));
  CHECK_THAT(refused("\x93NUMPY\x02\0\x10\0"s), Contains("ends within the .npy header"));
  CHECK_THAT(refused("\x93NUMPY\x01\0\0\0"s), Contains("lacks a '{'"));
}

TEST_CASE("an array larger than its file is refused before anything is allocated", "[io][npy]") {
  for (const char* shape :
       {"(3,)", "(2, 2)", "(140737488355328,)", "(281474976710655, 281474976710655)",
        "(65536, 281474976710655)", "(2147483648, 1073741824)", "(4294967296, 4294967296)",
        "(32768, 281474976710655)"}) {
    CAPTURE(shape);
    CHECK_THAT(refused_header(header("'<f8'", "False", shape), two),
               Contains("but holds only 16 bytes"));
  }
  CHECK(refused_header(header("'<f8'", "False", "(0, 281474976710655)"), two) == "accepted");
}

TEST_CASE("a .npy file cut anywhere is refused; bytes after it are not", "[io][npy]") {
  const std::string bytes = npy_bytes(1, 0, plain + '\n', two);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK(refused(bytes.substr(0, length)) != "accepted");
  }
  CHECK(refused(bytes) == "accepted");
  CHECK(parse(bytes + bytes) == parse(bytes));
}

TEST_CASE("an error in a .npy file names the file and the byte", "[io][npy]") {
  const TemporaryDirectory directory;
  const auto path = write_file(directory / "bad.npy", npy_bytes(1, 0, "{'x': 1}\n"));
  try {
    (void)pleat::load_npy<float>(path);
    FAIL("accepted");
  } catch (const pleat::FormatError& error) {
    CHECK(error.file() == path.string());
    REQUIRE(error.offset().has_value());
    CHECK(*error.offset() == 11);
  }
  CHECK_THAT(refusal([&] { (void)pleat::load_npy<float>(directory / "none"); }),
             Contains("cannot be opened"));
  CHECK_THAT(refusal([&] { (void)pleat::load_npy<float>(directory / "."); }),
             Contains("not a regular file"));
}

}  // namespace
