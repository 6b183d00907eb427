#include <algorithm>
#include <numeric>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/slices.h"

// Attention without a mask is paged attention in which every query stands at its sequence's last position. Keys and
// values are laid out as pages in scratch memory, which its kernels want anyway: the keys of a head side by side.

namespace carat::ops::cpu {

namespace {

constexpr int32_t kPageTokens = 64;

int64_t round_up(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

void bidirectional_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                             int head_dim, std::span<const int32_t> indptr) {
  const size_t num_tokens = static_cast<size_t>(q.dim(0)), num_sequences = indptr.size() - 1;
  if (num_tokens == 0) return;
  int32_t num_pages = 0;
  for (size_t b = 0; b < num_sequences; ++b) num_pages += (indptr[b + 1] - indptr[b] + kPageTokens - 1) / kPageTokens;
  const int64_t width = q.last_dim();
  KvStore store{.data = nullptr,
                .page_stride = 2 * kPageTokens * width,
                .v_offset = kPageTokens * width,
                .num_kv_heads = static_cast<int>(width / head_dim),
                .head_dim = head_dim};

  const int64_t kv_bytes = round_up(num_pages * store.page_stride * 2), table_bytes = round_up(num_pages * int64_t{4}),
                pointer_bytes = round_up(static_cast<int64_t>(num_sequences * sizeof(int32_t*))),
                position_bytes = static_cast<int64_t>(num_tokens * sizeof(int32_t));
  std::byte* memory = thread_scratch(Scratch::kPages, kv_bytes + table_bytes + pointer_bytes + position_bytes);
  store.data = reinterpret_cast<uint16_t*>(memory);
  int32_t* const pages = reinterpret_cast<int32_t*>(memory += kv_bytes);
  const int32_t** const tables = reinterpret_cast<const int32_t**>(memory += table_bytes);
  const std::span<int32_t> positions(reinterpret_cast<int32_t*>(memory += pointer_bytes), num_tokens);
  const auto rows_of = [&](size_t b) {
    return positions.subspan(static_cast<size_t>(indptr[b]), static_cast<size_t>(indptr[b + 1] - indptr[b]));
  };

  std::iota(pages, pages + num_pages, 0);
  const int32_t* table = pages;
  for (size_t b = 0; b < num_sequences; ++b) {
    tables[b] = table;
    table += (static_cast<int32_t>(rows_of(b).size()) + kPageTokens - 1) / kPageTokens;
    std::iota(rows_of(b).begin(), rows_of(b).end(), 0);
  }
  const AttentionBatch batch{indptr, positions, {tables, num_sequences}, kPageTokens};
  cpu::kv_write(ctx, store, k, v, batch);
  for (size_t b = 0; b < num_sequences; ++b) std::ranges::fill(rows_of(b), static_cast<int32_t>(rows_of(b).size()) - 1);
  cpu::attention(ctx, o, q, store, batch, 0);
}

}  // namespace carat::ops::cpu
