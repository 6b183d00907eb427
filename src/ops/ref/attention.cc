#include <algorithm>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

namespace {

/// The key of `head` at `position` of the sequence whose pages are `table`; its value lies v_offset further on.
Bf16* key_at(const KvStore& store, const int32_t* table, int page_tokens, int head, int32_t position) {
  const int64_t page = table[position / page_tokens], token = position % page_tokens;
  return reinterpret_cast<Bf16*>(store.data) + page * store.page_stride +
         (head * int64_t{page_tokens} + token) * store.head_dim;
}

}  // namespace

void kv_write(Context&, const KvStore& store, ConstTensorView k, ConstTensorView v, const AttentionBatch& batch) {
  const size_t d = static_cast<size_t>(store.head_dim);
  for (size_t b = 0; b < batch.tables.size(); ++b) {
    for (int32_t t = batch.indptr[b]; t < batch.indptr[b + 1]; ++t) {
      for (int head = 0; head < store.num_kv_heads; ++head) {
        Bf16* key = key_at(store, batch.tables[b], batch.page_tokens, head, batch.positions[static_cast<size_t>(t)]);
        std::ranges::copy(row(k, t).subspan(static_cast<size_t>(head) * d, d), key);
        std::ranges::copy(row(v, t).subspan(static_cast<size_t>(head) * d, d), key + store.v_offset);
      }
    }
  }
}

void attention(Context&, TensorView o, ConstTensorView q, const KvStore& store, const AttentionBatch& batch,
               int window) {
  const size_t d = static_cast<size_t>(store.head_dim);
  const int num_heads = static_cast<int>(q.last_dim() / store.head_dim), group = num_heads / store.num_kv_heads;
  std::vector<float> scores;
  std::vector<double> sums(d);
  for (size_t b = 0; b < batch.tables.size(); ++b) {
    for (int32_t t = batch.indptr[b]; t < batch.indptr[b + 1]; ++t) {
      const int32_t last = batch.last_key(t);
      const int32_t first = window > 0 ? std::max(0, batch.positions[static_cast<size_t>(t)] - window + 1) : 0;
      for (int head = 0; head < num_heads; ++head) {
        const auto query = row(q, t).subspan(static_cast<size_t>(head) * d, d);
        const auto key = [&](int32_t position) {
          return std::span<const Bf16>(key_at(store, batch.tables[b], batch.page_tokens, head / group, position), d);
        };
        scores.clear();
        for (int32_t p = first; p <= last; ++p) scores.push_back(dot(query, key(p)));
        const float highest = *std::ranges::max_element(scores);
        double total = 0;
        std::ranges::fill(sums, 0.0);
        for (int32_t p = first; p <= last; ++p) {
          const double weight = std::exp(static_cast<double>(scores[static_cast<size_t>(p - first)] - highest));
          total += weight;
          const Bf16* value = key(p).data() + store.v_offset;
          for (size_t i = 0; i < d; ++i) sums[i] += weight * static_cast<double>(f32(value[i]));
        }
        const auto out = row(o, t).subspan(static_cast<size_t>(head) * d, d);
        for (size_t i = 0; i < d; ++i) out[i] = Bf16(static_cast<float>(sums[i] / total));
      }
    }
  }
}

void bidirectional_attention(Context&, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                             int head_dim, std::span<const int32_t> indptr) {
  const size_t d = static_cast<size_t>(head_dim);
  std::vector<float> scores;
  std::vector<double> sums(d);
  for (size_t b = 0; b + 1 < indptr.size(); ++b) {
    for (int32_t t = indptr[b]; t < indptr[b + 1]; ++t) {
      for (size_t head = 0; head < row(q, t).size(); head += d) {
        scores.clear();
        for (int32_t s = indptr[b]; s < indptr[b + 1]; ++s)
          scores.push_back(dot(row(q, t).subspan(head, d), row(k, s).subspan(head, d)));
        const float highest = *std::ranges::max_element(scores);
        double total = 0;
        std::ranges::fill(sums, 0.0);
        for (int32_t s = indptr[b]; s < indptr[b + 1]; ++s) {
          const double weight = std::exp(static_cast<double>(scores[static_cast<size_t>(s - indptr[b])] - highest));
          total += weight;
          for (size_t i = 0; i < d; ++i) sums[i] += weight * static_cast<double>(f32(row(v, s)[head + i]));
        }
        for (size_t i = 0; i < d; ++i) row(o, t)[head + i] = Bf16(static_cast<float>(sums[i] / total));
      }
    }
  }
}

}  // namespace carat::ops::ref
