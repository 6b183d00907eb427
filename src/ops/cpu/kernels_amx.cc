// Intel AMX: linear layers and attention on bf16 matrix tiles; everything else as on AVX-512.
//
// Contract   ops.h linear(). Any sizes; N % 32 == 0 and K % 32 == 0 load weights in place, edges go through a copy.
// Mapping    Weights are the left operand, 16 rows x 32 values of K per tile, straight from the mapped file: no second
//            copy of the weights exists. Activations are packed once per call as right operands, up to 16 tokens wide.
//            A block is 2 x 2 tiles: 32 rows x 32 tokens, four sums in tile registers. One token is a tile with one
//            column, so that decoding runs the same instructions as a prompt.
// Numerics   An output adds its products in ascending steps of 32 values of K, whatever the blocking: sums of a block
//            that is continued later are stored and reloaded in f32. So results do not depend on T or on threads.
//            Denormal numbers count as zero.
// Locality   T <= 64: 32 rows of weights at a time over their whole depth, in 32 streams that hardware prefetchers
//            follow (memory-bound: bytes = 2 N K); the second block of tokens finds them in L2.
//            T > 64: weights of a depth block are copied as tiles (16 KB, L1); the packed tokens of the depth block
//            (512 tokens: 256 KB) and the sums of kRowChunk rows (512 KB) stay in L2. The next weights are prefetched
//            meanwhile. Deeper blocks would save traffic of sums, but the weights would fall out of L1: 256 won.
// Reference  ops/ref/linear.cc; Intel 64 Architecture Manual, TDPBF16PS     Test  ops/ops_test.cc "Linear"
#include "ops/cpu/kernels.h"

#include <immintrin.h>

#define CARAT_SIMD_WIDTH 16

namespace carat::ops::cpu {

namespace {

#include "ops/cpu/simd.inc"

#include "ops/cpu/elementwise.inc"

#include "ops/cpu/attention.inc"

constexpr int64_t kTile = 16;       // rows and columns of a tile of sums
constexpr int64_t kTileDepth = 32;  // values of K per tile of operands
constexpr int64_t kTileFloats = kTile * kTile;
constexpr int64_t kBlock = 2 * kTile;  // rows and tokens of a block
static_assert(kBlock == kPackTokens && kBlock == kLinearRows);

constexpr int64_t kFewTokens = 2 * kBlock;
constexpr int64_t kTokenChunk = 512;
constexpr int64_t kRowChunk = 256;
constexpr int64_t kDepthBlock = 256;
static_assert(kDepthBlock % kTileDepth == 0 && kRowChunk % kBlock == 0 && kTokenChunk % kBlock == 0);

// Scratch: sums of a chunk of rows, a copy of weights, sums on their way out.
constexpr int64_t kSumFloats = kRowChunk * kTokenChunk;
constexpr int64_t kPanelFloats = kBlock * kDepthBlock / 2;
constexpr int64_t kScratchFloats = kSumFloats + kPanelFloats + 4 * kTileFloats;

inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/// Orders plain loads and stores with the tile instructions, which the compiler does not see as memory accesses.
inline void compiler_fence() { asm volatile("" ::: "memory"); }

/// Tiles 0..3 sums (row tile * 2 + token tile), 4..5 weights, 6..7 tokens, the token tiles first and second wide.
class TileShape {
 public:
  void set(int64_t first, int64_t second) {
    if (first == first_ && second == second_) return;
    first_ = first;
    second_ = second;
    struct alignas(64) {
      uint8_t palette, start_row, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    } config = {};
    config.palette = 1;
    for (int tile = 0; tile < 8; ++tile) {
      const bool weights = tile == 4 || tile == 5;
      const int64_t width = tile % 2 && second > 0 ? second : first;  // a tile that is not used must be valid, too
      config.row_bytes[tile] = static_cast<uint16_t>(weights ? 2 * kTileDepth : 4 * width);
      config.rows[tile] = kTile;
    }
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  ~TileShape() { _tile_release(); }

 private:
  int64_t first_ = -1, second_ = -1;
};

// ---- Packing: [depth block][tile of up to 16 tokens][K / 32 of the block][pair of K][token], pairs of bf16, so that
// the tokens of a depth block are one stream.

int64_t linear_packed_bytes(int64_t num_tokens, int64_t depth) { return num_tokens * round_up(depth, kTileDepth) * 2; }

/// One depth block of a tile of tokens.
void pack_tile(uint16_t* out, const uint16_t* x, int64_t x_stride, int64_t width, int64_t depth) {
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    const int64_t count = min(kTileDepth, depth - k);
    U32 m[kTile];
    for (int64_t t = 0; t < kTile; ++t) {
      const uint16_t* p = x + t * x_stride + k;
      m[t] = t >= width ? U32{} : count == kTileDepth ? load<U32>(p) : load_part<U32>(p, count);
    }
    if (width > 1) transpose(m);
    const int64_t pairs = width > 1 ? kTile : 1;
    for (int64_t pair = 0; pair < pairs; ++pair, out += kTileDepth * width / pairs) {
      if (width == kTile || width == 1)
        store(out, m[pair]);
      else
        store_part(out, m[pair], 2 * width);
    }
  }
}

/// Where the packed values of the tile of tokens from t begin at depth k, a multiple of kDepthBlock.
inline int64_t packed_place(int64_t num_tokens, int64_t depth, int64_t t, int64_t k) {
  return k * num_tokens + t * min(kDepthBlock, round_up(depth, kTileDepth) - k);
}

void linear_pack(const LinearArgs& a, void* packed, int64_t block_begin, int64_t block_end) {
  for (int64_t t = block_begin * kBlock; t < min(block_end * kBlock, a.num_tokens); t += kTile)
    for (int64_t k = 0; k < a.depth; k += kDepthBlock)
      pack_tile(static_cast<uint16_t*>(packed) + packed_place(a.num_tokens, a.depth, t, k), a.x + t * a.x_stride + k,
                a.x_stride, min(kTile, a.num_tokens - t), min(kDepthBlock, a.depth - k));
}

// ---- Multiplying

/// Weights of 32 rows and some depth: of the matrix itself, or a copy that is made of tiles.
struct Panel {
  const uint16_t* data;
  int64_t stride;  // elements from row to row
  int64_t second;  // elements from row 0 to row 16
  int64_t step;    // elements to the next 32 values of K
};

/// Packed tokens of a block, at some depth.
struct Tokens {
  const uint16_t* first;
  const uint16_t* second;
  int64_t first_width, second_width;
};

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void load_sums(const float* sums, const Tokens& tokens) {
  _tile_loadd(0, sums, 64);
  _tile_loadd(2, sums + 2 * kTileFloats, 64);
  if (tokens.second_width) {
    _tile_loadd(1, sums + kTileFloats, 64);
    _tile_loadd(3, sums + 3 * kTileFloats, 64);
  }
}

inline void store_sums(float* sums, const Tokens& tokens) {
  _tile_stored(0, sums, 64);
  _tile_stored(2, sums + 2 * kTileFloats, 64);
  if (tokens.second_width) {
    _tile_stored(1, sums + kTileFloats, 64);
    _tile_stored(3, sums + 3 * kTileFloats, 64);
  }
}

/// sums += weights * tokens over `depth` values of K, a multiple of 32.
template <bool two_token_tiles>
inline void multiply(const Panel& w, const Tokens& x, int64_t depth) {
  const int64_t w_bytes = 2 * w.stride, x0_bytes = 4 * x.first_width, x1_bytes = 4 * x.second_width;
  const uint16_t *w0 = w.data, *w1 = w.data + w.second, *x0 = x.first, *x1 = x.second;
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    _tile_loadd(6, x0, x0_bytes);
    _tile_loadd(4, w0, w_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, w1, w_bytes);
    _tile_dpbf16ps(2, 5, 6);
    if constexpr (two_token_tiles) {
      _tile_loadd(7, x1, x1_bytes);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(3, 5, 7);
      x1 += kTile * 2 * x.second_width;
    }
    w0 += w.step;
    w1 += w.step;
    x0 += kTile * 2 * x.first_width;
  }
}

inline void multiply(const Panel& w, const Tokens& x, int64_t depth) {
  if (x.second_width)
    multiply<true>(w, x, depth);
  else
    multiply<false>(w, x, depth);
}

/// Writes sums [32 rows of w][16 tokens], two tiles `second` floats apart, as y[t..][n..].
inline void write_sums(const LinearArgs& a, const float* sums, int64_t second, int64_t n, int64_t t, int64_t rows,
                       int64_t width) {
  U32 low[kTile], high[kTile];
  for (int64_t r = 0; r < kTile; ++r) {
    low[r] = load<U32>(sums + r * kTile);
    high[r] = load<U32>(sums + second + r * kTile);
  }
  transpose(low);
  transpose(high);
  for (int64_t i = 0; i < width; ++i) {
    const int64_t place = (t + i) * a.y_stride + n;
    if (a.y_is_f32) {
      float* const y = static_cast<float*>(a.y) + place;
      store_part(y, low[i], min(rows, kTile));
      if (rows > kTile) store_part(y + kTile, high[i], rows - kTile);
      continue;
    }
    // Nearest even; denormal results count as zero, as in the products.
    const auto both = _mm512_cvtne2ps_pbh(reinterpret_cast<F32>(high[i]), reinterpret_cast<F32>(low[i]));
    uint16_t* const y = static_cast<uint16_t*>(a.y) + place;
    if (rows == kBlock)
      store(y, both);
    else
      store_part(y, both, rows);
  }
}

class LinearBlocks {
 public:
  LinearBlocks(const LinearArgs& args, float* scratch)
      : a_(args),
        depth_(round_up(args.depth, kTileDepth)),
        sums_(scratch),
        panel_(reinterpret_cast<uint16_t*>(scratch + kSumFloats)),
        out_(scratch + kSumFloats + kPanelFloats) {}

  /// At most 32 tokens from t: the sums stay in registers over the whole depth.
  void few_tokens(int64_t row_begin, int64_t row_end, int64_t t) {
    for (int64_t n = row_begin; n < row_end; n += kBlock) {
      const Tokens block = tokens(t, 0);
      shape_.set(block.first_width, block.second_width);
      zero_sums();
      for (int64_t k = 0; k < depth_; k += kDepthBlock) {
        const int64_t depth = min(kDepthBlock, depth_ - k);
        const bool whole = n + kBlock <= row_end && k + depth <= a_.depth;
        multiply(whole ? panel(n, k) : copy_panel(n, row_end, k), tokens(t, k), depth);
      }
      write(n, row_end, t);
    }
  }

  /// Tokens [t_begin, t_end), at most kTokenChunk; rows at most kRowChunk. Rows up to `rows_after` come next.
  void many_tokens(int64_t row_begin, int64_t row_end, int64_t rows_after, int64_t t_begin, int64_t t_end) {
    for (int64_t k = 0; k < depth_; k += kDepthBlock) {
      const int64_t depth = min(kDepthBlock, depth_ - k);
      float* sums = sums_;
      for (int64_t n = row_begin; n < row_end; n += kBlock) {
        const Panel weights = copy_panel(n, row_end, k);
        const bool last_rows = n + kBlock >= row_end;
        const bool last_depth = k + depth == depth_;
        const int64_t next_n = last_rows && !last_depth ? row_begin : n + kBlock;
        const int64_t next_k = !last_rows ? k : last_depth ? 0 : k + kDepthBlock;
        int64_t next_row = 0;
        for (int64_t t = t_begin; t < t_end; t += kBlock, sums += 4 * kTileFloats) {
          const Tokens block = tokens(t, k);
          shape_.set(block.first_width, block.second_width);
          if (k == 0)
            zero_sums();
          else
            load_sums(sums, block);
          const int64_t rows_now = (kBlock - next_row) * kBlock / round_up(t_end - t, kBlock);
          prefetch_rows(next_n + next_row, rows_now, rows_after, next_k);
          next_row += rows_now;
          multiply(weights, block, depth);
          if (last_depth)
            write(n, row_end, t);
          else
            store_sums(sums, block);
        }
      }
    }
  }

 private:
  Tokens tokens(int64_t t, int64_t k) const {
    const int64_t first = min(kTile, a_.num_tokens - t);
    const int64_t second = min(kTile, a_.num_tokens - t - first);
    const uint16_t* const packed = static_cast<const uint16_t*>(a_.packed);
    return {packed + packed_place(a_.num_tokens, a_.depth, t, k),
            packed + packed_place(a_.num_tokens, a_.depth, t + first, k), first, second};
  }

  Panel panel(int64_t n, int64_t k) const {
    return {a_.w + n * a_.w_stride + k, a_.w_stride, kTile * a_.w_stride, kTileDepth};
  }

  /// Weights in the order in which they are multiplied, zeros beyond the edges: rows of the matrix lie at a distance
  /// that is often a multiple of a power of two, so that few of them would stay in the L1 cache.
  Panel copy_panel(int64_t n, int64_t row_end, int64_t k) {
    const int64_t rows = min(kBlock, row_end - n), depth = min(kDepthBlock, a_.depth - k);
    const uint16_t* const w = a_.w + n * a_.w_stride + k;
    for (int64_t r = 0; r < kBlock; ++r) {
      uint16_t* out = panel_ + r * kTileDepth;
      for (int64_t i = 0; i < depth; i += kTileDepth, out += kBlock * kTileDepth) {
        const uint16_t* const p = w + r * a_.w_stride + i;
        const int64_t count = min(kTileDepth, depth - i);
        store(out, r >= rows ? U32{} : count == kTileDepth ? load<U32>(p) : load_part<U32>(p, count));
      }
    }
    compiler_fence();
    return {panel_, kTileDepth, kTile * kTileDepth, kBlock * kTileDepth};
  }

  /// Brings a depth block of some rows to L2.
  void prefetch_rows(int64_t n, int64_t rows, int64_t row_end, int64_t k) const {
    for (int64_t row = n; row < min(n + rows, row_end); ++row)
      for (int64_t i = k; i < min(k + kDepthBlock, a_.depth); i += kTileDepth)
        _mm_prefetch(reinterpret_cast<const char*>(a_.w + row * a_.w_stride + i), _MM_HINT_T1);
  }

  void write(int64_t n, int64_t row_end, int64_t t) {
    const Tokens block = tokens(t, 0);
    store_sums(out_, block);
    compiler_fence();
    const int64_t rows = min(kBlock, row_end - n);
    write_sums(a_, out_, 2 * kTileFloats, n, t, rows, block.first_width);
    if (block.second_width)
      write_sums(a_, out_ + kTileFloats, 2 * kTileFloats, n, t + block.first_width, rows, block.second_width);
  }

  const LinearArgs& a_;
  const int64_t depth_;
  float* const sums_;
  uint16_t* const panel_;
  float* const out_;
  TileShape shape_;
};

void linear_rows(const LinearArgs& a, int64_t row_begin, int64_t row_end, void* scratch) {
  LinearBlocks blocks(a, static_cast<float*>(scratch));
  for (int64_t t = 0; t < a.num_tokens; t += kTokenChunk) {
    const int64_t t_end = min(t + kTokenChunk, a.num_tokens);
    if (t_end - t <= kFewTokens) {
      for (int64_t n = row_begin; n < row_end; n += kBlock)
        for (int64_t i = t; i < t_end; i += kBlock) blocks.few_tokens(n, min(n + kBlock, row_end), i);
      continue;
    }
    for (int64_t n = row_begin; n < row_end; n += kRowChunk)
      blocks.many_tokens(n, min(n + kRowChunk, row_end), row_end, t, t_end);
  }
}

#include "ops/cpu/attention_amx.inc"

}  // namespace

const Kernels kAmxKernels = {
    .linear_rows = linear_rows,
    .linear_scratch_bytes = kScratchFloats * 4,
    .linear_packed_bytes = linear_packed_bytes,
    .linear_pack = linear_pack,
    .sum_of_squares = sum_of_squares,
    .sum = sum,
    .scale_by = scale_by,
    .add = add,
    .mul = mul,
    .lookup_mul = lookup_mul,
    .scale_lookup_scale = scale_lookup_scale,
    .rotate = rotate,
    .clamp = clamp,
    .add_bias = add_bias,
    .normalize = normalize,
    .add_fused = add_fused,
    .standardize = standardize,
    .widen = widen_row,
    .narrow = narrow_row,
    .add_product = add_product,
    .dot = dot,
    .add_scaled = add_scaled,
    .attention_load_rows = attention_load_rows_amx,
    .attention_block = attention_block_amx,
    .attention_merge = attention_merge,
    .attention_finish = attention_finish,
};

}  // namespace carat::ops::cpu
