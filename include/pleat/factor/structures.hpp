// SPDX-License-Identifier: MIT
// The list of all structures, by which files are loaded and the conformance suite runs.
#pragma once

#include "pleat/factor/armor.hpp"
#include "pleat/factor/blast.hpp"
#include "pleat/factor/block_dictionary.hpp"
#include "pleat/factor/cur.hpp"
#include "pleat/factor/kronecker.hpp"
#include "pleat/factor/low_rank.hpp"
#include "pleat/factor/monarch.hpp"
#include "pleat/factor/sparse_dictionary.hpp"
#include "pleat/factor/sparse_low_rank.hpp"
#include "pleat/matrix/block_sparse.hpp"
#include "pleat/matrix/csr.hpp"
#include "pleat/matrix/dense.hpp"
#include "pleat/matrix/diagonal.hpp"
#include "pleat/matrix/hadamard.hpp"
#include "pleat/matrix/kronecker_sparse.hpp"
#include "pleat/matrix/permutation.hpp"
#include "pleat/matrix/row_sparse.hpp"
#include "pleat/matrix/semi_structured.hpp"

namespace pleat {
inline namespace PLEAT_ABI {

template <class... Ops>
struct TypeList {};

/// Every operator type with a name in files. A new structure is added here.
template <Real T>
using Structures = TypeList<Armor<T>, Blast<T>, BlockDictionary<T>, BlockSparse<T>, Csr<T>, Cur<T>,
                            Dense<T>, Diagonal<T>, Hadamard<T>, Kronecker<T>, KroneckerSparse<T>,
                            LowRank<T>, Monarch<T>, Permutation<T>, RowSparse<T>, SemiStructured<T>,
                            SparseDictionary<T>, SparseLowRank<T>>;

}  // namespace PLEAT_ABI
}  // namespace pleat
