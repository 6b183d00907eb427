#pragma once
// How ops of the CPU backend use threads and temporary memory.

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/worker_pool.h"
#include "ops/context.h"

namespace carat::ops::cpu {

/// Calls fn(begin, end) over pieces of [0, n) that begin at multiples of `grain`, on the pool if there is one.
/// Allocates nothing.
template <class Fn>
void parallel_for(Context& ctx, int64_t n, int64_t grain, Fn&& fn) {
  if (n <= 0) return;
  if (!ctx.pool || n <= grain) return fn(int64_t{0}, n);
  const auto piece = [&fn](int64_t begin, int64_t end, int) { fn(begin, end); };
  ctx.pool->parallel_for(n, grain, std::ref(piece));  // by reference, so that std::function need not copy it
}

/// The same for rows of `row_elements` elements each that are cheap to compute: small ones stay on this thread.
template <class Fn>
void parallel_rows(Context& ctx, int64_t rows, int64_t row_elements, Fn&& fn) {
  constexpr int64_t kWorthAThread = 1 << 14;
  parallel_for(ctx, rows, 1 + kWorthAThread / (row_elements + 1), fn);
}

inline int num_threads(const Context& ctx) { return ctx.pool ? ctx.pool->num_threads() : 1; }

/// Who uses a piece of scratch memory: pieces with different names can be in use at once.
enum class Scratch {
  kPackedInput,
  kLinear,
  kJobs,
  kExperts,
  kAttention,
  kAttentionSpans,
  kRope,
  kPool,
  kPages,
  kPaddedHeads,
  kAudio,
  kCount
};

/// At least `size_bytes` of this thread's memory, 64-byte aligned, contents undefined; valid until the next call with
/// the same name on this thread. Grows at first use and lives as long as the thread.
std::byte* thread_scratch(Scratch name, int64_t size_bytes);
/// How often scratch memory grew, in all threads.
int64_t num_scratch_allocations();

}  // namespace carat::ops::cpu
