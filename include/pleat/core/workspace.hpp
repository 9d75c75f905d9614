// SPDX-License-Identifier: MIT
// Scratch memory and an executor: what an apply needs besides the operator, and the caller owns.
#pragma once

#include "pleat/core/error.hpp"
#include "pleat/core/threads.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

namespace pleat {
inline namespace PLEAT_ABI {

namespace detail {
/// What a greedy one-argument constructor of `Self` may take: anything but another `Self`.
template <class T, class Self>
concept OtherThan = !std::same_as<std::remove_cvref_t<T>, Self>;
}  // namespace detail

/// Ask for OpenMP threads: `Workspace(OpenMP{2})`. Serial where the code is compiled without
/// OpenMP.
struct OpenMP {
  int threads = 1;
};

/// A reference to the body of a parallel loop: what an executor receives, and calls once for each
/// index below its `n_tasks`, in any order, from any thread. Two words; copying it is free.
class Task {
 public:
  template <detail::OtherThan<Task> Body>
  explicit Task(Body& body) noexcept
      : body_(&body), call_([](void* b, Index i) { (*static_cast<Body*>(b))(i); }) {}

  void operator()(Index index) const { call_(body_, index); }

 private:
  void* body_;
  void (*call_)(void*, Index);
};

/// What a workspace can run its tasks on: a callable `executor(n_tasks, f)`, which it keeps a copy
/// of.
template <class T>
concept Executor = std::invocable<T&, int, Task> && std::copy_constructible<T>;

/// Scratch memory and an executor. Not safe to share between threads: one workspace per thread of
/// the caller's. Memory grows in the first call with a shape and batch, and is reused ever after,
/// so a warm `apply` allocates nothing.
///
/// The executor runs `f(0) ... f(n_tasks - 1)` and returns when all are done. How the work is cut
/// never changes a result: every output is summed by one task, in one order.
class Workspace {
 public:
  /// Serial.
  Workspace() = default;

  /// OpenMP with so many threads; throws `std::invalid_argument` if fewer than 1.
  explicit Workspace(OpenMP openmp) : tasks_(openmp.threads), kind_(Kind::openmp) {
    detail::require(openmp.threads >= 1, [&] {
      return "Workspace: OpenMP needs at least 1 thread, not " + std::to_string(openmp.threads);
    });
  }

  /// The caller's own: any callable `executor(n_tasks, f)`. `max_tasks` is the largest `n_tasks` it
  /// will be handed; the number of its threads, or a small multiple, is right. Throws
  /// `std::invalid_argument` if that is less than 1, or for an empty `std::function`.
  template <detail::OtherThan<Workspace> E>
  requires Executor<E>
  explicit Workspace(E executor, int max_tasks = 8)
      : executor_(std::move(executor)), tasks_(max_tasks), kind_(Kind::custom) {
    detail::require(max_tasks >= 1, [&] {
      return "Workspace: max_tasks must be at least 1, not " + std::to_string(max_tasks);
    });
    detail::require(static_cast<bool>(executor_),
                    [] { return std::string("Workspace: the executor is an empty function"); });
  }

  // What was moved from is a serial workspace without memory.
  Workspace(Workspace&& other) noexcept { swap(other); }
  Workspace& operator=(Workspace&& other) noexcept {
    Workspace taken(std::move(other));
    swap(taken);
    return *this;
  }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  ~Workspace() = default;

  /// The largest number of tasks that a loop should be cut into.
  [[nodiscard]] int max_tasks() const noexcept {
    return kind_ == Kind::process_default ? num_threads() : tasks_;
  }

  /// Runs `body(0) ... body(tasks - 1)` and returns when all are done.
  template <class Body>
  void run(int tasks, Body&& body) {
    if (tasks == 1) {
      body(Index{0});
      return;
    }
    if (kind_ == Kind::custom) {
      executor_(tasks, Task(body));
      return;
    }
#ifdef _OPENMP
#pragma omp parallel for num_threads(max_tasks()) schedule(static, 1)
#endif
    for (int i = 0; i < tasks; ++i) body(Index{i});
  }

  /// Bytes of scratch memory held.
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const Block& block : blocks_) sum += block.size;
    return sum;
  }

  class Frame;

 private:
  enum class Kind : unsigned char { serial, openmp, custom, process_default };
  static constexpr std::size_t alignment = 64;

  struct Free {
    void operator()(std::byte* p) const noexcept {
      ::operator delete[](p, std::align_val_t{alignment});
    }
  };
  struct Block {
    std::unique_ptr<std::byte[], Free> memory = {};
    std::size_t size = 0;
  };

  explicit Workspace(Kind kind) : kind_(kind) {}
  friend Workspace& thread_workspace();
  [[gnu::cold]] static Workspace& start_of_thread();

  void swap(Workspace& other) noexcept {
    executor_.swap(other.executor_);
    std::swap(tasks_, other.tasks_);
    std::swap(kind_, other.kind_);
    std::swap(depth_, other.depth_);
    std::swap(used_, other.used_);
    blocks_.swap(other.blocks_);
  }

  void add_block(std::size_t size) {
    blocks_.push_back({std::unique_ptr<std::byte[], Free>(static_cast<std::byte*>(
                           ::operator new[](size, std::align_val_t{alignment}))),
                       size});
  }

  std::function<void(int, Task)> executor_ = {};
  int tasks_ = 1;
  Kind kind_ = Kind::serial;
  int depth_ = 0;
  std::size_t used_ = 0;            // bytes in use of the last block
  std::vector<Block> blocks_ = {};  // more than one only until the outermost frame ends
};

namespace detail {

/// Where the workspace of a thread is, while it is; without a destructor, so that it can be asked
/// at any time.
struct ThreadWorkspace {
  Workspace* current = nullptr;
  bool ended = false;
};
inline constinit thread_local ThreadWorkspace thread_workspace_state;

}  // namespace detail

/// The workspace of the calling thread, as the calls without one use it; its executor follows
/// `set_num_threads`. It lives until the thread ends. What is called later still, from destructors
/// of static objects, gets one that is never destroyed.
inline Workspace& thread_workspace() {
  Workspace* const current = detail::thread_workspace_state.current;
  if (current != nullptr) [[likely]]
    return *current;
  return Workspace::start_of_thread();
}

/// A stack frame of scratch memory: what it hands out lives until it ends. Frames nest like calls.
class Workspace::Frame {
 public:
  explicit Frame(Workspace& workspace)
      : workspace_(workspace), blocks_(workspace.blocks_.size()), used_(workspace.used_) {
    ++workspace_.depth_;
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  ~Frame() {
    Workspace& w = workspace_;
    if (--w.depth_ > 0) {
      // A block that this frame added stays to the end of the outermost frame; what is left of the
      // block that was in use before is given up until then.
      if (w.blocks_.size() == blocks_) w.used_ = used_;
      else w.used_ = 0;
      return;
    }
    w.used_ = 0;
    if (w.blocks_.size() <= 1) return;
    // One block of the whole size serves the next call without a further allocation. Out of memory
    // here is no error: the first block remains, and the next call adds to it again.
    const std::size_t total = w.bytes();
    try {
      w.add_block(total);
    } catch (const std::bad_alloc&) {
      w.blocks_.resize(1);
      return;
    }
    w.blocks_.erase(w.blocks_.begin(), w.blocks_.end() - 1);
  }

  /// Uninitialised memory for `count` values, aligned to 64 bytes.
  template <class T>
  [[nodiscard]] T* allocate(Index count) {
    static_assert(std::is_trivially_copyable_v<T>);
    Workspace& w = workspace_;
    const std::size_t size =
        (static_cast<std::size_t>(count) * sizeof(T) + alignment - 1) / alignment * alignment;
    if (w.blocks_.empty() || w.used_ + size > w.blocks_.back().size) {
      w.add_block(std::max<std::size_t>(size, 4096));
      w.used_ = 0;
    }
    std::byte* p = w.blocks_.back().memory.get() + w.used_;
    w.used_ += size;
    return reinterpret_cast<T*>(p);
  }

 private:
  Workspace& workspace_;
  std::size_t blocks_;
  std::size_t used_;
};

inline Workspace& Workspace::start_of_thread() {
  detail::ThreadWorkspace& state = detail::thread_workspace_state;
  if (state.ended) {
    state.current = new Workspace(Kind::process_default);
    return *state.current;
  }
  struct Owner {
    Workspace workspace{Kind::process_default};
    Owner() = default;
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
    ~Owner() { detail::thread_workspace_state = {nullptr, true}; }
  };
  thread_local Owner owner;
  state.current = &owner.workspace;
  return owner.workspace;
}

}  // namespace PLEAT_ABI
}  // namespace pleat
