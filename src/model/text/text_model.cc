#include "model/text/text_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/str.h"
#include "model/arena.h"
#include "model/rope.h"
#include "model/views.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

/// Largest sizes over the layers, and the layer after whose K/V rows without logits are dropped.
struct Sizes {
  int64_t hidden = 0, q = 0, kv = 0, inner = 0;
  int64_t ple = 0;     ///< per layer
  int last_store = 0;  ///< the last layer that stores K/V
  int num_layers = 0;

  explicit Sizes(const TextConfig& config)
      : hidden(config.hidden_size), ple(config.ple_size), num_layers(config.num_layers) {
    for (int i = 0; i < config.num_layers; ++i) {
      const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
      q = std::max(q, int64_t{layer.num_heads} * layer.head_dim);
      kv = std::max(kv, int64_t{layer.num_kv_heads} * layer.head_dim);
      inner = std::max(inner, int64_t{layer.intermediate_size});
      if (layer.kv_source == i) last_store = i;
    }
  }
  /// Per-layer embeddings are needed for all rows up to here, for rows with logits from here on.
  int64_t ple_early() const { return ple * last_store; }
  int64_t ple_late() const { return ple * (num_layers - last_store); }
};

/// Memory of one step; rows are tokens. What lives in different parts of a layer overlays.
struct Workspace {
  Bf16 *hidden = nullptr, *normed = nullptr, *branch = nullptr;  // [T, H]
  Bf16 *ple_early = nullptr, *ple_late = nullptr, *ple_context = nullptr;
  Bf16 *q = nullptr, *k = nullptr, *v = nullptr, *heads = nullptr;
  Bf16 *gate = nullptr, *up = nullptr, *dense = nullptr;
  Bf16* router_logits = nullptr;
  int32_t* expert_ids = nullptr;
  float* expert_weights = nullptr;
  Bf16* logits = nullptr;  // [max_logit_rows, V]
  TokenId* tokens = nullptr;
  TokenId* kept_tokens = nullptr;
  int32_t *kept_positions = nullptr, *kept_last_keys = nullptr, *kept_indptr = nullptr;

  Workspace(Arena& arena, const TextConfig& config, const TextModel::Limits& limits) {
    const Sizes size(config);
    const int64_t rows = limits.max_tokens;
    tokens = arena.take<TokenId>(rows);
    kept_tokens = arena.take<TokenId>(rows);
    kept_positions = arena.take<int32_t>(rows);
    kept_last_keys = arena.take<int32_t>(rows);
    kept_indptr = arena.take<int32_t>(rows + 1);
    hidden = arena.take<Bf16>(rows * size.hidden);
    normed = arena.take<Bf16>(rows * size.hidden);
    branch = arena.take<Bf16>(rows * size.hidden);
    ple_early = arena.take<Bf16>(rows * size.ple_early());
    ple_late = arena.take<Bf16>(rows * size.ple_late());
    const int64_t mark = arena.mark();

    ple_context = arena.take<Bf16>(rows * std::max(size.ple_early(), size.ple_late()));

    arena.rewind(mark);
    q = arena.take<Bf16>(rows * size.q);
    heads = arena.take<Bf16>(rows * size.q);
    k = arena.take<Bf16>(rows * size.kv);
    v = arena.take<Bf16>(rows * size.kv);

    arena.rewind(mark);
    gate = arena.take<Bf16>(rows * std::max(size.inner, size.ple));
    up = arena.take<Bf16>(rows * size.inner);
    if (config.moe) {
      dense = arena.take<Bf16>(rows * size.hidden);
      router_logits = arena.take<Bf16>(rows * config.moe->num_experts);
      expert_ids = arena.take<int32_t>(rows * config.moe->top_k);
      expert_weights = arena.take<float>(rows * config.moe->top_k);
    }

    arena.rewind(mark);
    logits = arena.take<Bf16>(int64_t{limits.max_logit_rows} * config.vocab_size);
  }
};

/// Moves the rows `kept` (ascending) of `matrix` together at its front.
void keep_rows(const TensorView& matrix, std::span<const int32_t> kept) {
  Bf16* data = static_cast<Bf16*>(matrix.data);
  for (size_t i = 0; i < kept.size(); ++i)
    if (kept[i] != static_cast<int32_t>(i))
      std::memcpy(data + static_cast<int64_t>(i) * matrix.row_stride, data + kept[i] * matrix.row_stride,
                  static_cast<size_t>(matrix.last_dim()) * sizeof(Bf16));
}

/// Rows of `from` to rows that lie side by side.
void copy_rows(Bf16* to, const ConstTensorView& from) {
  const int64_t width = from.last_dim();
  for (int64_t i = 0; i < from.dim(0); ++i, to += width)
    std::memcpy(to, static_cast<const Bf16*>(from.data) + i * from.row_stride,
                static_cast<size_t>(width) * sizeof(Bf16));
}

}  // namespace

struct TextModel::Impl {
  Impl(const ModelConfig& model_config, std::shared_ptr<const TextWeights> text_weights, Limits model_limits,
       Buffer memory)
      : config(model_config.text),
        media(model_config.media),
        weights(std::move(text_weights)),
        limits(model_limits),
        buffer(std::move(memory)),
        size(config),
        ws(make_workspace()),
        layout(kv_layout(model_config)),
        eps(static_cast<float>(config.rms_norm_eps)) {
    for (const LayerConfig& layer : config.layers) {
      const auto store = std::ranges::find(layout, layer.kv_source, &KvStoreShape::layer);
      store_of_layer.push_back(static_cast<size_t>(store - layout.begin()));
    }
    for (const LayerConfig& layer : config.layers) {
      auto& frequencies = layer.kind == AttentionKind::kFull ? frequencies_full : frequencies_sliding;
      if (frequencies.empty())
        frequencies = inverse_frequencies(layer.kind == AttentionKind::kFull ? config.rope_full : config.rope_sliding,
                                          layer.head_dim);
    }
  }

  Workspace make_workspace() {
    Arena arena(buffer.data());
    return Workspace(arena, config, limits);
  }

  /// The rows that a layer works on: all of the step, or those that go on to the logits.
  struct Rows {
    int64_t count = 0;
    std::span<const int32_t> positions, indptr, last_keys;
  };

  void forward(ops::Context& ctx, const TextBatch& batch, const ops::PagedKv& kv);
  void check(const TextBatch& batch, const ops::PagedKv& kv) const;
  Rows kept_rows(const TextBatch& batch);
  void embed(ops::Context& ctx, const TextBatch& batch);
  void per_layer_embeddings(ops::Context& ctx, TensorView out, TensorView hidden, std::span<const TokenId> tokens,
                            int64_t first_column);
  void store_kv(ops::Context& ctx, int i, const Rows& r, const TextBatch& batch, const ops::PagedKv& kv);
  void attend(ops::Context& ctx, int i, const Rows& r, const TextBatch& batch, const ops::PagedKv& kv);
  void feed_forward(ops::Context& ctx, int i, int64_t count);
  void dense_mlp(ops::Context& ctx, const LayerWeights& w, TensorView out, TensorView x);
  void mixture(ops::Context& ctx, const LayerWeights& w, TensorView out, TensorView h1);
  void per_layer_input(ops::Context& ctx, int i, int64_t count);
  ConstTensorView ple_of_layer(int i, int64_t count) const;
  ops::AttentionBatch attention_batch(const LayerConfig& layer, const Rows& r, const TextBatch& batch,
                                      const ops::PagedKv& kv) const;
  void observe(std::string_view name, int layer, ConstTensorView value) const {
    if (observer) observer(name, layer, value);
  }

  TextConfig config;
  MediaTokenIds media;
  std::shared_ptr<const TextWeights> weights;
  Limits limits;
  Buffer buffer;
  Sizes size;
  Workspace ws;
  std::vector<KvStoreShape> layout;
  std::vector<size_t> store_of_layer;
  std::vector<float> frequencies_full, frequencies_sliding;
  float eps;
  int64_t num_kept = 0;  ///< R of the last forward
  Observer observer;
};

void TextModel::Impl::check(const TextBatch& batch, const ops::PagedKv& kv) const {
  const size_t num_tokens = batch.tokens.size(), num_sequences = batch.full_tables.size();
  CARAT_CHECK(num_tokens <= static_cast<size_t>(limits.max_tokens), "a step has more tokens than the workspace");
  CARAT_CHECK(num_sequences <= static_cast<size_t>(limits.max_tokens), "a step has more sequences than the workspace");
  CARAT_CHECK_EQ(batch.positions.size(), num_tokens);
  CARAT_CHECK_EQ(batch.indptr.size(), num_sequences + 1);
  CARAT_CHECK_EQ(batch.sliding_tables.size(), num_sequences);
  CARAT_CHECK_EQ(batch.indptr.back(), static_cast<int32_t>(num_tokens));
  CARAT_CHECK_EQ(kv.stores.size(), layout.size());
  CARAT_CHECK(batch.logit_rows.empty() || batch.logit_rows.back() < static_cast<int32_t>(num_tokens),
              "logit rows are rows of the step");
  CARAT_CHECK(batch.last_keys.empty() || batch.last_keys.size() == num_tokens, "last keys are per row");
  int64_t soft_end = 0;
  for (const SoftRows& soft : batch.soft) {
    CARAT_CHECK(soft.row >= soft_end, "soft rows ascend");
    CARAT_CHECK(soft.values.dtype == DType::kBf16 && soft.values.last_dim() == size.hidden, "soft rows are inputs");
    soft_end = soft.row + soft.values.dim(0);
  }
  CARAT_CHECK(soft_end <= static_cast<int64_t>(num_tokens), "soft rows are rows of the step");
}

void TextModel::Impl::forward(ops::Context& ctx, const TextBatch& batch, const ops::PagedKv& kv) {
  check(batch, kv);
  Rows r{static_cast<int64_t>(batch.tokens.size()), batch.positions, batch.indptr, batch.last_keys};
  const Rows kept = kept_rows(batch);
  num_kept = kept.count;
  embed(ctx, batch);

  for (int i = 0; i < config.num_layers; ++i) {
    const LayerWeights& w = weights->layers[static_cast<size_t>(i)];
    ops::rms_norm(ctx, view(ws.normed, r.count, size.hidden), view(ws.hidden, r.count, size.hidden), w.input_layernorm,
                  eps);
    if (config.layers[static_cast<size_t>(i)].kv_source == i) store_kv(ctx, i, r, batch, kv);
    if (i == size.last_store && kept.count < r.count) {
      keep_rows(view(ws.hidden, r.count, size.hidden), batch.logit_rows);
      keep_rows(view(ws.normed, r.count, size.hidden), batch.logit_rows);
      r = kept;
    }
    if (r.count == 0) break;
    attend(ctx, i, r, batch, kv);
    feed_forward(ctx, i, r.count);
    if (size.ple > 0) per_layer_input(ctx, i, r.count);
    const TensorView hidden = view(ws.hidden, r.count, size.hidden);
    ops::scale(ctx, hidden, hidden, w.layer_scalar);
    observe("out", i, hidden);
  }
  if (r.count == 0) return;
  const TensorView final = view(ws.normed, r.count, size.hidden);
  ops::rms_norm(ctx, final, view(ws.hidden, r.count, size.hidden), weights->norm, eps);
  observe("final", -1, final);
}

/// Positions, last keys and sequences of the rows that have logits.
TextModel::Impl::Rows TextModel::Impl::kept_rows(const TextBatch& batch) {
  const size_t count = batch.logit_rows.size(), num_sequences = batch.full_tables.size();
  for (size_t i = 0; i < count; ++i) ws.kept_positions[i] = batch.positions[static_cast<size_t>(batch.logit_rows[i])];
  if (!batch.last_keys.empty())
    for (size_t i = 0; i < count; ++i) ws.kept_last_keys[i] = batch.last_keys[static_cast<size_t>(batch.logit_rows[i])];
  for (size_t b = 0; b <= num_sequences; ++b)
    ws.kept_indptr[b] =
        static_cast<int32_t>(std::ranges::lower_bound(batch.logit_rows, batch.indptr[b]) - batch.logit_rows.begin());
  return {static_cast<int64_t>(count),
          {ws.kept_positions, count},
          {ws.kept_indptr, num_sequences + 1},
          {ws.kept_last_keys, batch.last_keys.empty() ? 0 : count}};
}

/// Rows of the decoder's input, and with per-layer embeddings those of the layers that will run for each row.
void TextModel::Impl::embed(ops::Context& ctx, const TextBatch& batch) {
  const size_t count = batch.tokens.size(), kept = batch.logit_rows.size();
  // The reference looks up the padding token for placeholders, with media or without.
  for (size_t t = 0; t < count; ++t) {
    const TokenId id = batch.tokens[t];
    ws.tokens[t] = id == media.image || id == media.video || id == media.audio ? 0 : id;
  }
  for (const SoftRows& soft : batch.soft) std::fill_n(ws.tokens + soft.row, soft.values.dim(0), 0);
  const TensorView hidden = view(ws.hidden, static_cast<int64_t>(count), size.hidden);
  const float scale = round_to_bf16(std::sqrt(static_cast<float>(size.hidden)));
  ops::embed(ctx, hidden, weights->embed_tokens, {ws.tokens, count}, scale);
  for (const SoftRows& soft : batch.soft) copy_rows(ws.hidden + soft.row * size.hidden, soft.values);
  observe("h0", -1, hidden);
  if (size.ple == 0) return;

  per_layer_embeddings(ctx, view(ws.ple_early, hidden.dim(0), size.ple_early()), hidden, {ws.tokens, count}, 0);
  for (size_t i = 0; i < kept; ++i) ws.kept_tokens[i] = ws.tokens[batch.logit_rows[i]];
  const TensorView kept_hidden = view(ws.normed, static_cast<int64_t>(kept), size.hidden);
  std::memcpy(ws.normed, ws.hidden, static_cast<size_t>(hidden.size_bytes()));
  keep_rows(view(ws.normed, hidden.dim(0), size.hidden), batch.logit_rows);
  per_layer_embeddings(ctx, view(ws.ple_late, kept_hidden.dim(0), size.ple_late()), kept_hidden, {ws.kept_tokens, kept},
                       size.ple_early());
}

/// out = columns [first_column, first_column + out's) of the per-layer embeddings. Source: text.md section 3.
void TextModel::Impl::per_layer_embeddings(ops::Context& ctx, TensorView out, TensorView hidden,
                                           std::span<const TokenId> tokens, int64_t first_column) {
  const int64_t count = out.dim(0), width = out.dim(1);
  if (count == 0 || width == 0) return;
  const TensorView context = view(ws.ple_context, count, width);
  const TensorView by_layer = view(ws.ple_context, count * (width / size.ple), size.ple);
  ops::linear(ctx, context, hidden, rows(weights->per_layer_model_projection, first_column, width));
  ops::scale(ctx, context, context, static_cast<float>(1.0 / std::sqrt(static_cast<double>(size.hidden))));
  ops::rms_norm(ctx, by_layer, by_layer, weights->per_layer_projection_norm, eps);
  ops::embed(ctx, out, columns(weights->embed_tokens_per_layer, first_column, width), tokens,
             round_to_bf16(std::sqrt(static_cast<float>(size.ple))));
  ops::add(ctx, out, context, out);
  ops::scale(ctx, out, out, static_cast<float>(std::sqrt(0.5)));
  observe(first_column == 0 ? "ple_early" : "ple_late", -1, out);
}

ConstTensorView TextModel::Impl::ple_of_layer(int i, int64_t count) const {
  if (i < size.last_store) return columns(view(ws.ple_early, count, size.ple_early()), i * size.ple, size.ple);
  return columns(view(ws.ple_late, count, size.ple_late()), (i - size.last_store) * size.ple, size.ple);
}

ops::AttentionBatch TextModel::Impl::attention_batch(const LayerConfig& layer, const Rows& r, const TextBatch& batch,
                                                     const ops::PagedKv& kv) const {
  const bool full = layer.kind == AttentionKind::kFull;
  return {r.indptr, r.positions, full ? batch.full_tables : batch.sliding_tables, kv.page_tokens,
          full ? std::span<const int32_t>() : r.last_keys};
}

/// K and V of the normed rows. V comes from the raw projection and is normed without weight. Source: text.md section 6.
void TextModel::Impl::store_kv(ops::Context& ctx, int i, const Rows& r, const TextBatch& batch,
                               const ops::PagedKv& kv) {
  const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
  const LayerWeights& w = weights->layers[static_cast<size_t>(i)];
  const ConstTensorView x = view(ws.normed, r.count, size.hidden);
  const int64_t width = int64_t{layer.num_kv_heads} * layer.head_dim;
  const TensorView k = view(ws.k, r.count, width), v = view(ws.v, r.count, width);
  const TensorView k_heads = view(ws.k, r.count * layer.num_kv_heads, layer.head_dim);
  const TensorView v_heads = view(ws.v, r.count * layer.num_kv_heads, layer.head_dim);
  ops::linear(ctx, k, x, w.k_proj);
  if (!layer.k_is_v) ops::linear(ctx, v, x, w.v_proj);
  ops::rms_norm(ctx, v_heads, layer.k_is_v ? k_heads : v_heads, {}, eps);
  ops::rms_norm(ctx, k_heads, k_heads, w.k_norm, eps);
  ops::rope(ctx, k, layer.head_dim, r.positions,
            layer.kind == AttentionKind::kFull ? frequencies_full : frequencies_sliding);
  observe("k", i, k);
  observe("v", i, v);
  ops::kv_write(ctx, kv.stores[store_of_layer[static_cast<size_t>(i)]], k, v, attention_batch(layer, r, batch, kv));
}

/// hidden += RMS(Attention(normed)).
void TextModel::Impl::attend(ops::Context& ctx, int i, const Rows& r, const TextBatch& batch, const ops::PagedKv& kv) {
  const LayerConfig& layer = config.layers[static_cast<size_t>(i)];
  const LayerWeights& w = weights->layers[static_cast<size_t>(i)];
  const bool full = layer.kind == AttentionKind::kFull;
  const int64_t width = int64_t{layer.num_heads} * layer.head_dim;
  const TensorView q = view(ws.q, r.count, width), heads = view(ws.heads, r.count, width);
  const TensorView q_heads = view(ws.q, r.count * layer.num_heads, layer.head_dim);
  const TensorView hidden = view(ws.hidden, r.count, size.hidden), branch = view(ws.branch, r.count, size.hidden);
  ops::linear(ctx, q, view(ws.normed, r.count, size.hidden), w.q_proj);
  ops::rms_norm(ctx, q_heads, q_heads, w.q_norm, eps);
  ops::rope(ctx, q, layer.head_dim, r.positions, full ? frequencies_full : frequencies_sliding);
  observe("q", i, q);
  ops::attention(ctx, heads, q, kv.stores[store_of_layer[static_cast<size_t>(i)]], attention_batch(layer, r, batch, kv),
                 full ? 0 : config.sliding_window);
  ops::linear(ctx, branch, heads, w.o_proj);
  observe("attn", i, branch);
  ops::rms_norm(ctx, branch, branch, w.post_attention_layernorm, eps);
  observe("attn_normed", i, branch);
  ops::add(ctx, hidden, hidden, branch);
}

/// hidden += RMS(MLP(RMS(hidden))), beside the experts where there are any.
void TextModel::Impl::feed_forward(ops::Context& ctx, int i, int64_t count) {
  const LayerWeights& w = weights->layers[static_cast<size_t>(i)];
  const TensorView hidden = view(ws.hidden, count, size.hidden), normed = view(ws.normed, count, size.hidden),
                   branch = view(ws.branch, count, size.hidden);
  ops::rms_norm(ctx, normed, hidden, w.pre_feedforward_layernorm, eps);
  dense_mlp(ctx, w, branch, normed);
  if (config.moe) {
    const TensorView dense = view(ws.dense, count, size.hidden);
    ops::rms_norm(ctx, dense, branch, w.post_feedforward_layernorm_1, eps);
    mixture(ctx, w, branch, hidden);
    ops::rms_norm(ctx, branch, branch, w.post_feedforward_layernorm_2, eps);
    ops::add(ctx, branch, dense, branch);
  }
  ops::rms_norm(ctx, branch, branch, w.post_feedforward_layernorm, eps);
  observe("ffn_normed", i, branch);
  ops::add(ctx, hidden, hidden, branch);
}

void TextModel::Impl::dense_mlp(ops::Context& ctx, const LayerWeights& w, TensorView out, TensorView x) {
  const TensorView gate = view(ws.gate, x.dim(0), w.gate_proj.dim(0)), up = view(ws.up, x.dim(0), w.up_proj.dim(0));
  ops::linear(ctx, gate, x, w.gate_proj);
  ops::linear(ctx, up, x, w.up_proj);
  ops::gelu_mul(ctx, gate, gate, up);
  ops::linear(ctx, out, gate, w.down_proj);
}

/// The router reads the residual stream without a learned norm, the experts read it through their own. Source: text.md
/// section 9.
void TextModel::Impl::mixture(ops::Context& ctx, const LayerWeights& w, TensorView out, TensorView h1) {
  const int64_t count = h1.dim(0);
  const int k = config.moe->top_k;
  const TensorView x = view(ws.normed, count, size.hidden);
  const TensorView logits = view(ws.router_logits, count, config.moe->num_experts);
  const std::span<int32_t> ids(ws.expert_ids, static_cast<size_t>(count * k));
  const std::span<float> expert_weights(ws.expert_weights, static_cast<size_t>(count * k));
  ops::rms_norm(ctx, x, h1, {}, eps);
  ops::mul(ctx, x, x, w.router_scale);
  ops::scale(ctx, x, x, static_cast<float>(1.0 / std::sqrt(static_cast<double>(size.hidden))));
  ops::linear(ctx, logits, x, w.router_proj);
  ops::route(ctx, ids, expert_weights, logits, w.router_per_expert_scale, k);
  ops::rms_norm(ctx, x, h1, w.pre_feedforward_layernorm_2, eps);
  ops::experts(ctx, out, x, w.experts_gate_up_proj, w.experts_down_proj, ids, expert_weights, k);
}

/// hidden += RMS(Wo (gelu(Wg hidden) * ple)). Source: text.md section 5, step 4.
void TextModel::Impl::per_layer_input(ops::Context& ctx, int i, int64_t count) {
  const LayerWeights& w = weights->layers[static_cast<size_t>(i)];
  const TensorView hidden = view(ws.hidden, count, size.hidden), branch = view(ws.branch, count, size.hidden);
  const TensorView gate = view(ws.gate, count, size.ple);
  ops::linear(ctx, gate, hidden, w.per_layer_input_gate);
  ops::gelu_mul(ctx, gate, gate, ple_of_layer(i, count));
  ops::linear(ctx, branch, gate, w.per_layer_projection);
  ops::rms_norm(ctx, branch, branch, w.post_per_layer_input_norm, eps);
  ops::add(ctx, hidden, hidden, branch);
}

TextModel::TextModel() = default;
TextModel::~TextModel() = default;

int64_t TextModel::workspace_bytes(const ModelConfig& config, Limits limits) {
  Arena arena;
  Workspace(arena, config.text, limits);
  return arena.peak();
}

Result<std::unique_ptr<TextModel>> TextModel::create(const ModelConfig& config,
                                                     std::shared_ptr<const TextWeights> weights, Limits limits) {
  CARAT_CHECK(limits.max_tokens > 0 && limits.max_logit_rows > 0, "a step has tokens and logits");
  CARAT_CHECK_EQ(weights->layers.size(), config.text.layers.size());
  CARAT_TRY(auto buffer, Buffer::allocate(workspace_bytes(config, limits)));
  std::unique_ptr<TextModel> model(new TextModel);
  model->impl_ = std::make_unique<Impl>(config, std::move(weights), limits, std::move(buffer));
  return model;
}

void TextModel::forward(ops::Context& ctx, const TextBatch& batch, const ops::PagedKv& kv) {
  impl_->forward(ctx, batch, kv);
}

void TextModel::logits(ops::Context& ctx, int first, TensorView logits) {
  CARAT_CHECK(first >= 0 && first + logits.dim(0) <= impl_->num_kept, "logits of rows that the step kept");
  CARAT_CHECK(logits.dim(0) <= impl_->limits.max_logit_rows, "more logits at once than the workspace has");
  const TensorView raw = view(impl_->ws.logits, logits.dim(0), impl_->config.vocab_size);
  ops::linear(ctx, raw, rows(final_states(), first, logits.dim(0)), impl_->weights->embed_tokens);
  ops::softcap(ctx, logits, raw, static_cast<float>(impl_->config.final_logit_softcapping));
}

ConstTensorView TextModel::final_states() const { return view(impl_->ws.normed, impl_->num_kept, impl_->size.hidden); }

std::vector<TextModel::KvStoreShape> TextModel::kv_layout(const ModelConfig& config) {
  std::vector<KvStoreShape> out;
  for (int i = 0; i < config.text.num_layers; ++i) {
    const LayerConfig& layer = config.text.layers[static_cast<size_t>(i)];
    if (layer.kv_source == i) out.push_back({layer.kind, i, layer.num_kv_heads, layer.head_dim});
  }
  return out;
}

std::span<const TextModel::KvStoreShape> TextModel::kv_layout() const { return impl_->layout; }

const TextModel::Limits& TextModel::limits() const { return impl_->limits; }

void TextModel::set_observer(Observer observer) { impl_->observer = std::move(observer); }

}  // namespace carat
