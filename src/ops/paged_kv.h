#pragma once
// K/V memory in pages. One page of a pool holds `page_tokens` tokens for all stores (layers that own K/V) of that
// pool's kind.

#include <cstdint>
#include <span>

namespace carat::ops {

/// One layer's K and V inside the pool of its kind; bf16. The key of head h and token t (0 <= t < page_tokens) of page
/// p lies at
///   data + p * page_stride + (h * page_tokens + t) * head_dim        (elements)
/// and its value v_offset elements later: [page][store][K|V][kv head][token][dim].
struct KvStore {
  uint16_t* data = nullptr;  ///< bf16 bits, already offset to this store inside page 0
  int64_t page_stride = 0;
  int64_t v_offset = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
};

struct PagedKv {
  int page_tokens = 64;
  std::span<const KvStore> stores;  ///< in the order of TextModel::kv_layout()
};

}  // namespace carat::ops
