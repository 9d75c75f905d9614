// SPDX-License-Identifier: MIT
// Which kernels a machine gets: the choice for any CPU, and the tables of this one.
#include "pleat/kernel/active.hpp"
#include "pleat/kernel/cpu.hpp"
#include "pleat/matrix/dense.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

#include <set>
#include <string>

namespace pleat::test {

using kernel::CpuFeatures;
using kernel::Level;

TEST_CASE("the choice for CPUs that are not here", "[dispatch]") {
  CpuFeatures cpu;
  CHECK(kernel::best_level(cpu) == Level::baseline);
  cpu.avx2 = true;  // without FMA the kernels of the level cannot run
  CHECK(kernel::best_level(cpu) == Level::baseline);
  cpu.fma = true;
  CHECK(kernel::best_level(cpu) == Level::baseline);
  cpu.f16c = true;
  CHECK(kernel::best_level(cpu) == Level::fma3_avx2);
  cpu.avx512f = cpu.avx512cd = cpu.avx512dq = true;  // such as the first Xeon Phi: no BW
  CHECK(kernel::best_level(cpu) == Level::fma3_avx2);
  cpu.avx512bw = true;
  CHECK(kernel::best_level(cpu) == Level::avx512);
  cpu.avx512vnni = true;  // which has vectors of 256 bits, too
  CHECK(kernel::best_level(cpu) == Level::avx512);
  cpu.avx512vl = true;
  CHECK(kernel::best_level(cpu) == Level::avx512_vnni);
  CHECK(kernel::can_run(Level::avx2_vnni_vl, cpu));
  CHECK_FALSE(kernel::can_run(Level::avx2_vnni, cpu));
  cpu.avx512bf16 = true;
  CHECK(kernel::best_level(cpu) == Level::avx512_vnni);
  cpu.avx512vbmi = true;
  CHECK(kernel::best_level(cpu) == Level::avx512_vnni_bf16);
  CpuFeatures client = cpu;  // with AVX-VNNI and no AVX-512
  client.avxvnni = true;
  client.avx512f = false;
  CHECK(kernel::best_level(client) == Level::avx2_vnni);
  cpu.avx2 = false;  // a hypervisor may hide any of them
  CHECK(kernel::best_level(cpu) == Level::baseline);
  CpuFeatures arm;
  arm.asimd_dot = true;
  CHECK(kernel::best_level(arm) == Level::baseline);
  arm.asimd_i8mm = true;
  CHECK(kernel::best_level(arm) == Level::neon64_dot_i8mm);
  const CpuFeatures all{true, true, true, true, true, true, true,
                        true, true, true, true, true, true, true};
  for (const Level level : kernel::all_levels) CHECK(kernel::can_run(level, all));
  for (const Level level : kernel::all_levels)
    CHECK(kernel::below(kernel::below(level)) == kernel::below(level));
}

TEST_CASE("the tables of this machine", "[dispatch]") {
  std::set<std::string> names;
  for (const auto* table : kernel::available<float>()) names.insert(table->arch);
  CHECK(names.size() == kernel::available<float>().count);
  CHECK(names.count(kernel::active<float>().arch) == 1);
  const auto tables = kernel::available<double>();
#ifndef __AVX2__  // else that of the compiler's flags is the least
  const std::string baseline = tables.first[tables.count - 1]->arch;
  CHECK((baseline == "sse2" || baseline == "neon64"));
#endif
  CHECK(tables.count == kernel::available<float>().count);
}

TEST_CASE("all tables compute the same product", "[dispatch]") {
  // Small integers: every order of summation is exact.
  Random random(51);
  const Matrix<float> W = random.integers<float>(45, 70, 9);
  const Matrix<float> X = random.integers<float>(70, 33, 9);
  const Dense<float> op(W);
  Matrix<float> Y(45, 33);
  op.apply(X, Y);
  CHECK(Y == Matrix<float>(W * X));
}

TEST_CASE("using the kernels", "[.][forced]") {
  Matrix<float> y(2, 1);
  const Matrix<float> x = Matrix<float>::Ones(3, 1);
  Dense<float>(Matrix<float>::Ones(2, 3)).apply(x, y);
}

}  // namespace pleat::test
