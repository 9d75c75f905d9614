// SPDX-License-Identifier: MIT
// Everything, for the first try; real code includes the rooms it needs.
#pragma once

#include "pleat/compress/budget.hpp"
#include "pleat/compress/calibration.hpp"
#include "pleat/compress/compress.hpp"
#include "pleat/compress/dense.hpp"
#include "pleat/compress/error.hpp"
#include "pleat/compress/low_rank.hpp"
#include "pleat/core/any_operator.hpp"
#include "pleat/core/compose.hpp"
#include "pleat/core/version.hpp"
#include "pleat/factor/structures.hpp"
#include "pleat/io/npy.hpp"
#include "pleat/io/operator_file.hpp"
#include "pleat/io/safetensors.hpp"
#include "pleat/kernel/cpu.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/diagonal.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/permutation.hpp"
#include "pleat/matrix/row_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"
