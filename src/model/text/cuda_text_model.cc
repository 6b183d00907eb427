#include "model/text/cuda_text_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/str.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

/// Query columns of a block that attends for one token, and for a tile of a prompt.
int decode_columns(const LayerConfig& c) { return c.num_heads / c.num_kv_heads <= 8 ? 8 : 16; }
int prefill_columns(const LayerConfig& c) { return c.head_dim == 256 ? 64 : 32; }

/// Rows that a matrix product runs over: padded, so that few shapes occur and each is planned once. Rows past the real
/// ones hold leftovers, and what comes of them is not read.
int padded(int rows) { return rows <= 64 ? (rows + 7) / 8 * 8 : (rows + 63) / 64 * 64; }

/// The sizes that the scratch memory is cut by.
struct Sizes {
  int64_t qkv = 0, heads = 0, ffn = 0, kv_heads = 0;
  explicit Sizes(const TextConfig& config) {
    for (const LayerConfig& c : config.layers) {
      qkv = std::max(qkv, static_cast<int64_t>(c.num_heads + 2 * c.num_kv_heads) * c.head_dim);
      heads = std::max(heads, static_cast<int64_t>(c.num_heads) * c.head_dim);
      ffn = std::max<int64_t>(ffn, c.intermediate_size);
      kv_heads = std::max<int64_t>(kv_heads, c.num_kv_heads);
    }
  }
};

/// Cuts aligned pieces off a buffer, or only counts their bytes.
class Cutter {
 public:
  explicit Cutter(char* base) : base_(base) {}
  template <class T = void>
  T* take(int64_t bytes) {
    T* p = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (bytes + 255) / 256 * 256;
    return p;
  }
  int64_t used() const { return used_; }

 private:
  char* base_;
  int64_t used_ = 0;
};

}  // namespace

struct CudaTextModel::Impl {
  TextConfig config;
  CudaTextWeights weights;
  int max_tokens = 0, max_logits = 0, num_sms = 132;
  cuda::DeviceBuffer memory;

  // Activations, bf16. T = max_tokens, R = max_logits.
  void *h, *x, *z, *qkv, *q, *attn, *y, *gate_up, *act;  // [T, ...]
  void *ple, *ple_raw, *ple_gate;                        // [T, L * P], the same, [T, P]
  void *h_up, *q_up;                                     // [R, H], [R, heads]
  void* h_spare;                                         // [kFewTokens, H]
  void *moe_in, *moe_logits, *moe_act, *moe_out, *moe_y;
  int32_t *moe_ids, *moe_counts, *moe_lists;
  float* moe_weights;
  void* logits;  // [R, V]
  float* cap_scratch;
  int32_t* argmax;
  float* attention_scratch;
  int32_t* attention_counters;
  int64_t attention_scratch_floats = 0;
  float* inv_freq[2];
  int num_rotated[2] = {0, 0};
  int32_t* banned;
  int num_banned = 0;
  static constexpr int kMaxBanned = 64;

  /// Where a layer's store begins inside a page, in elements, by layer (KV-shared layers: their source's).
  std::vector<int64_t> store_offset;
  int64_t page_elements[2] = {0, 0};
  int layer_of_kind[2] = {-1, -1};
  int last_store = 0;  // the last layer that owns K/V
  Observer observer;
  void observe(const char* name, int layer, const void* data, int rows, int columns) const {
    if (observer) observer(name, layer, data, rows, columns);
  }

  int64_t cut(char* base) {
    const Sizes s(config);
    Cutter c(base);
    const int64_t t = padded(max_tokens), r = padded(max_logits), hid = config.hidden_size;
    h = c.take(2 * t * hid);
    x = c.take(2 * t * hid);
    z = c.take(2 * t * hid);
    y = c.take(2 * t * hid);
    qkv = c.take(2 * t * s.qkv);
    q = c.take(2 * t * s.heads);
    attn = c.take(2 * t * s.heads);
    gate_up = c.take(2 * t * 2 * s.ffn);
    act = c.take(2 * t * s.ffn);
    const int64_t ple_width = static_cast<int64_t>(config.num_layers) * config.ple_size;
    ple = c.take(2 * t * ple_width);
    ple_raw = c.take(2 * t * ple_width);
    ple_gate = c.take(2 * t * config.ple_size);
    h_up = c.take(2 * r * hid);
    q_up = c.take(2 * r * s.heads);
    h_spare = c.take(2 * cuda::kFewTokens * hid);
    if (config.moe) {
      const int64_t pairs = t * config.moe->top_k, e = config.moe->num_experts;
      moe_in = c.take(2 * t * hid);
      moe_logits = c.take(2 * t * e);
      moe_act = c.take(2 * pairs * config.moe->intermediate_size);
      moe_out = c.take(2 * pairs * hid);
      moe_y = c.take(2 * t * hid);
      moe_ids = c.take<int32_t>(4 * pairs);
      moe_weights = c.take<float>(4 * pairs);
      moe_counts = c.take<int32_t>(4 * e);
      moe_lists = c.take<int32_t>(4 * e * t);
    }
    logits = c.take(2 * r * config.vocab_size);
    cap_scratch = c.take<float>(cuda::softcap_argmax_scratch_bytes(static_cast<int>(r)));
    argmax = c.take<int32_t>(4 * r);
    // Splits are chosen so that about two blocks per SM work; tiles beyond that use none.
    attention_scratch_floats = int64_t{4} * num_sms * 64 * (512 + 2);
    attention_scratch = c.take<float>(4 * attention_scratch_floats);
    attention_counters = c.take<int32_t>(4 * std::max<int64_t>(t, 8 * cuda::kFewTokens) * s.kv_heads);
    for (auto*& f : inv_freq) f = c.take<float>(4 * 256);
    banned = c.take<int32_t>(4 * kMaxBanned);
    return c.used();
  }

  void attend(const cuda::Launch& launch, const LayerConfig& c, int store, const CudaKvPool& pool, const void* queries,
              void* out, const CudaRows& rows) {
    cuda::AttentionParams p{};
    p.q = queries;
    p.o = out;
    p.kv = static_cast<const char*>(pool.data) + 2 * store_offset[static_cast<size_t>(store)];
    p.page_stride = pool.page_bytes / 2;
    p.v_offset = static_cast<int64_t>(c.num_kv_heads) * kPageTokens * c.head_dim;
    p.table = pool.table;
    p.table_stride = pool.table_stride;
    p.ring = pool.ring;
    p.num_heads = c.num_heads;
    p.num_kv_heads = c.num_kv_heads;
    p.head_dim = c.head_dim;
    p.page_tokens = kPageTokens;
    p.window = c.kind == AttentionKind::kSliding ? config.sliding_window : 0;
    p.scratch = attention_scratch;
    p.counters = attention_counters;
    const int keys = c.head_dim == 256 ? 64 : 32;
    const int most = p.window > 0 ? std::max(1, p.window / keys) : cuda::kMaxSplits;
    const auto run = [&](const cuda::AttentionTile* tiles, int num, int columns, const int32_t* last_keys) {
      if (num == 0) return;
      p.tiles = tiles;
      p.last_keys = last_keys;
      p.num_tiles = num;
      p.columns = columns;
      p.splits = std::clamp(2 * num_sms / (num * c.num_kv_heads), 1, std::min(most, cuda::kMaxSplits));
      while (p.splits > 1 && static_cast<int64_t>(num) * c.num_kv_heads * p.splits * columns * (c.head_dim + 2) >
                                 attention_scratch_floats)
        --p.splits;
      cuda::attention(launch, p);
    };
    run(rows.decode_tiles, rows.num_decode_tiles, decode_columns(c), nullptr);
    run(rows.prefill_tiles[static_cast<int>(c.kind)], rows.num_prefill_tiles[static_cast<int>(c.kind)],
        prefill_columns(c), c.kind == AttentionKind::kSliding ? rows.last_keys : nullptr);
  }

  /// The residual stream on its way through the layers: h, and what is still to be done to it before the next product,
  /// which does that itself for few rows.
  struct Stream {
    void *h, *spare;
    cuda::Residual change;  ///< its w_next alone: no change, but a norm
    int rows = 0;
    bool normed = false;  ///< the change is applied, and x holds the next product's input
    void next(const void* y, const void* w_post, const void* w_next, float scalar) {
      change.y = y;
      change.w_post = w_post;
      change.w_next = w_next;
      change.scalar = scalar;
      normed = false;
    }
  };
  /// Applies the change with a launch of its own: h is up to date, x its norm.
  void settle(const cuda::Launch& launch, Stream& s) {
    const int hid = config.hidden_size;
    const float eps = static_cast<float>(config.rms_norm_eps);
    if (s.normed) return;
    if (s.change.y)
      cuda::add_norm(launch, s.h, x, s.change.y, s.change.w_post, s.change.w_next, s.change.scalar, s.rows, hid, eps);
    else if (s.change.w_next)
      cuda::rms_norm(launch, x, s.h, s.change.w_next, s.rows, hid, eps);
    s.normed = true;
  }
  /// out [T, N] = input W^T.
  void product(const cuda::Launch& launch, void* out, int n, const void* input, int k, const void* w, int t) {
    if (t > launch.few_tokens || !cuda::linear_few_fits(t, k))
      return cuda::linear(launch, out, n, input, k, w, padded(t), n, k, cuda::Epilogue::kBf16);
    cuda::FewParams p;
    p.x = input;
    p.x_stride = k;
    p.w = w;
    p.num_tokens = t;
    p.n = n;
    p.k = k;
    p.out = out;
    p.out_stride = n;
    cuda::linear_few(launch, p);
  }
  /// The same from the residual stream, with an activation: kGeglu gives N / 2 columns, kGeluMul multiplies by
  /// `factor`.
  void product(const cuda::Launch& launch, void* out, int n, Stream& s, const void* w,
               cuda::Epilogue epilogue = cuda::Epilogue::kBf16, const void* factor = nullptr, int64_t factor_stride = 0,
               bool late_trigger = false) {
    const int hid = config.hidden_size, t = s.rows;
    const int columns = epilogue == cuda::Epilogue::kGeglu ? n / 2 : n;
    if (t <= launch.few_tokens && cuda::linear_few_fits(t, hid)) {
      cuda::FewParams p;
      if (t > 1) settle(launch, s);  // every block would do it for every row: a launch of its own is faster
      if (s.normed) {
        p.x = s.change.w_next ? x : s.h;
        p.x_stride = hid;
      } else {
        p.input = s.change;
        p.input.h = s.h;
        p.input.h_out = s.spare;
        p.input.eps = static_cast<float>(config.rms_norm_eps);
        if (s.change.y) std::swap(s.h, s.spare);
      }
      p.w = w;
      p.num_tokens = t;
      p.n = n;
      p.k = hid;
      p.epilogue = epilogue;
      p.factor = factor;
      p.factor_stride = factor_stride;
      p.out = out;
      p.out_stride = columns;
      p.late_trigger = late_trigger;
      return cuda::linear_few(launch, p);
    }
    settle(launch, s);
    const void* input = s.change.w_next ? x : s.h;
    void* raw = epilogue == cuda::Epilogue::kGeglu ? gate_up : out;
    cuda::linear(launch, raw, n, input, hid, w, padded(t), n, hid, cuda::Epilogue::kBf16);
    if (epilogue == cuda::Epilogue::kGeglu) cuda::geglu_interleaved(launch, out, raw, t, columns);
    if (epilogue == cuda::Epilogue::kGeluMul) cuda::gelu_mul_rows(launch, out, factor, factor_stride, t, columns);
  }

  /// The experts' branch of a layer: applies the stream's change, leaves the dense branch's input in x and the experts'
  /// sum in moe_y.
  void run_experts(const cuda::Launch& launch, const CudaLayerWeights& w, Stream& s, const int32_t* slots) {
    const MoeConfig& moe = *config.moe;
    const int e = moe.num_experts, hid = config.hidden_size, t = s.rows;
    cuda::MoeInputsParams in{};
    in.change = s.change;
    in.change.h = s.h;
    in.change.h_out = s.h;
    in.change.eps = static_cast<float>(config.rms_norm_eps);
    in.x = x;
    in.router_scale = w.router_scale;
    in.root = static_cast<float>(std::pow(static_cast<double>(hid), -0.5));
    in.router_x = z;
    in.experts_norm = w.pre_feedforward_layernorm_2;
    in.experts_x = moe_in;
    in.counts = moe_counts;
    in.num_experts = e;
    in.num_tokens = t;
    in.c = hid;
    cuda::moe_inputs(launch, in);
    s.normed = true;
    product(launch, moe_logits, e, z, hid, w.router, t);
    cuda::route(launch, moe_ids, moe_weights, moe_counts, moe_lists, max_tokens, moe_logits, w.per_expert_scale, slots,
                t, e, moe.top_k);
    cuda::ExpertsParams ep{};
    ep.x = moe_in;
    ep.gate_up = w.experts_gate_up;
    ep.down = w.experts_down;
    ep.counts = moe_counts;
    ep.lists = moe_lists;
    ep.weights = moe_weights;
    ep.capacity = max_tokens;
    ep.act = moe_act;
    ep.out = moe_out;
    ep.y = moe_y;
    ep.num_tokens = t;
    ep.num_experts = e;
    ep.k = moe.top_k;
    ep.c = hid;
    ep.f = moe.intermediate_size;
    cuda::experts(launch, ep);
  }

  /// ple rows [num_rows, count * P] of layers [first, first + count) from the input embeddings in `input`.
  void compute_ple(const cuda::Launch& launch, const CudaRows& rows, const void* input, int first, int count) {
    const int p = config.ple_size, n = count * p, hid = config.hidden_size;
    const auto* w = static_cast<const char*>(weights.per_layer_model_projection) + int64_t{2} * first * p * hid;
    product(launch, ple_raw, n, input, hid, w, rows.num_rows);
    cuda::ple_combine(launch, ple, ple_raw, weights.per_layer_projection_norm, weights.embed_tokens_per_layer,
                      static_cast<int64_t>(config.num_layers) * p, first, rows.ids, rows.num_rows, count, p,
                      static_cast<float>(std::pow(static_cast<double>(hid), -0.5)), std::sqrt(static_cast<float>(p)),
                      static_cast<float>(config.rms_norm_eps));
  }
};

CudaTextModel::CudaTextModel() : impl_(std::make_unique<Impl>()) {}
CudaTextModel::~CudaTextModel() = default;
void* CudaTextModel::logits() const { return impl_->logits; }
int32_t* CudaTextModel::argmax() const { return impl_->argmax; }
bool CudaTextModel::shares_kv() const { return impl_->config.first_shared_layer < impl_->config.num_layers; }
int64_t CudaTextModel::page_bytes(AttentionKind kind) const { return 2 * impl_->page_elements[static_cast<int>(kind)]; }
void CudaTextModel::set_observer(Observer observer) { impl_->observer = std::move(observer); }
int64_t CudaTextModel::workspace_bytes() const { return impl_->memory.size(); }
const CudaTextWeights& CudaTextModel::weights() const { return impl_->weights; }

int CudaTextModel::prefill_tile_tokens(AttentionKind kind) const {
  const int layer = impl_->layer_of_kind[static_cast<int>(kind)];
  if (layer < 0) return 1;
  const LayerConfig& c = impl_->config.layers[static_cast<size_t>(layer)];
  return prefill_columns(c) / (c.num_heads / c.num_kv_heads);
}

int64_t CudaTextModel::workspace_bytes(const TextConfig& config, int max_tokens, int max_logits, int num_sms) {
  Impl counting;
  counting.config = config;
  counting.max_tokens = max_tokens;
  counting.max_logits = max_logits;
  counting.num_sms = num_sms;
  return counting.cut(nullptr);
}

Result<void> CudaTextModel::set_banned(std::span<const int32_t> ids) {
  if (ids.size() > Impl::kMaxBanned)
    return Error{Errc::kUnsupported, str_cat("at most ", Impl::kMaxBanned, " suppressed ids, got ", ids.size())};
  CARAT_TRY(const auto stream, cuda::Stream::create());
  impl_->num_banned = static_cast<int>(ids.size());
  stream.copy_to_device(impl_->banned, ids.data(), static_cast<int64_t>(ids.size_bytes()));
  stream.synchronize();
  return {};
}

Result<std::unique_ptr<CudaTextModel>> CudaTextModel::create(const TextConfig& config, CudaTextWeights weights,
                                                             int max_tokens, int max_logits, int num_sms) {
  std::unique_ptr<CudaTextModel> model(new CudaTextModel);
  Impl& m = *model->impl_;
  m.config = config;
  m.weights = std::move(weights);
  m.max_tokens = max_tokens;
  m.max_logits = max_logits;
  m.num_sms = num_sms;
  CARAT_TRY(m.memory, cuda::DeviceBuffer::allocate(m.cut(nullptr)));
  m.cut(m.memory.as<char>());

  m.store_offset.assign(config.layers.size(), 0);
  for (size_t i = 0; i < config.layers.size(); ++i) {
    const LayerConfig& c = config.layers[i];
    m.layer_of_kind[static_cast<int>(c.kind)] = static_cast<int>(i);
    if (c.kv_source != static_cast<int>(i)) {
      m.store_offset[i] = m.store_offset[static_cast<size_t>(c.kv_source)];
      continue;
    }
    int64_t& size = m.page_elements[static_cast<int>(c.kind)];
    m.store_offset[i] = size;
    size += int64_t{2} * c.num_kv_heads * kPageTokens * c.head_dim;
    m.last_store = static_cast<int>(i);
  }

  CARAT_TRY(const auto stream, cuda::Stream::create());
  stream.fill(m.memory.data(), 0, m.memory.size());
  for (int kind = 0; kind < 2; ++kind) {
    if (m.layer_of_kind[kind] < 0) continue;
    const int d = config.layers[static_cast<size_t>(m.layer_of_kind[kind])].head_dim;
    const RopeConfig& rope = kind == static_cast<int>(AttentionKind::kSliding) ? config.rope_sliding : config.rope_full;
    // As the host's model: f32 exponents and powers.
    m.num_rotated[kind] = static_cast<int>(rope.partial_rotary_factor * d / 2);
    std::vector<float> freq(static_cast<size_t>(m.num_rotated[kind]));
    for (int j = 0; j < m.num_rotated[kind]; ++j) {
      const float power = static_cast<float>(
          std::pow(rope.theta, static_cast<double>(static_cast<float>(2 * j) / static_cast<float>(d))));
      freq[static_cast<size_t>(j)] = 1.0f / power / static_cast<float>(rope.factor);
    }
    stream.copy_to_device(m.inv_freq[kind], freq.data(), static_cast<int64_t>(4 * freq.size()));
    stream.synchronize();
  }
  return model;
}

void CudaTextModel::forward(const cuda::Launch& launch, const CudaStep& step, const CudaKvPool& full,
                            const CudaKvPool& sliding) {
  Impl& m = *impl_;
  const TextConfig& config = m.config;
  const int hid = config.hidden_size, num_layers = config.num_layers;
  const float eps = static_cast<float>(config.rms_norm_eps);
  const float embed_scale = round_to_bf16(std::sqrt(static_cast<float>(hid)));
  const bool narrows = step.narrow && shares_kv();
  const CudaRows* rows = &step.all;
  CARAT_CHECK(step.all.num_rows <= m.max_tokens && step.num_logits <= m.max_logits, "a step larger than the workspace");
  Impl::Stream stream{m.h, m.h_spare, {}, rows->num_rows, false};
  int ple_first = 0, ple_count = num_layers;

  cuda::embed(launch, m.h, m.weights.embed_tokens, rows->ids, rows->num_rows, hid, embed_scale, rows->soft);
  m.observe("h0", -1, m.h, rows->num_rows, hid);
  if (config.ple_size > 0) {
    if (narrows) ple_count = m.last_store;  // layer last_store only stores for the other rows
    if (ple_count > 0) m.compute_ple(launch, *rows, m.h, 0, ple_count);
  }
  stream.next(nullptr, nullptr, m.weights.layers[0].input_layernorm, 1.0f);

  for (int i = 0; i < num_layers; ++i) {
    const LayerConfig& c = config.layers[static_cast<size_t>(i)];
    const CudaLayerWeights& w = m.weights.layers[static_cast<size_t>(i)];
    const int kind = static_cast<int>(c.kind);
    const CudaKvPool& pool = c.kind == AttentionKind::kSliding ? sliding : full;
    const bool owns_kv = c.kv_source == i;
    const int kv_heads = owns_kv ? c.num_kv_heads : 0;
    const int q_width = c.num_heads * c.head_dim;
    const int qkv_width = q_width + kv_heads * c.head_dim * (c.k_is_v ? 1 : 2);

    // Few rows that attend alone: norms, rotation, store and attention are one launch. It reads K/V and tables early.
    const bool fused = rows->num_rows <= launch.few_tokens && rows->num_prefill_tiles[kind] == 0 &&
                       !(narrows && i == m.last_store) && !m.observer;
    m.product(launch, m.qkv, qkv_width, stream, w.qkv, cuda::Epilogue::kBf16, nullptr, 0, fused);
    cuda::QkvParams p{};
    p.qkv = m.qkv;
    p.q = m.q;
    p.q_norm = w.q_norm;
    p.k_norm = w.k_norm;
    p.positions = rows->positions;
    p.slots = rows->slots;
    p.inv_freq = m.inv_freq[kind];
    p.num_rotated = m.num_rotated[kind];
    p.kv = static_cast<char*>(pool.data) + 2 * m.store_offset[static_cast<size_t>(i)];
    p.page_stride = pool.page_bytes / 2;
    p.v_offset = static_cast<int64_t>(c.num_kv_heads) * kPageTokens * c.head_dim;
    p.table = pool.table;
    p.table_stride = pool.table_stride;
    p.ring = pool.ring;
    p.num_tokens = rows->num_rows;
    p.num_heads = c.num_heads;
    p.num_kv_heads = kv_heads;
    p.head_dim = c.head_dim;
    p.page_tokens = kPageTokens;
    p.k_is_v = c.k_is_v;
    p.eps = eps;
    if (!fused) cuda::qk_norm_rope_store(launch, p);
    m.observe("q", i, m.q, rows->num_rows, q_width);

    const void* queries = m.q;
    if (narrows && i == m.last_store) {
      // Everything that other rows' logits need is stored; go on with the wanted rows.
      cuda::gather_rows(launch, m.h_up, stream.h, step.logit_rows, step.num_logits, hid);
      cuda::gather_rows(launch, m.q_up, m.q, step.logit_rows, step.num_logits, q_width);
      queries = m.q_up;
      rows = &step.upper;
      stream = {m.h_up, m.h_spare, {}, rows->num_rows, false};
      if (config.ple_size > 0) {
        cuda::embed(launch, m.z, m.weights.embed_tokens, rows->ids, rows->num_rows, hid, embed_scale, rows->soft);
        ple_first = i;
        ple_count = num_layers - i;
        m.compute_ple(launch, *rows, m.z, ple_first, ple_count);
      }
    }
    const int t = rows->num_rows;
    if (t == 0) return;  // a chunk that ends no prompt: nothing above is wanted
    if (fused)
      cuda::attention_few(launch,
                          {p, m.attn, c.num_kv_heads, c.kind == AttentionKind::kSliding ? config.sliding_window : 0,
                           m.attention_scratch, m.attention_counters});
    else
      m.attend(launch, c, i, pool, queries, m.attn, *rows);
    m.product(launch, m.y, hid, m.attn, q_width, w.o, t);
    m.observe("attn", i, m.y, t, hid);
    stream.next(m.y, w.post_attention_layernorm, w.pre_feedforward_layernorm, 1.0f);

    const void* next =
        i + 1 < num_layers ? m.weights.layers[static_cast<size_t>(i) + 1].input_layernorm : m.weights.norm;
    const bool has_ple = config.ple_size > 0;
    const float scalar = has_ple ? 1.0f : w.layer_scalar;
    const void* after = has_ple ? nullptr : next;
    if (config.moe) m.run_experts(launch, w, stream, rows->slots);
    m.product(launch, m.act, 2 * c.intermediate_size, stream, w.gate_up, cuda::Epilogue::kGeglu);
    m.product(launch, m.y, hid, m.act, c.intermediate_size, w.down, t);
    if (config.moe) {
      cuda::moe_add_norm(launch, stream.h, m.x, m.y, m.moe_y, w.post_feedforward_layernorm_1,
                         w.post_feedforward_layernorm_2, w.post_feedforward_layernorm, after, scalar, t, hid, eps);
      stream.next(nullptr, nullptr, after, 1.0f);
      stream.normed = true;
    } else {
      stream.next(m.y, w.post_feedforward_layernorm, after, scalar);
    }
    if (has_ple) {
      const int p_size = config.ple_size;
      const char* ple_rows = static_cast<const char*>(m.ple) + int64_t{2} * (i - ple_first) * p_size;
      m.product(launch, m.ple_gate, p_size, stream, w.ple_gate, cuda::Epilogue::kGeluMul, ple_rows,
                static_cast<int64_t>(ple_count) * p_size);
      m.product(launch, m.y, hid, m.ple_gate, p_size, w.ple_projection, t);
      stream.next(m.y, w.ple_norm, next, w.layer_scalar);
    }
    if (m.observer) {
      m.settle(launch, stream);
      m.observe("out", i, stream.h, t, hid);
    }
  }
  m.settle(launch, stream);
  if (step.num_logits == 0) return;
  const void* final_rows = m.x;
  if (!narrows) {
    cuda::gather_rows(launch, m.z, m.x, step.logit_rows, step.num_logits, hid);
    final_rows = m.z;
  }
  cuda::linear(launch, m.logits, config.vocab_size, final_rows, hid, m.weights.embed_tokens, padded(step.num_logits),
               config.vocab_size, hid, cuda::Epilogue::kBf16);
  cuda::softcap_argmax(launch, m.argmax, m.logits, step.num_logits, config.vocab_size,
                       static_cast<float>(config.final_logit_softcapping), m.banned, m.num_banned, m.cap_scratch);
}

}  // namespace carat
