#pragma once
// The model's operations on a GPU, fused where a separate launch would cost more than its work. Each computes, with the
// same roundings, what the named operations of ops/ops.h compute one after the other; sums run in another (fixed)
// order. Pointers are device memory, activations and weights bf16, rows contiguous unless a stride is given. Nothing
// here allocates or waits. No CUDA header shows here.
//
// Letters as in ops/ops.h. A row's result depends on its own inputs only, except where said.

#include <cstdint>

namespace carat::cuda {

/// Where and how to launch.
struct Launch {
  void* stream = nullptr;  ///< cudaStream_t
  int num_sms = 132;
  bool dependent =
      true;            ///< programmatic dependent launch (a kernel starts loading weights while the one before drains)
  int few_tokens = 8;  ///< steps of up to so many rows use linear_few where it fits; 0: never (measurements)
  void* workspace = nullptr;  ///< workspace_bytes(num_sms); shared by the launches of one stream; zeroed once at start
};
int64_t workspace_bytes(int num_sms);

enum class Epilogue : int {
  kBf16,     ///< y [T, N] bf16
  kF32,      ///< y [T, N] f32
  kGeglu,    ///< w's rows are gate and up interleaved in groups of 8; y [T, N / 2] = round(round(gelu(gate)) * up)
  kGeluMul,  ///< y = round(round(gelu(round(x w^T))) * factor), linear_few only
};

/// A sublayer's input made from the residual stream: h' = round(round(h + round(rms(y) * w_post)) * scalar) (scalar 1:
/// no second rounding; y null: h' = h), input = round(rms(h') * w_next) (w_next null: h'). Rows of the product's K.
struct Residual {
  const void* h = nullptr;
  const void *y = nullptr, *w_post = nullptr, *w_next = nullptr;
  float scalar = 1.0f, eps = 0.0f;
  void* h_out = nullptr;  ///< h' is stored here if there is a y; not h itself, which other blocks still read
};

/// The product for decode steps of few sequences, with what surrounds it: input from the residual stream or from x,
/// activation after it. 1 <= T <= kFewTokens; K % 32 == 0; w's rows 16-byte aligned. A row's result does not depend on
/// T. kBf16, kGeglu (N % 16 == 0), kGeluMul.
inline constexpr int kFewTokens = 8;
struct FewParams {
  Residual input;  ///< one token only; if input.h is null: x
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* w = nullptr;
  int num_tokens = 0, n = 0, k = 0;
  Epilogue epilogue = Epilogue::kBf16;
  const void* factor = nullptr;  ///< kGeluMul: [T, N] of stride factor_stride
  int64_t factor_stride = 0;
  void* out = nullptr;
  int64_t out_stride = 0;
  /// The next kernel starts only when all kernels before this one are complete: it may read what they wrote at once.
  bool late_trigger = false;
};
void linear_few(const Launch& launch, const FewParams& p);
/// Whether a product of so many tokens fits linear_few's shared memory.
bool linear_few_fits(int num_tokens, int k);

/// linear for few tokens: 1 <= T <= 64. K % 16 == 0. Weights stream through shared memory once.
void linear_skinny(const Launch& launch, void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,
                   int num_tokens, int n, int k, Epilogue epilogue);

/// The same product for any number of tokens (kBf16 and kF32): cuBLASLt where it is found at run time, else
/// linear_skinny piece by piece.
void linear(const Launch& launch, void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,
            int num_tokens, int n, int k, Epilogue epilogue);
/// Whether cuBLASLt was found, and where or why not: for the start-up log.
bool cublaslt_available(const char** detail);

/// Ids that are looked up as another one: bare media placeholders as the pad token. -1: none.
struct PadIds {
  int32_t from[3], to;
};
/// Applies a step's small changes: page-table entries, and the input token of each row: ids[r] = tokens[r] if >= 0,
/// else last_token[slots[r]] (0 for padding), after `pads`.
struct TableUpdate {
  int32_t pool, index, page, unused;  ///< pool 0 full, 1 sliding; index into the flattened table
};
void begin_step(const Launch& launch, int32_t* ids, const int32_t* tokens, const int32_t* slots,
                const int32_t* last_token, int num_rows, int32_t* full_table, int32_t* sliding_table,
                const TableUpdate* updates, const int32_t* num_updates, const PadIds& pads);
/// last_token[slots[i]] = tokens[rows[i]] and out[i] = tokens[rows[i]] for i < *num.
void end_step(const Launch& launch, int32_t* last_token, int32_t* out, const int32_t* tokens, const int32_t* rows,
              const int32_t* slots, const int32_t* num, int max_num);
/// Bytes of pages from -> to, for forks.
struct PageCopyOp {
  int32_t from, to;
};
void copy_pages(const Launch& launch, void* pool, int64_t page_bytes, const PageCopyOp* copies, int num_copies);
/// Random weights: bf16 mean + deviation * u, u uniform with deviation 1, from (seed, index).
void fill_random(const Launch& launch, void* w, int64_t count, float mean, float deviation, uint64_t seed);

/// Rows that are soft tokens: row t is values[rows[t]], rows of C bf16, where rows[t] >= 0. Both null: none is.
struct SoftRowIndex {
  const void* values = nullptr;
  const int32_t* rows = nullptr;
};
/// y[t] = round(table[ids[t]] * s), or the soft token as it is.
void embed(const Launch& launch, void* y, const void* table, const int32_t* ids, int num_tokens, int c, float s,
           const SoftRowIndex& soft = {});

/// x = round(rms(h) * w). [T, C]
void rms_norm(const Launch& launch, void* x, const void* h, const void* w, int num_tokens, int c, float eps);

/// h = round(round(h + round(rms(y) * w_post)) * scalar) in place (scalar 1: no second rounding), then, if w_next, x =
/// round(rms(h) * w_next).
void add_norm(const Launch& launch, void* h, void* x, const void* y, const void* w_post, const void* w_next,
              float scalar, int num_tokens, int c, float eps);

/// As add_norm on f = round(round(rms(m) * w1) + round(rms(e) * w2)): the dense and the expert branch of 26B-A4B.
void moe_add_norm(const Launch& launch, void* h, void* x, const void* m, const void* e, const void* w1, const void* w2,
                  const void* w_post, const void* w_next, float scalar, int num_tokens, int c, float eps);

/// qkv [T, (Hq + Hkv + (k_is_v ? 0 : Hkv)) * D] -> q [T, Hq * D] normed and rotated; k normed and rotated, v normed,
/// both stored in their page. Hkv 0: a KV-shared layer, q only. Rows with slot < 0 are skipped. positions [T], slots
/// [T]; page of position p of slot s: table[s * table_stride + (p / page_tokens) % ring]. The page's K of head h, token
/// i: kv + page * page_stride + (h * page_tokens + i) * D (elements), V v_offset later. inv_freq [num_rotated] f32.
struct QkvParams {
  const void* qkv;
  void* q;
  const void *q_norm, *k_norm;
  const int32_t *positions, *slots;
  const float* inv_freq;
  int num_rotated;
  void* kv;
  int64_t page_stride, v_offset;
  const int32_t* table;
  int table_stride, ring;
  int num_tokens, num_heads, num_kv_heads, head_dim, page_tokens;
  bool k_is_v;
  float eps;
};
void qk_norm_rope_store(const Launch& launch, const QkvParams& p);

/// attention over pages. A tile is up to `columns / group` consecutive tokens of one slot, group = Hq / Hkv query heads
/// packed. tiles [num_tiles] of {slot, first row of q and o, number of tokens, position of the first}; number 0:
/// skipped. `splits` blocks share the keys of a tile and merge in order; 1 <= splits <= kMaxSplits; tiles * Hkv *
/// splits * columns * (D + 2) floats of scratch.
struct AttentionTile {
  int32_t slot, row, num_tokens, position;
};
struct AttentionParams {
  const void* q;
  void* o;
  const AttentionTile* tiles;
  /// By rows of q: the last position that a row sees, its own or a later one; not descending within a tile. Null: its
  /// own. All of a tile's keys must have been written.
  const int32_t* last_keys;
  int num_tiles, splits;
  const void* kv;
  int64_t page_stride, v_offset;
  const int32_t* table;
  int table_stride, ring;
  int num_heads, num_kv_heads, head_dim, page_tokens;
  int window;   ///< 0: full
  int columns;  ///< 8, 16, 32 or 64; a multiple of the group
  float* scratch;
  int32_t* counters;  ///< [num_tiles * Hkv], zeroed once at start
};
inline constexpr int kMaxSplits = 64;
void attention(const Launch& launch, const AttentionParams& p);

/// qk_norm_rope_store and attention in one launch, for steps of few rows that attend alone: row t's result goes to o
/// [T, Hq * D]. Rows of one step have different slots. in.q is not used; in.num_kv_heads 0: the K/V of the row's own
/// token is stored already. All but in.qkv must have been written before the launch that precedes this one began
/// (FewParams::late_trigger makes sure of it).
struct FewAttentionParams {
  QkvParams in;
  void* o;
  int num_kv_heads;   ///< of the store that is read
  int window;         ///< 0: full
  float* scratch;     ///< attention_few_scratch_floats
  int32_t* counters;  ///< [T * num_kv_heads * 8], zeroed once at start
};
void attention_few(const Launch& launch, const FewAttentionParams& p);
int64_t attention_few_scratch_floats(const Launch& launch, int num_tokens, int num_kv_heads, int head_dim);

/// Per-layer embeddings of the layers [first, first + count): c [T, count * P] holds round(x Wp^T) of these layers;
/// ple [T, count, P] = round(round(rms(round(c * proj_scale)) * norm + round(table[id] * id_scale)) * 2^-0.5). table
/// rows have table_stride elements.
void ple_combine(const Launch& launch, void* ple, const void* c, const void* norm, const void* table,
                 int64_t table_stride, int first_layer, const int32_t* ids, int num_tokens, int num_layers, int p,
                 float proj_scale, float id_scale, float eps);
/// g = round(round(gelu(g)) * ple[:, layer, :]); g [T, P], ple rows have ple_stride elements.
void gelu_mul_rows(const Launch& launch, void* g, const void* ple, int64_t ple_stride, int num_tokens, int p);
/// y [T, F] = round(round(gelu(gate)) * up) from gu [T, 2F] with gate and up interleaved in groups of 8.
void geglu_interleaved(const Launch& launch, void* y, const void* gu, int num_tokens, int f);

/// The three inputs of a layer with experts from the residual stream [T, C] (change.h_out = change.h is allowed here):
/// x = round(rms(h') * w_next); router_x = round(round(round(rms(h')) * router_scale) * root); experts_x =
/// round(rms(h')
/// * experts_norm). Also sets counts[0, num_experts) to 0 for route().
struct MoeInputsParams {
  Residual change;
  void *x, *router_x, *experts_x;
  const void *router_scale, *experts_norm;
  float root;
  int32_t* counts;
  int num_experts, num_tokens, c;
};
void moe_inputs(const Launch& launch, const MoeInputsParams& p);
/// logits [T, E] bf16 -> ids, weights [T, k] as ops::route, and the experts' token lists: count[e], list[e * capacity +
/// i] = t * k + j. Rows with slots[t] < 0 are padding and enter no list; slots may be null.
void route(const Launch& launch, int32_t* ids, float* weights, int32_t* counts, int32_t* lists, int capacity,
           const void* logits, const void* per_expert_scale, const int32_t* slots, int num_tokens, int num_experts,
           int k);
/// gu -> act [T * k, F]: gate and up (interleaved rows) of each (token, slot)'s expert with GEGLU; then y [T, C] =
/// sum_j weights * round(act Down^T).
struct ExpertsParams {
  const void* x;          ///< [T, C]
  const void* gate_up;    ///< [E, 2F, C], rows interleaved in groups of 8
  const void* down;       ///< [E, C, F]
  const int32_t* counts;  ///< [E]
  const int32_t* lists;   ///< [E * capacity]
  const float* weights;   ///< [T, k]
  int capacity;
  void* act;  ///< [T * k, F] scratch
  void* out;  ///< [T * k, C] bf16 scratch
  void* y;    ///< [T, C]
  int num_tokens, num_experts, k, c, f;
};
void experts(const Launch& launch, const ExpertsParams& p);

/// Rows of h by index: y[i] = h[rows[i]].
void gather_rows(const Launch& launch, void* y, const void* h, const int32_t* rows, int num_rows, int c);

/// logits [R, V]: bf16 -> soft-capped (with bf16 roundings), banned ids -inf, in place as bf16. banned may be null.
/// Per row: the largest value's lowest index -> argmax[R].
void softcap_argmax(const Launch& launch, int32_t* argmax, void* logits, int num_rows, int vocab, float cap,
                    const int32_t* banned, int num_banned, float* scratch);
int64_t softcap_argmax_scratch_bytes(int num_rows);

struct TokenBias {
  int32_t token;
  float bias;  ///< -infinity: banned
};
/// One sequence's part in sample(). Pointers are device memory.
struct SampleRow {
  int32_t logits_row;  ///< rows may share one
  int32_t slot;        ///< entry of last_token
  int32_t sample;      ///< entry of sampled and results
  int32_t greedy;      ///< the largest value's lowest index, whatever the next fields say
  double u;            ///< uniform_at(seed, position)
  float inverse_temperature;
  int32_t top_k;       ///< 0: off
  float top_p;         ///< 1: off
  float min_p_offset;  ///< temperature * log(min_p): kept values are at most so far below the best; -infinity: off
  float frequency_penalty, presence_penalty, repetition_penalty;
  int32_t num_biases;
  uint16_t* counts;         ///< [V] how often the sequence sampled each token, here counted on; null: no penalties
  const TokenBias* biases;  ///< by token; added in their order, after the penalties
  const uint32_t* mask;     ///< [ceil(V / 32)] bit t % 32 of word t / 32: t may be sampled; null: all may
  const int32_t* ids;       ///< [num_ids] log-probabilities wanted beside the best num_top
  int32_t num_ids, num_top;
  int32_t logprobs, unused;  ///< whether results[sample] is written
};
inline constexpr int kMaxSampleBiases = 1024;
inline constexpr int kMaxSampleTop = 32;  ///< num_top
inline constexpr int kMaxSampleIds = 32;  ///< num_ids
inline constexpr int kMaxSampleVocab = 262144;
struct SampleResult {
  float logprob;
  int32_t num_top;  ///< as asked, or the finite logits if those are fewer
  int32_t top_ids[kMaxSampleTop];
  float top_logprobs[kMaxSampleTop];
  float id_logprobs[kMaxSampleIds];
};
/// SequenceSampler::sample for rows of soft-capped logits [R, V] bf16, which stay as they are. V % 8 == 0, V <=
/// kMaxSampleVocab. Where a mask allows nothing with a finite logit, its lowest token. last_token[slot] =
/// sampled[sample] = the token. Sums run in another order than the host's, so the token may differ where u or top_p
/// lies within 2e-6 of a border. scratch: sample_scratch_bytes(num_rows) or more, zeroed once at start.
void sample(const Launch& launch, const SampleRow* rows, int num_rows, const void* logits, int vocab,
            int32_t* last_token, int32_t* sampled, SampleResult* results, void* scratch);
int64_t sample_scratch_bytes(int max_rows);

}  // namespace carat::cuda
