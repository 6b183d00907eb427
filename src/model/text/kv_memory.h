#pragma once
// The memory behind K/V pages: one buffer per kind of layer. Which page belongs to whom is decided elsewhere (kv/).

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/text/text_model.h"
#include "ops/paged_kv.h"
#include "tensor/tensor.h"

namespace carat {

/// Pages of both pools, [page][store][K|V][kv head][token][dim] in bf16. Move-only.
class KvMemory {
 public:
  struct Pages {
    int num_full = 0, num_sliding = 0, page_tokens = 64;
  };
  /// Errors: kOverloaded if the memory is not there.
  static Result<KvMemory> create(std::span<const TextModel::KvStoreShape> layout, Pages pages);

  ops::PagedKv view() const { return {page_tokens_, stores_}; }
  int64_t page_bytes(AttentionKind kind) const { return pool(kind).page_bytes; }
  void copy_page(AttentionKind kind, int32_t from, int32_t to);

 private:
  struct Pool {
    Buffer memory;
    int64_t page_bytes = 0;
  };
  const Pool& pool(AttentionKind kind) const { return kind == AttentionKind::kFull ? full_ : sliding_; }

  Pool full_, sliding_;
  int page_tokens_ = 64;
  std::vector<ops::KvStore> stores_;
};

}  // namespace carat
