// A decode step that was seen before allocates nothing: counted at operator new and in the scratch memory of threads.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "base/worker_pool.h"
#include "ops/cpu/slices.h"
#include "ops/ops.h"

namespace {
std::atomic<int64_t> num_allocations{0};
}

// Sanitizers bring their own; with them, only scratch memory is counted.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
[[gnu::noinline]] void* operator new(size_t size) {
  ++num_allocations;
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }
#endif

namespace carat::ops {
namespace {

/// A thread's scratch grows when it first takes a piece of an op, and nobody knows when that is. So: soon there are
/// many steps in a row without an allocation.
template <class Fn>
void expect_quiet(Fn&& step) {
  constexpr int kQuiet = 50;
  int quiet = 0;
  for (int i = 0; i < 100 * kQuiet && quiet < kQuiet; ++i) {
    const int64_t before = num_allocations + cpu::num_scratch_allocations();
    step();
    quiet = num_allocations + cpu::num_scratch_allocations() == before ? quiet + 1 : 0;
  }
  EXPECT_EQ(quiet, kQuiet);
}

TEST(Allocation, ADecodeStepAllocatesNothingOnceItWasSeen) {
  constexpr int64_t kTokens = 3, kHidden = 128, kHeads = 4, kDim = 32, kExperts = 8, kWidth = 64, kPages = 20;
  WorkerPool pool(2);
  Context ctx{Backend::kCpu, &pool};
  std::vector<uint16_t> memory(1 << 20, 0x3c00), kv(kPages * 2 * 64 * kDim, 0x3c00);
  std::vector<float> logits(kTokens * kHidden), inv_freq(kDim / 2, 0.5f), weights(kTokens * 2);
  const auto view = [&](int64_t begin, int64_t rows, int64_t cols) {
    return TensorView(memory.data() + begin, DType::kBf16, {rows, cols});
  };
  const TensorView x = view(0, kTokens, kHidden), y = view(1 << 12, kTokens, kHidden), w = view(1 << 14, 128, kHidden);
  const TensorView gate_up(memory.data() + (1 << 16), DType::kBf16, {kExperts, 2 * kWidth, kHidden});
  const TensorView down(memory.data() + (1 << 18), DType::kBf16, {kExperts, kHidden, kWidth});
  const KvStore store{kv.data(), 2 * 64 * kDim, 64 * kDim, 1, kDim};
  std::vector<int32_t> table(kPages), indptr{0, 1, 2, 3}, positions{1200, 5, 700}, expert_ids(kTokens * 2);
  for (int32_t i = 0; i < kPages; ++i) table[static_cast<size_t>(i)] = i;
  const std::vector<const int32_t*> tables(3, table.data());
  const std::vector<TokenId> ids{1, 2, 3};
  const AttentionBatch batch{indptr, positions, tables, 64};
  const auto step = [&] {
    embed(ctx, x, w, ids, 2.0f);
    rms_norm(ctx, y, x, TensorView(), 1e-6f);
    linear(ctx, y, x, w);
    add(ctx, y, y, x);
    gelu_mul(ctx, y, y, x);
    rope(ctx, x, kDim, positions, inv_freq);
    kv_write(ctx, store, view(0, kTokens, kDim), view(0, kTokens, kDim), batch);
    attention(ctx, TensorView(y.data, DType::kBf16, {kTokens, kHeads * kDim}), x, store, batch, 0);
    attention(ctx, TensorView(y.data, DType::kBf16, {kTokens, kHeads * kDim}), x, store, batch, 512);
    route(ctx, expert_ids, weights, view(0, kTokens, kExperts), TensorView(memory.data(), DType::kBf16, {kExperts}), 2);
    experts(ctx, y, x, gate_up, down, expert_ids, weights, 2);
    softcap(ctx, TensorView(logits.data(), DType::kF32, {kTokens, kHidden}), y, 30.0f);
  };
  expect_quiet(step);
}

TEST(Allocation, NeitherDoesATower) {
  constexpr int64_t kPatches = 36, kWidth = 144;
  WorkerPool pool(2);
  Context ctx{Backend::kCpu, &pool};
  std::vector<uint16_t> memory(6 * kPatches * kWidth, 0x3c00);
  std::vector<float> sums(kPatches * kWidth), inv_freq(18, 0.5f);
  std::vector<int32_t> places(kPatches, 3), indptr{0, 20, 36};
  std::vector<uint8_t> bytes(kPatches * kWidth, 7);
  const auto view = [&](int64_t i) {
    return TensorView(memory.data() + i * kPatches * kWidth, DType::kBf16, {kPatches, kWidth});
  };
  const TensorView vector(memory.data(), DType::kBf16, {kWidth}), table(memory.data(), DType::kBf16, {256});
  expect_quiet([&] {
    lookup_bytes(ctx, view(1), ConstTensorView(bytes.data(), DType::kU8, {kPatches, kWidth}), table);
    clamp(ctx, view(1), view(1), -1, 1);
    layer_norm(ctx, view(2), view(1), vector, vector, 1e-5f);
    rope_2d(ctx, view(2), 72, places, places, inv_freq);
    bidirectional_attention(ctx, view(3), view(2), view(2), view(1), 72, indptr);
    add_bias(ctx, view(4), TensorView(sums.data(), DType::kF32, {kPatches, kWidth}), vector);
    pool_patches(ctx, TensorView(memory.data(), DType::kBf16, {4, kWidth}), view(4), 6, 3, 12.0f, vector, vector);
    silu(ctx, view(1), view(2));
    glu(ctx, TensorView(memory.data(), DType::kBf16, {kPatches, kWidth / 2}), view(1));
    unfold_3x3(ctx, TensorView(view(3).data, DType::kBf16, {9, 9 * kWidth}),
               ConstTensorView(view(1).data, DType::kBf16, {6, 6, kWidth}), 0);
    causal_conv(ctx, view(2), view(1), TensorView(memory.data(), DType::kBf16, {5, kWidth}));
    relative_attention(ctx, view(3), view(2), view(2), view(1), TensorView(memory.data(), DType::kBf16, {12, kWidth}),
                       {1, 1, 50, std::span(sums).first(72)});
  });
}

}  // namespace
}  // namespace carat::ops
