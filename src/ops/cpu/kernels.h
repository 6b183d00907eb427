#pragma once
// The inner loops of the CPU backend, once per level. Each level is a file of its own with its own compiler flags, so
// this header and what it includes must hold no inline functions: the linker keeps one copy of those, possibly with
// instructions that the machine lacks. bf16 values are uint16_t bits here.

#include <cstddef>
#include <cstdint>

namespace carat::ops::cpu {

/// y [T, N] = x [T, K] w [N, K]^T.
struct LinearArgs {
  const uint16_t* x;
  int64_t x_stride;
  const uint16_t* w;
  int64_t w_stride;
  void* y;
  int64_t y_stride;
  bool y_is_f32;
  int64_t num_tokens, num_outputs, depth;  // T, N, K
  const void* packed;                      // x as linear_pack() left it; null where linear_packed_bytes() is 0
};

/// The state of an online softmax over some keys, for `num_rows` rows: the highest score, the sum of weights and the
/// weighted sum of values [num_rows, D], the latter two relative to the highest score. No key so far: highest is -inf.
struct SoftmaxState {
  float* highest;
  float* total;
  float* values;
};

/// Rows (token, query head) that share a K/V head. Arrays have room for num_rows rounded up to kRowTile; rows beyond
/// num_rows have first > last, and what they leave in the state has no meaning.
struct AttentionArgs {
  const float* q;        // as attention_load_rows() left it
  const int32_t* first;  // [num_rows] keys in [first, last] count for a row, in the positions of the sequence
  const int32_t* last;   // [num_rows]
  int64_t num_rows;
  int64_t head_dim;  // D
  SoftmaxState state;
};
inline constexpr int64_t kRowTile = 16;

/// Keys that go into one step of the online softmax.
inline constexpr int kKeyBlock = 64;

struct Kernels {
  // Rows [row_begin, row_end) of w against all tokens. `scratch` has linear_scratch_bytes.
  void (*linear_rows)(const LinearArgs&, int64_t row_begin, int64_t row_end, void* scratch);
  int64_t linear_scratch_bytes;
  // How x is rearranged first: in blocks of kPackTokens tokens. Null if it is not.
  int64_t (*linear_packed_bytes)(int64_t num_tokens, int64_t depth);
  void (*linear_pack)(const LinearArgs&, void* packed, int64_t block_begin, int64_t block_end);

  double (*sum_of_squares)(const uint16_t* x, int64_t n);
  double (*sum)(const uint16_t* x, int64_t n);
  // y = round(x * s * w); w may be null.
  void (*scale_by)(uint16_t* y, const uint16_t* x, float s, const uint16_t* w, int64_t n);
  void (*add)(uint16_t* y, const uint16_t* a, const uint16_t* b, int64_t n);
  void (*mul)(uint16_t* y, const uint16_t* a, const uint16_t* b, int64_t n);
  // y = round( table[gate] * up ), table: 65536 results by the bits of the argument, and one
  // element that is not used.
  void (*lookup_mul)(uint16_t* y, const uint16_t* gate, const uint16_t* up, const uint16_t* table, int64_t n);
  // y = f32( round( table[ round(x * s) ] * cap ) )
  void (*scale_lookup_scale)(float* y, const uint16_t* x, float s, const uint16_t* table, float cap, int64_t n);
  // (lower, upper) = (lower * c - upper * s, upper * c + lower * s) with three roundings; c and s are bf16 values.
  void (*rotate)(uint16_t* lower, uint16_t* upper, const float* c, const float* s, int64_t n);
  void (*clamp)(uint16_t* y, const uint16_t* x, float lowest, float highest, int64_t n);
  // y = round(x + b)
  void (*add_bias)(uint16_t* y, const float* x, const uint16_t* b, int64_t n);
  // y = round((x - mean) * s * w + b); b may be null.
  void (*normalize)(uint16_t* y, const uint16_t* x, float mean, float s, const uint16_t* w, const uint16_t* b,
                    int64_t n);
  // sum = fma(x, s, sum): one rounding, at every level.
  void (*add_fused)(float* sum, const uint16_t* x, float s, int64_t n);
  // y = round((round(x) * s - bias) * factor); bias and factor may both be null.
  void (*standardize)(uint16_t* y, const float* x, float s, const uint16_t* bias, const uint16_t* factor, int64_t n);
  void (*widen)(float* y, const uint16_t* x, int64_t n);
  void (*narrow)(uint16_t* y, const float* x, int64_t n);
  // sum += w * x
  void (*add_product)(float* sum, const uint16_t* w, const uint16_t* x, int64_t n);
  float (*dot)(const float* a, const uint16_t* b, int64_t n);
  // sum += x * s
  void (*add_scaled)(float* sum, const uint16_t* x, float s, int64_t n);

  // Brings query rows [first_row, first_row + num_rows), x [num_rows, D], into the form that attention_block() takes,
  // in q [kRowTile * n, D].
  void (*attention_load_rows)(float* q, const uint16_t* x, int64_t first_row, int64_t num_rows, int64_t head_dim);
  // Adds keys to the state: those numbered [begin, end) of a block of K and V [kKeyBlock, D] whose first key has
  // `position`. Others of the block are not read. `scratch` has attention_scratch_floats(D, rows) floats.
  void (*attention_block)(const AttentionArgs&, const uint16_t* keys, const uint16_t* values, int32_t position,
                          int begin, int end, float* scratch);
  // into += from, row by row; rows of `from` without keys are left out.
  void (*attention_merge)(const SoftmaxState& into, const SoftmaxState& from, int64_t num_rows, int64_t head_dim);
  // o = round(values / total)
  void (*attention_finish)(uint16_t* o, const float* values, float total, int64_t head_dim);
};

inline constexpr int64_t kPackTokens = 32;
/// Rows of w are handed out in multiples of this.
inline constexpr int64_t kLinearRows = 32;

constexpr int64_t attention_scratch_floats(int64_t head_dim, int64_t num_rows) {
  return kKeyBlock * (head_dim + num_rows);
}

extern const Kernels kGenericKernels;
#ifdef CARAT_X86
extern const Kernels kAvx2Kernels, kAvx512Kernels, kAvx512Bf16Kernels, kAmxKernels;
#endif

/// The kernels of active_level().
const Kernels& kernels();

}  // namespace carat::ops::cpu
