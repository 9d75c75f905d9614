// SPDX-License-Identifier: MIT
// Safetensors: what is read, what is refused, and the bytes that are written.
#include "pleat/io/safetensors.hpp"

#include "io/files.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace pleat::test;
using namespace std::string_literals;
using Catch::Matchers::Contains;
using pleat::DataType;
using pleat::Matrix;
using pleat::Safetensors;
using pleat::Tensor;

Safetensors parse(const std::string& bytes) {
  return Safetensors::read(std::make_unique<std::istringstream>(bytes), "some.safetensors");
}

std::string refused(const std::string& bytes) {
  return refusal([&] { (void)parse(bytes); });
}

std::string refused_header(const std::string& header, const std::string& data = {}) {
  return refused(safetensors_bytes(header, data));
}

/// The same for a header with a '@' before the token at which it is refused.
std::string refused_there(std::string header, const std::string& data = {}) {
  const std::size_t at = header.find('@');
  REQUIRE(at != std::string::npos);
  header.erase(at, 1);
  CAPTURE(header);
  const std::string message = refused_header(header, data);
  CHECK_THAT(message, Catch::Matchers::EndsWith("(at byte " + std::to_string(8 + at) + ")"));
  return message;
}

std::string entry(const std::string& name, const std::string& type, const std::string& shape,
                  const std::string& offsets) {
  return '"' + name + "\":{\"dtype\":\"" + type + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + '}';
}

std::string written(const Safetensors& file) {
  std::ostringstream stream;
  file.write(stream);
  return stream.str();
}

Tensor raw(DataType type, std::vector<std::int64_t> shape, std::string_view bytes) {
  const auto data = std::as_bytes(std::span(bytes));
  return {type, std::move(shape), std::vector<std::byte>(data.begin(), data.end())};
}

TEST_CASE("a safetensors file of nothing has 16 known bytes", "[io][safetensors]") {
  const std::string golden = std::string("\x08\0\0\0\0\0\0\0", 8) + "{}      ";
  CHECK(written(Safetensors()) == golden);
  CHECK(parse(golden).names().empty());
  CHECK(parse(golden).metadata().empty());
}

TEST_CASE("a safetensors file of one tensor has the bytes of the reference", "[io][safetensors]") {
  Safetensors file;
  file.add("attn0", raw(DataType::f32, {1, 1, 2, 3}, std::string(24, '\0')));
  const std::string golden =
      std::string("\x48\0\0\0\0\0\0\0", 8) +
      "{\"attn0\":{\"dtype\":\"F32\",\"shape\":[1,1,2,3],\"data_offsets\":[0,24]}}       " +
      std::string(24, '\0');
  CHECK(written(file) == golden);
}

TEST_CASE("tensors are written widest first, then by name, with metadata before them",
          "[io][safetensors]") {
  Safetensors file;
  file.add("b", raw(DataType::f16, {1}, "bb"));
  file.add("a", raw(DataType::f16, {1}, "aa"));
  file.add("d", raw(DataType::i8, {1}, "d"));
  file.add("c", raw(DataType::boolean, {1}, "\1"));
  file.add("z", raw(DataType::f64, {1}, "zzzzzzzz"));
  file.add("y", raw(DataType::bf16, {1}, "yy"));
  file.add("x", raw(DataType::f32, {}, "xxxx"));
  file.add("i", raw(DataType::i64, {1}, "iiiiiiii"));
  file.set_metadata("format", "pt");
  const std::string bytes = written(file);
  const std::uint64_t length =
      static_cast<unsigned char>(bytes[0]) + 256U * static_cast<unsigned char>(bytes[1]);
  CHECK(length % 8 == 0);
  CHECK_THAT(bytes.substr(8),
             Catch::Matchers::StartsWith("{\"__metadata__\":{\"format\":\"pt\"},\"i\":"));
  CHECK(bytes.substr(8 + length) == "iiiiiiiizzzzzzzzxxxxyyaabbd\1");
  const Safetensors back = parse(bytes);
  CHECK(back.names() == std::vector<std::string>{"a", "b", "c", "d", "i", "x", "y", "z"});
  CHECK(back.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
  CHECK(back.data_type("y") == DataType::bf16);
  CHECK(back.shape("x").empty());
  CHECK(back.tensor("i").data == file.tensor("i").data);
  CHECK(written(back) == bytes);
}

TEST_CASE("every type of element survives a round trip bit for bit", "[io][safetensors]") {
  Random random(1);
  Safetensors file;
  for (const auto& element : pleat::detail::element_types) {
    if (!element.type) continue;
    Tensor tensor{*element.type, {3, 5}, std::vector<std::byte>(15 * element.bits / 8)};
    for (auto& byte : tensor.data) byte = static_cast<std::byte>(random.next());
    file.add(std::string(element.name), std::move(tensor));
  }
  CHECK(file.names().size() == 13);
  const Safetensors back = parse(written(file));
  REQUIRE(back.names() == file.names());
  for (const std::string& name : file.names()) {
    CAPTURE(name);
    CHECK(back.tensor(name).type == file.tensor(name).type);
    CHECK(back.tensor(name).shape == file.tensor(name).shape);
    CHECK(back.tensor(name).data == file.tensor(name).data);
  }
}

TEST_CASE("matrices survive, row-major in the file, NaN and infinity too", "[io][safetensors]") {
  Matrix<float> A(2, 3);
  A << 1, 2, 3, 4, 5, 6;
  Safetensors file;
  file.add("A", A);
  file.add("expression", 2.0F * A.transpose());
  file.add("vector", pleat::Vector<double>(pleat::Vector<double>::LinSpaced(4, 0, 3)));
  file.add("row", A.row(0));
  Matrix<float> odd = A;
  odd(0, 1) = std::numeric_limits<float>::infinity();
  odd(1, 2) = std::numeric_limits<float>::quiet_NaN();
  odd(1, 1) = std::numeric_limits<float>::denorm_min();
  file.add("odd", odd);
  const Safetensors back = parse(written(file));
  CHECK(back.tensor("A").values<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(back.matrix<float>("A") == A);
  CHECK(back.matrix<double>("A") == A.cast<double>());
  CHECK(back.matrix<float>("expression") == 2.0F * A.transpose());
  CHECK(back.shape("vector") == std::vector<std::int64_t>{4});
  CHECK(back.matrix<float>("vector") == pleat::Vector<float>::LinSpaced(4, 0, 3));
  CHECK(back.shape("row") == std::vector<std::int64_t>{1, 3});
  CHECK(back.tensor("odd").data == Tensor::of(odd).data);
}

TEST_CASE("weights can be stored narrower or wider", "[io][safetensors]") {
  Matrix<float> A(1, 3);
  A << 1.0F, 0.1F, -65504.0F;
  Safetensors file;
  file.add("f64", A, DataType::f64);
  file.add("f32", A, DataType::f32);
  file.add("f16", A, DataType::f16);
  file.add("bf16", A, DataType::bf16);
  CHECK_THROWS_AS(file.add("i8", A, DataType::i8), std::invalid_argument);
  CHECK_FALSE(file.contains("i8"));
  const Safetensors back = parse(written(file));
  CHECK(back.matrix<double>("f64") == A.cast<double>());
  CHECK(back.matrix<float>("f32") == A);
  // 0.1 = 0x2e66 in half and 0x3dcd in bfloat16, rounded to nearest.
  CHECK(back.matrix<float>("f16")(0, 1) == 0.0999755859375F);
  CHECK(back.matrix<float>("f16")(0, 2) == -65504.0F);
  CHECK(back.matrix<float>("bf16")(0, 1) == 0.10009765625F);
  CHECK(back.matrix<float>("bf16")(0, 2) == -65536.0F);
}

TEST_CASE("numbers beyond the largest of a type are named, and infinities stay",
          "[io][safetensors]") {
  Matrix<double> A = Matrix<double>::Ones(2, 3);
  Safetensors file;
  for (const auto& [type, value] : {std::pair{DataType::f16, 65520.0},
                                    {DataType::f16, -70000.0},
                                    {DataType::f32, 1e300},
                                    {DataType::bf16, -1e39},
                                    {DataType::bf16, 0x1.ffp127}}) {
    A(1, 2) = value;
    CHECK_THROWS_WITH(file.add("w", A, type), Contains("\"w\"") && Contains("row 1, column 2"));
    CHECK_THROWS_AS(file.add("w", A, type), std::invalid_argument);
    CHECK(file.names().empty());
  }
  A(1, 2) = 1e300;
  file.add("w", A, DataType::f64);
  CHECK_THROWS_WITH(file.matrix<float>("w"), Contains("\"w\"") && Contains("row 1, column 2"));
  CHECK(file.matrix<double>("w") == A);
  A(1, 2) = -std::numeric_limits<double>::infinity();
  for (const DataType type : {DataType::f64, DataType::f32, DataType::f16, DataType::bf16}) {
    const std::string name = std::to_string(static_cast<int>(type));
    file.add(name, A, type);
    CHECK(file.matrix<float>(name) == A.cast<float>());
  }
  file.add("row", Eigen::RowVector3d(1, 2, 3), DataType::f16);
  CHECK(file.shape("row") == std::vector<std::int64_t>{1, 3});
  file.add("column", Eigen::Vector3d(1, 2, 3), DataType::f32);
  CHECK(file.shape("column") == std::vector<std::int64_t>{3});
}

TEST_CASE("a double is rounded once to 16 bits", "[io][safetensors]") {
  Matrix<double> A(2, 4);
  A << 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-8 + 0x1p-40, 65519.999999, 0x1p-25 + 0x1p-60,
      -(1 + 0x1p-11 + 0x1p-40), -(1 + 0x1p-8 + 0x1p-40), -65519.999999, -(0x1p-134 + 0x1p-170);
  Safetensors file;
  file.add("f16", A, DataType::f16);
  file.add("bf16", A, DataType::bf16);
  Matrix<double> expected(2, 4);
  expected << 1.0009765625, 1.00390625, 65504, 0x1p-24, -1.0009765625, -1.00390625, -65504, 0;
  CHECK(file.matrix<double>("f16") == expected);
  expected << 1, 1.0078125, 65536, 0x1p-25, -1, -1.0078125, -65536, -0x1p-133;
  CHECK(file.matrix<double>("bf16") == expected);
}

TEST_CASE("what a caller gets wrong about a tensor is said by name", "[io][safetensors]") {
  Safetensors file;
  file.add("a", raw(DataType::i32, {1}, "aaaa"));
  CHECK_THROWS_WITH(file.tensor("nobody"), Contains("nobody"));
  CHECK_THROWS_AS(file.tensor("nobody"), std::invalid_argument);
  CHECK_THROWS_AS(file.shape("nobody"), std::invalid_argument);
  CHECK_THROWS_AS(file.data_type("nobody"), std::invalid_argument);
  CHECK_THROWS_AS(file.matrix<float>("nobody"), std::invalid_argument);
  CHECK_THROWS_AS(file.matrix<float>("a"), std::invalid_argument);
  CHECK_THROWS_WITH(file.matrix<float>("a"), Contains("\"a\""));
  CHECK_THROWS_AS(file.add("a", raw(DataType::i32, {1}, "aaaa")), std::invalid_argument);
  CHECK_THROWS_AS(file.add("__metadata__", raw(DataType::i32, {1}, "aaaa")), std::invalid_argument);
  CHECK_THROWS_AS(file.add("\xff", raw(DataType::i32, {1}, "aaaa")), std::invalid_argument);
  CHECK_THROWS_AS(file.add("b", raw(DataType::i32, {2}, "aaaa")), std::invalid_argument);
  CHECK_THROWS_AS(file.add("b", raw(DataType::i32, {-1, -1}, "aaaa")), std::invalid_argument);
  constexpr std::int64_t big = std::int64_t{1} << 40;
  CHECK_THROWS_AS(file.add("b", raw(DataType::i32, {big, big}, "")), std::invalid_argument);
  CHECK_THROWS_AS(file.set_metadata("\xc0\x80", ""), std::invalid_argument);
  CHECK_THROWS_AS(file.set_metadata("", "\xed\xa0\x80"), std::invalid_argument);
  CHECK(file.names() == std::vector<std::string>{"a"});
  CHECK(file.metadata().empty());
}

TEST_CASE("names and metadata may be any UTF-8", "[io][safetensors]") {
  const std::string odd =
      "\" \\ / \b\f\n\r\t\x01\x1f\x7f \0 \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xf4\x8f\xbf\xbf"s;
  Safetensors file;
  file.add(odd, raw(DataType::u8, {1}, "a"));
  file.add("", raw(DataType::u8, {1}, "b"));
  file.set_metadata(odd, odd);
  const Safetensors back = parse(written(file));
  CHECK(back.names() == file.names());
  CHECK(back.contains(odd));
  CHECK(back.metadata() == file.metadata());
}

TEST_CASE("texts that are not UTF-8 are known as such", "[io][safetensors]") {
  using pleat::detail::is_utf8;
  for (const char* good : {"", "abc", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CHECK(is_utf8(good));
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x9f\xbf", "\xed\xa0\x80",
        "\xe2\x82", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff",
        "\xf0\x9f\x98", "\xe2\x82(", "\xc3\xa9\xa9"})
    CHECK_FALSE(is_utf8(bad));
}

TEST_CASE("a tensor may have no dimensions, or no elements", "[io][safetensors]") {
  const Safetensors file = parse(safetensors_bytes(
      '{' + entry("scalar", "F32", "[]", "[0,4]") + ',' + entry("e1", "F32", "[2,0]", "[4,4]") +
          ',' + entry("e2", "F64", "[0]", "[4,4]") + ',' +
          entry("e3", "F64", "[0,281474976710655]", "[0,0]") + '}',
      "\x00\x00\x80\x3f"s));
  CHECK(file.matrix<float>("scalar") == Matrix<float>::Ones(1, 1));
  CHECK(file.matrix<float>("e1").rows() == 2);
  CHECK(file.matrix<float>("e1").cols() == 0);
  CHECK(file.matrix<float>("e2").rows() == 0);
  CHECK(parse(written(file)).names() == file.names());
}

TEST_CASE("space around the header is allowed, and nothing else", "[io][safetensors]") {
  CHECK(refused_header(" \t\n\r{} \t\n\r") == "accepted");
  CHECK_THAT(refused_header("{}\0\0"s), Contains("NUL"));
  CHECK_THAT(refused_header("{\0}"s), Contains("NUL"));
  CHECK_THAT(refused_header("\xef\xbb\xbf{}"), Contains("byte order mark"));
  CHECK_THAT(refused_header("{}{}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{}x"), Contains("not JSON"));
  CHECK_THAT(refused_header("/**/{}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{}\v"), Contains("not JSON"));
}

TEST_CASE("a file shorter than its prefix or header is refused", "[io][safetensors]") {
  CHECK_THAT(refused(""), Contains("too short") && Contains("(at byte 0)"));
  CHECK_THAT(refused("1234567"), Contains("too short") && Contains("(at byte 7)"));
  CHECK_THAT(refused(little(1, 8)), Contains("ends after the file"));
  CHECK_THAT(refused(little(100'000'000, 8) + "{}"), Contains("ends after the file"));
  CHECK_THAT(refused(little(3, 8) + "{}"), Contains("ends after the file"));
  CHECK_THAT(refused(little(0, 8)), Contains("not JSON"));
}

TEST_CASE("a header that claims more than 100 MB is refused before it is read",
          "[io][safetensors]") {
  CHECK_THAT(refused(little(100'000'001, 8) + "{}"), Contains("the most is 100000000"));
  CHECK_THAT(refused(std::string(8, '\xff') + "{}"), Contains("the most is"));
  CHECK_THAT(refused("\x3c\x00\x00\x00\x00\xff\xff\xff"s + "{}"), Contains("the most is"));
  CHECK_THAT(refused(little(std::uint64_t{1} << 63, 8)), Contains("the most is"));
}

TEST_CASE("a header that is not JSON, or not UTF-8, is refused where it goes wrong",
          "[io][safetensors]") {
  CHECK_THAT(refused_header("{"), Contains("not JSON"));
  CHECK_THAT(refused_header("\xff"), Contains("not JSON"));
  CHECK_THAT(refused_header("{\"\xff\":1}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{\"__metadata__\":{\"a\":\"\xed\xa0\x80\"}}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{\"__metadata__\":{\"a\":\"\\ud800\"}}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{\"__metadata__\":{\"a\":\"\n\"}}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{\"__metadata__\":{\"a\":\"b\",}}"), Contains("not JSON"));
  CHECK_THAT(refused_header("{'a':1}"), Contains("not JSON"));
  CHECK_THAT(refused_header(""), Contains("not JSON"));
  try {
    (void)parse(safetensors_bytes("{\"a\" 1}"));
    FAIL("accepted");
  } catch (const pleat::FormatError& error) {
    CHECK(error.file() == "some.safetensors");
    REQUIRE(error.offset().has_value());
    CHECK(*error.offset() == 8 + 5);
  }
}

TEST_CASE("a header of another form is refused", "[io][safetensors]") {
  for (const char* header :
       {R"(@[])", R"(@1)", R"(@null)", R"(@true)", R"(@"")", R"({"a":@1})", R"({"a":@null})",
        R"({"a":@[]})", R"({"a":@"b"})", R"({"__metadata__":@1})", R"({"__metadata__":@[]})",
        R"({"__metadata__":@"a"})", R"({"__metadata__":{"a":@1}})",
        R"({"__metadata__":{"a":@null}})", R"({"__metadata__":{"a":@true}})",
        R"({"__metadata__":{"a":@{}}})", R"({"__metadata__":{"a":@[]}})",
        R"({"__metadata__":{"a":@1.5}})"})
    CHECK_THAT(refused_there(header), Contains("unexpected"));
}

TEST_CASE("metadata of null are none", "[io][safetensors]") {
  const Safetensors file = parse(
      safetensors_bytes("{\"__metadata__\":null," + entry("a", "U8", "[1]", "[0,1]") + "}", "x"));
  CHECK(file.metadata().empty());
  CHECK(file.names() == std::vector<std::string>{"a"});
  CHECK_THAT(refused_there("{\"__metadata__\":null,@\"__metadata__\":{}}"), Contains("duplicate"));
  CHECK_THAT(refused_there("{\"__metadata__\":{},@\"__metadata__\":null}"), Contains("duplicate"));
}

TEST_CASE("what is no safetensors file is called by its name", "[io][safetensors]") {
  const auto check = [](const std::string& bytes, const std::string& name) {
    CAPTURE(bytes);
    CHECK_THAT(refused(bytes),
               Contains("is not a safetensors file; it seems to be") && Contains(name));
  };
  check("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "git lfs pull");
  check("PK\3\4" + std::string(100, 'x'), "zip");
  check("PK\5\6" + std::string(18, '\0'), "zip");
  check("<!DOCTYPE html>\n<html>...", "web page");
  check("\n  <HTML><body>...", "web page");
  check("\x1f\x8b\b\0\0\0\0\0\0\3"s + std::string(100, 'x'), "gzip");
  check("\x80\2}q\0X"s + std::string(100, 'x'), "pickle");
  check("\x80\4\x95\x1f"s + std::string(100, 'x'), "pickle");
  check("\x93NUMPY\1\0v\0{'descr'"s, ".npy file");
  check("\x89HDF\r\n\x1a\n" + std::string(100, 'x'), "HDF5");
  check("GGUF" + std::string(100, 'x'), "GGUF");
  check("{\"metadata\": {\"total_size\": 1}, \"weight_map\": {}}", "JSON");
  // A header may have a length of such bytes, and begin with a space; what is wrong is said then.
  for (const std::size_t length : {123U, 0x280U, 0x480U}) {
    CAPTURE(length);
    std::string header = " {}";
    header.resize(length, ' ');
    CHECK(refused_header(header) == "accepted");
    header = "{\"a\":1}";
    header.resize(length, ' ');
    CHECK_THAT(refused_header(header), Contains("unexpected"));
  }
}

TEST_CASE("masks are tensors of booleans", "[io][safetensors]") {
  Matrix<bool> mask(2, 3);
  mask << true, false, false, true, true, false;
  Safetensors file;
  file.add("mask", mask);
  file.add("column", Eigen::Matrix<bool, Eigen::Dynamic, 1>(mask.col(1)));
  file.add("none", Matrix<bool>(0, 3));
  file.add("other", raw(DataType::boolean, {2, 2}, "\0\1\1\2"s));
  file.add("bytes", raw(DataType::u8, {1}, "\1"));
  const Safetensors back = parse(written(file));
  CHECK(back.data_type("mask") == DataType::boolean);
  CHECK(back.tensor("mask").data == raw(DataType::boolean, {2, 3}, "\1\0\0\1\1\0"s).data);
  CHECK(back.matrix<bool>("mask") == mask);
  CHECK(back.shape("column") == std::vector<std::int64_t>{2});
  CHECK(back.matrix<bool>("column") == mask.col(1));
  CHECK(back.matrix<bool>("none").cols() == 3);
  CHECK_THROWS_WITH(back.matrix<bool>("other"),
                    Contains("\"other\"") && Contains("row 1, column 1 is 2"));
  CHECK_THROWS_AS(back.matrix<bool>("bytes"), std::invalid_argument);
  CHECK_THROWS_AS(back.matrix<float>("mask"), std::invalid_argument);
}

TEST_CASE("a tensor has exactly its three fields", "[io][safetensors]") {
  const auto fields = [](const std::string& text) {
    return refused_header("{\"t\":{" + text + "}}");
  };
  const auto there = [](const std::string& text) { return refused_there("{\"t\":{" + text); };
  CHECK(fields(R"("dtype":"U8","shape":[0],"data_offsets":[0,0])") == "accepted");
  CHECK(fields(R"("data_offsets":[0,0],"shape":[0],"dtype":"U8")") == "accepted");
  CHECK_THAT(there("@}}"), Contains("\"t\" has no dtype"));
  CHECK_THAT(there(R"("shape":[0],"data_offsets":[0,0]@}})"), Contains("no dtype"));
  CHECK_THAT(there(R"("dtype":"U8", "data_offsets":[0,0] @}})"), Contains("no shape"));
  CHECK_THAT(there(R"("dtype":"U8","shape":[0]@}})"), Contains("no data_offsets"));
  CHECK_THAT(there(R"("dtype":"U8","shape":[0],"data_offsets":[0,0], @"extra":1}})"),
             Contains("unexpected: the field \"extra\""));
  CHECK_THAT(there(R"("dtype":"U8","shape":[0],"data_offsets":[0@]}})"),
             Contains("not two numbers"));
  CHECK_THAT(there(R"("dtype":"U8","shape":[0],"data_offsets":[@]}})"),
             Contains("not two numbers"));
  CHECK_THAT(there(R"("dtype":"U8","shape":[0],"data_offsets":[0,0,@0]}})"),
             Contains("a third number"));
  for (const char* value :
       {"1", "null", "[]", "{}", "\"\"", "\"u8\"", "\"F33\"", "\"F32 \"", "true", "\"\\u0000\""})
    CHECK_THAT(
        there(std::string("\"dtype\": @") + value + ",\"shape\":[0],\"data_offsets\":[0,0]}}"),
        Contains("unexpected"));
  for (const char* value : {"1", "null", "\"a\"", "{}", "true", "[null]", "[\"1\"]", "[true]",
                            "[[]]", "[{}]", "[[0]]"}) {
    CHECK_THAT(
        fields(std::string("\"dtype\":\"U8\",\"shape\":") + value + ",\"data_offsets\":[0,0]"),
        Contains("unexpected"));
    CHECK_THAT(fields(std::string("\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":") + value),
               Contains("unexpected") || Contains("not two numbers"));
  }
}

TEST_CASE("sizes are whole numbers of at most 48 bits, written as such", "[io][safetensors]") {
  for (const char* number :
       {"-1", "-0", "1.0", "1.5", "0.0", "1e0", "1E2", "1e-1", "18446744073709551615",
        "18446744073709551616", "281474976710656", "9223372036854775808", "-9223372036854775809",
        "100000000000000000000000000000000000000000"}) {
    CAPTURE(number);
    CHECK_THAT(
        refused_there("{" + entry("a", "U8", "[@" + std::string(number) + "]", "[0,1]") + "}", "x"),
        Contains("unexpected"));
    CHECK_THAT(
        refused_there("{" + entry("a", "U8", "[1]", "[@" + std::string(number) + ",1]") + "}", "x"),
        Contains("unexpected"));
    CHECK_THAT(refused_there(
                   "{" + entry("a", "U8", "[1]", "[0, @" + std::string(number) + "]") + "}", "x"),
               Contains("unexpected"));
  }
  for (const char* number :
       {"01", "+1", "0x1", "1_0", ".5", "1.", "NaN", "Infinity", "1e", "1e999"}) {
    CAPTURE(number);
    CHECK(refused_header("{" + entry("a", "U8", "[" + std::string(number) + "]", "[0,1]") + "}",
                         "x") != "accepted");
  }
}

TEST_CASE("equal keys are refused, however they are written", "[io][safetensors]") {
  const std::string a = entry("a", "U8", "[0]", "[0,0]");
  CHECK(refused_header('{' + a + ',' + entry("b", "U8", "[0]", "[0,0]") + '}') == "accepted");
  CHECK_THAT(refused_there('{' + a + ", @" + a + '}'), Contains("duplicate key \"a\""));
  CHECK_THAT(refused_there('{' + a + ",@" + entry("\\u0061", "U8", "[0]", "[0,0]") + '}'),
             Contains("duplicate key \"a\""));
  CHECK_THAT(refused_there("{\"__metadata__\":{},@\"__metadata__\":{}}"),
             Contains("duplicate key"));
  CHECK_THAT(refused_there("{\"__metadata__\":{},@\"\\u005f_metadata__\":{}}"),
             Contains("duplicate key"));
  CHECK_THAT(refused_there("{\"__metadata__\":{\"a\":\"1\",@\"\\u0061\":\"2\"}}"),
             Contains("duplicate key"));
  CHECK_THAT(
      refused_there(R"({"t":{"dtype":"U8",@"dtype":"U8","shape":[0],"data_offsets":[0,0]}})"),
      Contains("duplicate key \"dtype\""));
  CHECK_THAT(
      refused_there(R"({"t":{"dtype":"U8","shape":[0],@"sh\u0061pe":[0],"data_offsets":[0,0]}})"),
      Contains("duplicate key \"shape\""));
  CHECK_THAT(refused_there(
                 R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],@"data_offsets":[0,0]}})"),
             Contains("duplicate key \"data_offsets\""));
  // Escapes do not lead astray.
  CHECK_THAT(refused_there(R"({"__metadata__":{"\"{":"\\","\\\"":"\"}\\"},@"__metadata__":{}})"),
             Contains("duplicate key"));
}

TEST_CASE("tensors that share bytes are refused (the JSON attack)", "[io][safetensors]") {
  std::string header = "{";
  for (int i = 0; i < 10; ++i)
    header += (i > 0 ? "," : "") + entry("weight_" + std::to_string(i), "F32", "[2,2]", "[0,16]");
  CHECK_THAT(refused_header(header + '}', std::string(16, '\0')),
             Contains("data before it end at 16"));
  // Each alone in its bytes, but the file says that all of them lie there.
  CHECK_THAT(refused_header(header + '}', std::string(160, '\0')),
             Contains("data before it end at 16"));
}

TEST_CASE("the data have no hole, no overlap, and no other start", "[io][safetensors]") {
  const auto two = [](const std::string& first, const std::string& second, std::size_t size) {
    return refused_header(
        '{' + entry("a", "U8", "[4]", first) + ',' + entry("b", "U8", "[4]", second) + '}',
        std::string(size, 'x'));
  };
  CHECK(two("[0,4]", "[4,8]", 8) == "accepted");
  CHECK(two("[4,8]", "[0,4]", 8) == "accepted");
  CHECK_THAT(two("[0,4]", "[5,9]", 9), Contains("\"b\" has data_offsets [5, 9]"));
  CHECK_THAT(two("[0,4]", "[3,7]", 8), Contains("\"b\" has data_offsets [3, 7]"));
  CHECK_THAT(two("[1,5]", "[5,9]", 9), Contains("\"a\" has data_offsets [1, 5]"));
  CHECK_THAT(two("[0,4]", "[8,4]", 8), Contains("\"b\" has data_offsets [8, 4]"));
  CHECK_THAT(two("[4,0]", "[4,8]", 8), Contains("has data_offsets"));
}

TEST_CASE("a tensor's bytes are those of its shape", "[io][safetensors]") {
  CHECK_THAT(refused_header('{' + entry("a", "F32", "[2,2]", "[0,15]") + '}', std::string(15, 'x')),
             Contains("15 bytes of data where its shape needs 16"));
  CHECK_THAT(refused_header('{' + entry("a", "F32", "[2,2]", "[0,17]") + '}', std::string(17, 'x')),
             Contains("needs 16"));
  CHECK_THAT(refused_header('{' + entry("a", "F32", "[]", "[0,0]") + '}'), Contains("needs 4"));
  CHECK_THAT(refused_header('{' + entry("a", "F32", "[0]", "[0,4]") + '}', "1234"),
             Contains("needs 0"));
}

TEST_CASE("a shape that overflows is refused", "[io][safetensors]") {
  const auto shape = [](const std::string& text) {
    return refused_header('{' + entry("a", "F32", text, "[0,16]") + '}', std::string(16, 'x'));
  };
  // The two of the reference: the number of elements overflows, and the number of bits does.
  CHECK_THAT(shape("[2,18446744073709551614]"), Contains("unexpected"));
  CHECK_THAT(shape("[2,9223372036854775807]"), Contains("unexpected"));
  // The same with numbers that the format can state.
  CHECK_THAT(shape("[281474976710655,281474976710655]"), Contains("too many elements"));
  CHECK_THAT(shape("[65536,281474976710655]"), Contains("too many elements"));
  CHECK_THAT(shape("[2048,281474976710655]"), Contains("too many elements"));
  CHECK_THAT(shape("[4294967296,4294967296]"), Contains("too many elements"));
  CHECK_THAT(shape("[281474976710655,281474976710655,0]"), Contains("too many elements"));
  CHECK_THAT(shape("[281474976710655]"), Contains("bytes of data where its shape needs"));
}

TEST_CASE("elements of half a byte must fill whole bytes", "[io][safetensors]") {
  CHECK_THAT(refused_header('{' + entry("a", "F4", "[3]", "[0,1]") + '}', "x"),
             Contains("whole number of bytes"));
  CHECK_THAT(refused_header('{' + entry("a", "F6_E2M3", "[3]", "[0,2]") + '}', "xx"),
             Contains("whole number of bytes"));
  CHECK(refused_header('{' + entry("a", "F4", "[4]", "[0,2]") + '}', "xx") == "accepted");
  CHECK(refused_header('{' + entry("a", "F6_E3M2", "[4]", "[0,3]") + '}', "xxx") == "accepted");
}

TEST_CASE("tensors of types unknown to matrices are checked, kept and copied, but not read",
          "[io][safetensors]") {
  for (const auto& element : pleat::detail::element_types) {
    if (element.type) continue;
    const std::string type(element.name);
    CAPTURE(type);
    const std::string data(element.bits, 'x');  // eight elements
    const std::string bytes = safetensors_bytes(
        '{' + entry("a", type, "[8]", "[0," + std::to_string(element.bits) + "]") + '}', data);
    const Safetensors file = parse(bytes);
    CHECK(file.shape("a") == std::vector<std::int64_t>{8});
    CHECK_THAT(refusal([&] { (void)file.tensor("a"); }), Contains(type));
    CHECK_THAT(refusal([&] { (void)file.data_type("a"); }), Contains(type));
    CHECK_THAT(written(file), Catch::Matchers::EndsWith(data));
    CHECK(parse(written(file)).shape("a") == file.shape("a"));
    CHECK_THAT(
        refused_header(
            '{' + entry("a", type, "[16]", "[0," + std::to_string(element.bits) + "]") + '}', data),
        Contains("bytes of data where its shape needs"));
  }
}

TEST_CASE("a file that is cut short or goes on is refused", "[io][safetensors]") {
  Safetensors file;
  file.add("a", raw(DataType::u8, {4}, "abcd"));
  file.add("b", raw(DataType::f32, {}, "efgh"));
  const std::string bytes = written(file);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    CHECK(refused(bytes.substr(0, length)) != "accepted");
  }
  CHECK(refused(bytes) == "accepted");
  CHECK_THAT(refused(bytes.substr(0, bytes.size() - 1)), Contains("but the file holds 7"));
  CHECK_THAT(refused(bytes + 'x'), Contains("but the file holds 9"));
  CHECK_THAT(refused(bytes + "\0\0\0\0"s), Contains("but the file holds 12"));
  CHECK_THAT(refused_header("{}", "x"), Contains("but the file holds 1"));
}

TEST_CASE("depth costs nothing", "[io][safetensors]") {
  const std::string brackets(10'000'000, '[');
  CHECK_THAT(refused_header("{\"a\":" + brackets), Contains("unexpected"));
  CHECK_THAT(refused_header(brackets), Contains("unexpected"));
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"a\":";
  CHECK_THAT(refused_header(objects), Contains("unexpected"));
}

TEST_CASE("a hundred thousand tensors on one range are refused at once", "[io][safetensors]") {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i)
    header += (i > 0 ? "," : "") + entry("t" + std::to_string(i), "F32", "[2,2]", "[0,16]");
  const auto start = std::chrono::steady_clock::now();
  CHECK_THAT(refused_header(header + '}', std::string(16, '\0')),
             Contains("data before it end at 16"));
  // A quadratic check would take minutes.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("ten thousand tensors are read and written", "[io][safetensors]") {
  Safetensors file;
  for (int i = 0; i < 10'000; ++i)
    file.add("t" + std::to_string(i),
             raw(DataType::u16, {1}, little(static_cast<std::uint64_t>(i), 2)));
  const Safetensors back = parse(written(file));
  CHECK(back.names().size() == 10'000);
  CHECK(back.names("t999").size() == 11);
  CHECK(back.names("t9999") == std::vector<std::string>{"t9999"});
  CHECK(back.names("u").empty());
  CHECK(back.tensor("t4711").values<std::uint16_t>() == std::vector<std::uint16_t>{4711});
}

TEST_CASE("a file with more header than the format allows is not written", "[io][safetensors]") {
  Safetensors file;
  file.set_metadata("a", std::string(100'000'000, 'a'));
  std::ostringstream stream;
  CHECK_THROWS_AS(file.write(stream), std::invalid_argument);
  CHECK(stream.str().empty());
}

TEST_CASE("a bad shape is not allocated for", "[io][safetensors]") {
  // 2^47 bytes: the check of the file's size comes first.
  CHECK_THAT(
      refused_header('{' + entry("a", "U8", "[140737488355328]", "[0,140737488355328]") + '}', "x"),
      Contains("but the file holds 1"));
}

TEST_CASE("what is no file cannot be opened", "[io][safetensors]") {
  const TemporaryDirectory directory;
  CHECK_THAT(refusal([&] { (void)Safetensors::open(directory / "nothing"); }),
             Contains("nothing: cannot be opened"));
  CHECK_THAT(refusal([&] { (void)Safetensors::open(directory / "."); }),
             Contains("not a regular file"));
  CHECK_THROWS_AS(Safetensors::read(nullptr, "a"), std::invalid_argument);
}

TEST_CASE("tensors are read when asked for, from the file that was opened", "[io][safetensors]") {
  const TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  Safetensors file;
  file.add("a", raw(DataType::u8, {4}, "abcd"));
  file.save(path);
  const Safetensors opened = Safetensors::open(path);
  SECTION("even if another takes its place") {
    Safetensors other;
    other.add("z", raw(DataType::u8, {2}, "zz"));
    other.save(path);
    CHECK(opened.tensor("a").data == file.tensor("a").data);
    CHECK(Safetensors::open(path).names() == std::vector<std::string>{"z"});
  }
  SECTION("and a file that shrinks is noticed") {
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    CHECK_THAT(refusal([&] { (void)opened.tensor("a"); }), Contains("ends too early"));
    CHECK(refusal([&] { opened.save(directory / "b.safetensors"); }) != "accepted");
    CHECK(directory.files() == 1);
  }
}

TEST_CASE("an opened file can be changed and saved over itself", "[io][safetensors]") {
  const TemporaryDirectory directory;
  const auto path = directory / "a.safetensors";
  Random random(2);
  const Matrix<float> big = random.matrix<float>(700, 1000);  // more than one block of copying
  Safetensors file;
  file.add("big", big);
  file.add("a", raw(DataType::f64, {}, "abcdefgh"));
  file.save(path);
  Safetensors opened = Safetensors::open(path);
  opened.add("new", raw(DataType::u8, {1}, "n"));
  opened.set_metadata("k", "v");
  opened.save(path);
  opened.save(path);
  const Safetensors back = Safetensors::open(path);
  CHECK(back.names() == std::vector<std::string>{"a", "big", "new"});
  CHECK(back.matrix<float>("big") == big);
  CHECK(back.metadata().at("k") == "v");
  CHECK(directory.files() == 1);
}

TEST_CASE("files can be joined", "[io][safetensors]") {
  Safetensors first;
  first.add("a", raw(DataType::u8, {1}, "a"));
  first.set_metadata("k", "v");
  Safetensors second;
  second.add("b", raw(DataType::u8, {1}, "b"));
  second.set_metadata("k", "v");
  Safetensors both = parse(written(first));
  both.add(parse(written(second)));
  CHECK(written(both) == [&] {
    first.add("b", raw(DataType::u8, {1}, "b"));
    return written(first);
  }());
  CHECK_THROWS_AS(both.add(second), std::invalid_argument);
  Safetensors third;
  third.add("c", raw(DataType::u8, {1}, "c"));
  third.set_metadata("k", "w");
  CHECK_THROWS_AS(both.add(third), std::invalid_argument);
  CHECK_FALSE(both.contains("c"));
}

TEST_CASE("a file that others wrote is read", "[io][safetensors]") {
  const char* data = std::getenv("PLEAT_DATA");
  if (data == nullptr) {
    WARN("skipped: PLEAT_DATA names no directory");
    return;
  }
  const Safetensors file = Safetensors::open(std::filesystem::path(data) / "use.safetensors");
  REQUIRE_FALSE(file.names().empty());
  std::size_t bytes = 0;
  for (const std::string& name : file.names()) bytes += file.tensor(name).data.size();
  CHECK(bytes > 27'000'000);
  CHECK(parse(written(file)).names() == file.names());
}

}  // namespace
