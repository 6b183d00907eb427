#include "ops/ops.h"

#include "base/str.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/ref/ref_ops.h"
#include "tensor/bf16.h"

// Checks of shapes, then the choice of the backend. Nothing is computed here.

namespace carat::ops {

namespace {

void check_dtype(const ConstTensorView& view, DType dtype, const char* what) {
  CARAT_CHECK(view.dtype == dtype, str_cat(what, " is ", to_string(view.dtype), ", expected ", to_string(dtype)));
}

void check_shape(const ConstTensorView& view, const Shape& shape, const char* what) {
  CARAT_CHECK(view.shape == shape, str_cat(what, " is ", view.shape.to_string(), ", expected ", shape.to_string()));
}

void check_bf16(const ConstTensorView& view, const Shape& shape, const char* what) {
  check_dtype(view, DType::kBf16, what);
  check_shape(view, shape, what);
}

void check_batch(const KvStore& store, const AttentionBatch& batch, int64_t num_tokens) {
  CARAT_CHECK(store.data && store.num_kv_heads > 0 && store.head_dim > 0, "the K/V store is not set");
  CARAT_CHECK(batch.page_tokens > 0, "pages hold tokens");
  CARAT_CHECK_EQ(batch.indptr.size(), batch.tables.size() + 1);
  CARAT_CHECK_EQ(static_cast<int64_t>(batch.positions.size()), num_tokens);
  CARAT_CHECK_EQ(batch.indptr.front(), 0);
  CARAT_CHECK_EQ(static_cast<int64_t>(batch.indptr.back()), num_tokens);
  CARAT_CHECK(batch.last_keys.empty() || batch.last_keys.size() == batch.positions.size(), "last keys are per token");
  for (size_t t = 0; t < batch.last_keys.size(); ++t)
    CARAT_CHECK(batch.last_keys[t] >= batch.positions[t], "a token sees itself");
}

}  // namespace

void linear(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  CARAT_CHECK_EQ(w.shape.rank(), 2);
  check_bf16(x, {x.dim(0), w.dim(1)}, "linear x");
  check_dtype(w, DType::kBf16, "linear w");
  check_shape(y, {x.dim(0), w.dim(0)}, "linear y");
  CARAT_CHECK(y.dtype == DType::kBf16 || y.dtype == DType::kF32, "linear y is bf16 or f32");
  if (ctx.backend == Backend::kRef) return ref::linear(ctx, y, x, w);
  cpu::linear(ctx, y, x, w);
}

void rms_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, float eps) {
  check_bf16(x, x.shape, "rms_norm x");
  check_bf16(y, x.shape, "rms_norm y");
  if (w) check_bf16(w, {x.last_dim()}, "rms_norm w");
  if (ctx.backend == Backend::kRef) return ref::rms_norm(ctx, y, x, w, eps);
  cpu::rms_norm(ctx, y, x, w, eps);
}

void add(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b) {
  check_bf16(a, a.shape, "add a");
  check_bf16(b, a.shape, "add b");
  check_bf16(y, a.shape, "add y");
  if (ctx.backend == Backend::kRef) return ref::add(ctx, y, a, b);
  cpu::add(ctx, y, a, b);
}

void mul(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b) {
  check_bf16(a, a.shape, "mul a");
  check_bf16(b, b.shape.rank() == 1 ? Shape{a.last_dim()} : a.shape, "mul b");
  check_bf16(y, a.shape, "mul y");
  if (ctx.backend == Backend::kRef) return ref::mul(ctx, y, a, b);
  cpu::mul(ctx, y, a, b);
}

void scale(Context& ctx, TensorView y, ConstTensorView x, float s) {
  check_bf16(x, x.shape, "scale x");
  check_bf16(y, x.shape, "scale y");
  if (ctx.backend == Backend::kRef) return ref::scale(ctx, y, x, s);
  cpu::scale(ctx, y, x, s);
}

void clamp(Context& ctx, TensorView y, ConstTensorView x, float lowest, float highest) {
  check_bf16(x, x.shape, "clamp x");
  check_bf16(y, x.shape, "clamp y");
  CARAT_CHECK(lowest <= highest, "clamp: the lowest value is not above the highest");
  CARAT_CHECK(round_to_bf16(lowest) == lowest && round_to_bf16(highest) == highest, "clamp: bounds are bf16 numbers");
  if (ctx.backend == Backend::kRef) return ref::clamp(ctx, y, x, lowest, highest);
  cpu::clamp(ctx, y, x, lowest, highest);
}

void add_bias(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView b) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  check_dtype(x, DType::kF32, "add_bias x");
  check_bf16(b, {x.dim(1)}, "add_bias b");
  check_bf16(y, x.shape, "add_bias y");
  if (ctx.backend == Backend::kRef) return ref::add_bias(ctx, y, x, b);
  cpu::add_bias(ctx, y, x, b);
}

void layer_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, ConstTensorView b, float eps) {
  check_bf16(x, x.shape, "layer_norm x");
  check_bf16(y, x.shape, "layer_norm y");
  check_bf16(w, {x.last_dim()}, "layer_norm w");
  if (b) check_bf16(b, {x.last_dim()}, "layer_norm b");
  if (ctx.backend == Backend::kRef) return ref::layer_norm(ctx, y, x, w, b, eps);
  cpu::layer_norm(ctx, y, x, w, b, eps);
}

void gelu_mul(Context& ctx, TensorView y, ConstTensorView gate, ConstTensorView up) {
  check_bf16(gate, gate.shape, "gelu_mul gate");
  check_bf16(up, gate.shape, "gelu_mul up");
  check_bf16(y, gate.shape, "gelu_mul y");
  if (ctx.backend == Backend::kRef) return ref::gelu_mul(ctx, y, gate, up);
  cpu::gelu_mul(ctx, y, gate, up);
}

void embed(Context& ctx, TensorView y, ConstTensorView table, std::span<const TokenId> ids, float s) {
  CARAT_CHECK_EQ(table.shape.rank(), 2);
  check_dtype(table, DType::kBf16, "embed table");
  check_bf16(y, {static_cast<int64_t>(ids.size()), table.dim(1)}, "embed y");
  for (const TokenId id : ids)
    CARAT_CHECK(id >= 0 && id < table.dim(0), str_cat("token id ", id, " is not in the table"));
  if (ctx.backend == Backend::kRef) return ref::embed(ctx, y, table, ids, s);
  cpu::embed(ctx, y, table, ids, s);
}

void rope(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> positions,
          std::span<const float> inv_freq) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  check_bf16(x, {static_cast<int64_t>(positions.size()), x.last_dim()}, "rope x");
  CARAT_CHECK(head_dim > 0 && head_dim % 2 == 0 && x.last_dim() % head_dim == 0, "rope x is made of whole heads");
  CARAT_CHECK(inv_freq.size() <= static_cast<size_t>(head_dim / 2), "rope rotates at most head_dim / 2 pairs");
  if (ctx.backend == Backend::kRef) return ref::rope(ctx, x, head_dim, positions, inv_freq);
  cpu::rope(ctx, x, head_dim, positions, inv_freq);
}

void rope_2d(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> columns, std::span<const int32_t> rows,
             std::span<const float> inv_freq) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  check_bf16(x, {static_cast<int64_t>(columns.size()), x.last_dim()}, "rope_2d x");
  CARAT_CHECK_EQ(columns.size(), rows.size());
  CARAT_CHECK(head_dim > 0 && head_dim % 4 == 0 && x.last_dim() % head_dim == 0, "rope_2d x is made of whole heads");
  CARAT_CHECK_EQ(inv_freq.size(), static_cast<size_t>(head_dim / 4));
  if (ctx.backend == Backend::kRef) return ref::rope_2d(ctx, x, head_dim, columns, rows, inv_freq);
  cpu::rope_2d(ctx, x, head_dim, columns, rows, inv_freq);
}

void lookup_bytes(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView table) {
  check_dtype(x, DType::kU8, "lookup_bytes x");
  check_bf16(y, x.shape, "lookup_bytes y");
  check_bf16(table, {256}, "lookup_bytes table");
  if (ctx.backend == Backend::kRef) return ref::lookup_bytes(ctx, y, x, table);
  cpu::lookup_bytes(ctx, y, x, table);
}

void pool_patches(Context& ctx, TensorView y, ConstTensorView x, int grid_width, int k, float s, ConstTensorView bias,
                  ConstTensorView factor) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  check_bf16(x, x.shape, "pool_patches x");
  CARAT_CHECK(k > 0 && grid_width > 0 && grid_width % k == 0 && x.dim(0) % (int64_t{k} * grid_width) == 0,
              "pool_patches: the grid is made of whole groups");
  check_bf16(y, {x.dim(0) / (k * k), x.dim(1)}, "pool_patches y");
  CARAT_CHECK_EQ(static_cast<bool>(bias), static_cast<bool>(factor));
  if (bias) check_bf16(bias, {x.dim(1)}, "pool_patches bias");
  if (factor) check_bf16(factor, {x.dim(1)}, "pool_patches factor");
  if (ctx.backend == Backend::kRef) return ref::pool_patches(ctx, y, x, grid_width, k, s, bias, factor);
  cpu::pool_patches(ctx, y, x, grid_width, k, s, bias, factor);
}

void bidirectional_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                             int head_dim, std::span<const int32_t> indptr) {
  CARAT_CHECK_EQ(q.shape.rank(), 2);
  check_bf16(q, q.shape, "bidirectional_attention q");
  check_bf16(k, q.shape, "bidirectional_attention k");
  check_bf16(v, q.shape, "bidirectional_attention v");
  check_bf16(o, q.shape, "bidirectional_attention o");
  CARAT_CHECK(head_dim > 0 && q.last_dim() % head_dim == 0, "bidirectional_attention q is made of whole heads");
  CARAT_CHECK(!indptr.empty(), "bidirectional_attention: indptr has one element more than there are sequences");
  CARAT_CHECK_EQ(indptr.front(), 0);
  CARAT_CHECK_EQ(static_cast<int64_t>(indptr.back()), q.dim(0));
  if (ctx.backend == Backend::kRef) return ref::bidirectional_attention(ctx, o, q, k, v, head_dim, indptr);
  cpu::bidirectional_attention(ctx, o, q, k, v, head_dim, indptr);
}

void silu(Context& ctx, TensorView y, ConstTensorView x) {
  check_bf16(x, x.shape, "silu x");
  check_bf16(y, x.shape, "silu y");
  if (ctx.backend == Backend::kRef) return ref::silu(ctx, y, x);
  cpu::silu(ctx, y, x);
}

void glu(Context& ctx, TensorView y, ConstTensorView x) {
  CARAT_CHECK_EQ(y.shape.rank(), 2);
  check_bf16(x, {y.dim(0), 2 * y.dim(1)}, "glu x");
  check_bf16(y, y.shape, "glu y");
  if (ctx.backend == Backend::kRef) return ref::glu(ctx, y, x);
  cpu::glu(ctx, y, x);
}

void unfold_3x3(Context& ctx, TensorView y, ConstTensorView x, int64_t first) {
  CARAT_CHECK_EQ(x.shape.rank(), 3);
  CARAT_CHECK_EQ(y.shape.rank(), 2);
  check_bf16(x, x.shape, "unfold_3x3 x");
  check_bf16(y, {y.dim(0), 9 * x.dim(2)}, "unfold_3x3 y");
  const int64_t width = (x.dim(1) + 1) / 2;
  CARAT_CHECK(width > 0 && y.dim(0) % width == 0, "unfold_3x3 y has whole rows of the grid");
  CARAT_CHECK(first >= 0 && first + y.dim(0) / width <= (x.dim(0) + 1) / 2, "unfold_3x3: rows inside the grid");
  if (ctx.backend == Backend::kRef) return ref::unfold_3x3(ctx, y, x, first);
  cpu::unfold_3x3(ctx, y, x, first);
}

void causal_conv(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  CARAT_CHECK_EQ(w.shape.rank(), 2);
  check_bf16(x, x.shape, "causal_conv x");
  check_bf16(y, x.shape, "causal_conv y");
  check_bf16(w, {w.dim(0), x.dim(1)}, "causal_conv w");
  if (ctx.backend == Backend::kRef) return ref::causal_conv(ctx, y, x, w);
  cpu::causal_conv(ctx, y, x, w);
}

void relative_attention(Context& ctx, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        ConstTensorView r, const RelativeScores& scores) {
  CARAT_CHECK_EQ(q.shape.rank(), 2);
  CARAT_CHECK_EQ(r.shape.rank(), 2);
  check_bf16(q, q.shape, "relative_attention q");
  check_bf16(k, q.shape, "relative_attention k");
  check_bf16(v, q.shape, "relative_attention v");
  check_bf16(o, q.shape, "relative_attention o");
  check_bf16(r, {r.dim(0), q.dim(1)}, "relative_attention r");
  CARAT_CHECK(r.dim(0) > 0 && scores.cap > 0, "relative_attention: a window and a cap");
  CARAT_CHECK(!scores.dim_scale.empty() && q.dim(1) % static_cast<int64_t>(scores.dim_scale.size()) == 0,
              "relative_attention q is made of whole heads");
  if (ctx.backend == Backend::kRef) return ref::relative_attention(ctx, o, q, k, v, r, scores);
  cpu::relative_attention(ctx, o, q, k, v, r, scores);
}

void kv_write(Context& ctx, const KvStore& store, ConstTensorView k, ConstTensorView v, const AttentionBatch& batch) {
  CARAT_CHECK_EQ(k.shape.rank(), 2);
  check_bf16(k, {k.dim(0), int64_t{store.num_kv_heads} * store.head_dim}, "kv_write k");
  check_bf16(v, k.shape, "kv_write v");
  check_batch(store, batch, k.dim(0));
  if (ctx.backend == Backend::kRef) return ref::kv_write(ctx, store, k, v, batch);
  cpu::kv_write(ctx, store, k, v, batch);
}

void attention(Context& ctx, TensorView o, ConstTensorView q, const KvStore& store, const AttentionBatch& batch,
               int window) {
  CARAT_CHECK_EQ(q.shape.rank(), 2);
  check_bf16(q, q.shape, "attention q");
  check_bf16(o, q.shape, "attention o");
  check_batch(store, batch, q.dim(0));
  CARAT_CHECK(q.last_dim() > 0 && q.last_dim() % (int64_t{store.num_kv_heads} * store.head_dim) == 0,
              "attention: each K/V head serves the same number of query heads");
  CARAT_CHECK(window >= 0, "attention: a window is not negative");
  if (ctx.backend == Backend::kRef) return ref::attention(ctx, o, q, store, batch, window);
  cpu::attention(ctx, o, q, store, batch, window);
}

void route(Context& ctx, std::span<int32_t> ids, std::span<float> weights, ConstTensorView logits,
           ConstTensorView per_expert_scale, int k) {
  CARAT_CHECK_EQ(logits.shape.rank(), 2);
  check_bf16(logits, logits.shape, "route logits");
  check_bf16(per_expert_scale, {logits.dim(1)}, "route per_expert_scale");
  CARAT_CHECK(k > 0 && k <= logits.dim(1), "route picks 1 .. E experts");
  CARAT_CHECK_EQ(static_cast<int64_t>(ids.size()), logits.dim(0) * k);
  CARAT_CHECK_EQ(ids.size(), weights.size());
  if (ctx.backend == Backend::kRef) return ref::route(ctx, ids, weights, logits, per_expert_scale, k);
  cpu::route(ctx, ids, weights, logits, per_expert_scale, k);
}

void experts(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView gate_up, ConstTensorView down,
             std::span<const int32_t> ids, std::span<const float> weights, int k) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  CARAT_CHECK_EQ(gate_up.shape.rank(), 3);
  CARAT_CHECK_EQ(down.shape.rank(), 3);
  check_bf16(x, {x.dim(0), gate_up.dim(2)}, "experts x");
  check_bf16(y, x.shape, "experts y");
  check_bf16(gate_up, {down.dim(0), 2 * down.dim(2), down.dim(1)}, "experts gate_up");
  check_bf16(down, {down.dim(0), x.dim(1), down.dim(2)}, "experts down");
  CARAT_CHECK_EQ(static_cast<int64_t>(ids.size()), x.dim(0) * k);
  CARAT_CHECK_EQ(ids.size(), weights.size());
  for (const int32_t id : ids) CARAT_CHECK(id >= 0 && id < down.dim(0), "experts: the id is an expert's");
  if (ctx.backend == Backend::kRef) return ref::experts(ctx, y, x, gate_up, down, ids, weights, k);
  cpu::experts(ctx, y, x, gate_up, down, ids, weights, k);
}

void softcap(Context& ctx, TensorView y, ConstTensorView x, float cap) {
  CARAT_CHECK_EQ(x.shape.rank(), 2);
  check_bf16(x, x.shape, "softcap x");
  check_dtype(y, DType::kF32, "softcap y");
  check_shape(y, x.shape, "softcap y");
  CARAT_CHECK(cap >= 0, "softcap: a cap is not negative");
  if (ctx.backend == Backend::kRef) return ref::softcap(ctx, y, x, cap);
  cpu::softcap(ctx, y, x, cap);
}

}  // namespace carat::ops
