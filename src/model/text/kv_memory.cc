#include "model/text/kv_memory.h"

#include <cstring>

#include "tensor/bf16.h"

namespace carat {

Result<KvMemory> KvMemory::create(std::span<const TextModel::KvStoreShape> layout, Pages pages) {
  KvMemory kv;
  kv.page_tokens_ = pages.page_tokens;
  const auto values_of_half = [&](const TextModel::KvStoreShape& s) {
    return int64_t{s.num_kv_heads} * pages.page_tokens * s.head_dim;
  };
  for (const auto& shape : layout)
    (shape.kind == AttentionKind::kFull ? kv.full_ : kv.sliding_).page_bytes +=
        2 * values_of_half(shape) * static_cast<int64_t>(sizeof(Bf16));
  CARAT_TRY(kv.full_.memory, Buffer::allocate(kv.full_.page_bytes * pages.num_full));
  CARAT_TRY(kv.sliding_.memory, Buffer::allocate(kv.sliding_.page_bytes * pages.num_sliding));

  int64_t full_used = 0, sliding_used = 0;  // values of a page
  for (const auto& shape : layout) {
    const bool full = shape.kind == AttentionKind::kFull;
    const Pool& pool = full ? kv.full_ : kv.sliding_;
    int64_t& used = full ? full_used : sliding_used;
    const int64_t half = values_of_half(shape);
    kv.stores_.push_back({reinterpret_cast<uint16_t*>(pool.memory.data()) + used,
                          pool.page_bytes / static_cast<int64_t>(sizeof(Bf16)), half, shape.num_kv_heads,
                          shape.head_dim});
    used += 2 * half;
  }
  return kv;
}

void KvMemory::copy_page(AttentionKind kind, int32_t from, int32_t to) {
  const Pool& p = pool(kind);
  std::memcpy(p.memory.data() + to * p.page_bytes, p.memory.data() + from * p.page_bytes,
              static_cast<size_t>(p.page_bytes));
}

}  // namespace carat
