// SPDX-License-Identifier: MIT
// Saving replaces a file whole or not at all.
#include "io/files.hpp"
#include "pleat/io/npy.hpp"
#include "pleat/io/operator_file.hpp"
#include "pleat/io/safetensors.hpp"
#include "support/catch.hpp"

#include <csignal>
#include <filesystem>
#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <sys/resource.h>
#include <utility>
#include <vector>

namespace {

using namespace pleat::test;
namespace fs = std::filesystem;
using pleat::Matrix;

/// While it lives, no file grows beyond so many bytes: the disk is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_) == 0);
    const rlimit limit{bytes, old_.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit old_{};
};

/// Every way to save 40 kB.
std::vector<std::pair<std::string, std::function<void(const fs::path&)>>> savers() {
  const Matrix<float> A = Matrix<float>::Random(100, 100);
  return {{"save_npy", [A](const fs::path& path) { pleat::save_npy(path, A); }},
          {"Safetensors::save",
           [A](const fs::path& path) {
             pleat::Safetensors file;
             file.add("A", A);
             file.save(path);
           }},
          {"save", [A](const fs::path& path) { pleat::save(path, pleat::Dense<float>(A)); }}};
}

TEST_CASE("a save that fails half-way leaves the old file, and nothing else", "[io]") {
  for (const auto& [name, save] : savers())
    for (const rlim_t limit : {rlim_t{0}, rlim_t{1}, rlim_t{100}, rlim_t{8192}, rlim_t{40'000}}) {
      CAPTURE(name, limit);
      const TemporaryDirectory directory;
      const fs::path old = write_file(directory / "old", "what was there");
      bool failed = false;
      {
        const FullDisk full(limit);
        try {
          save(old);
        } catch (const fs::filesystem_error& error) {
          failed = error.code() == std::errc::file_too_large;
        }
        try {
          save(directory / "new");
        } catch (const fs::filesystem_error&) {
        }
      }
      CHECK(failed);
      CHECK(read_file(old) == "what was there");
      CHECK(directory.files() == 1);
      save(old);
      CHECK(read_file(old).size() > 40'000);
      CHECK(directory.files() == 1);
    }
}

TEST_CASE("what cannot be saved leaves the old file", "[io]") {
  const TemporaryDirectory directory;
  const fs::path old = write_file(directory / "old", "what was there");
  pleat::Safetensors file;
  file.set_metadata("a", std::string(100'000'000, 'a'));
  CHECK_THROWS_AS(file.save(old), std::invalid_argument);
  CHECK(read_file(old) == "what was there");
  CHECK(directory.files() == 1);
}

TEST_CASE("only files are saved over, and only where there is a directory", "[io]") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "sub");
  for (const auto& [name, save] : savers()) {
    CAPTURE(name);
    CHECK_THROWS_AS(save(directory / "sub"), fs::filesystem_error);
    CHECK_THROWS_AS(save(directory / "missing" / "file"), fs::filesystem_error);
    CHECK_THROWS_AS(save("/dev/null"), fs::filesystem_error);
    CHECK(fs::is_character_file("/dev/null"));
    CHECK(directory.files() == 1);
  }
}

TEST_CASE("a link is followed, permissions stay, and what others left behind does not matter",
          "[io]") {
  const TemporaryDirectory directory;
  const fs::path file = write_file(directory / "file", "old");
  fs::permissions(file, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink(file, directory / "link");
  write_file(directory / ".pleat-0.tmp", "of another process");
  const Matrix<double> A = Matrix<double>::Ones(2, 2);
  pleat::save_npy(directory / "link", A);
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(pleat::load_npy<double>(file) == A);
  CHECK(fs::status(file).permissions() == (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(read_file(directory / ".pleat-0.tmp") == "of another process");
  CHECK(directory.files() == 3);
}

TEST_CASE("a link to nothing is followed, and one in a circle refused", "[io]") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "sub");
  fs::create_symlink("sub/file", directory / "second");
  fs::create_symlink("second", directory / "link");
  fs::create_symlink(directory / "missing" / "file", directory / "astray");
  fs::create_symlink("b", directory / "a");
  fs::create_symlink("a", directory / "b");
  const Matrix<double> A = Matrix<double>::Ones(2, 2);
  pleat::save_npy(directory / "link", A);
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(fs::is_symlink(directory / "second"));
  CHECK(fs::is_regular_file(fs::symlink_status(directory / "sub" / "file")));
  CHECK(pleat::load_npy<double>(directory / "sub" / "file") == A);
  for (const char* name : {"astray", "a", "b"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(pleat::save_npy(directory / name, A), fs::filesystem_error);
    CHECK(fs::is_symlink(directory / name));
  }
  CHECK(directory.files() == 6);
}

TEST_CASE("what is being saved over a private file cannot be read by others", "[io]") {
  constexpr fs::perms own = fs::perms::owner_read | fs::perms::owner_write;
  for (const fs::perms permissions : {own, fs::perms::owner_read}) {
    const TemporaryDirectory directory;
    const fs::path file = write_file(directory / "file", "old");
    fs::permissions(file, permissions);
    fs::perms during = fs::perms::none;
    pleat::detail::write_atomically(file, [&](std::ostream& stream) {
      stream << "new";
      during = fs::status(directory / ".pleat-0.tmp").permissions();
    });
    CHECK(during == own);
    CHECK(fs::status(file).permissions() == permissions);
    CHECK(read_file(file) == "new");
    CHECK(directory.files() == 1);
  }
}

TEST_CASE("a file in the working directory can be saved", "[io]") {
  const TemporaryDirectory directory;
  const fs::path before = fs::current_path();
  fs::current_path(directory / ".");
  const Matrix<double> A = Matrix<double>::Ones(2, 2);
  pleat::save_npy("a.npy", A);
  const Matrix<double> back = pleat::load_npy<double>("a.npy");
  fs::current_path(before);
  CHECK(back == A);
}

}  // namespace
