// Contract   cuda_ops.h linear_few: 1 to 8 tokens, K % 32 == 0, with the norms before and the activation after it.
// Mapping    weights are the M operand, tokens the N operand. A block per SM owns consecutive rows of w. A copy warp
//            streams them, 8 rows by up to 2048 k a stage and one bulk copy a row, through a ring in shared memory;
//            eight warps multiply, 32 k at a time in turn; one warp adds their sums and writes. For one token
//            every block makes the input itself (residual and norms), since a launch of its own would cost more.
// Resources  320 threads; a ring as large as the block's share of w, at most what shared memory holds.
// Roofline   bytes = 2*N*K. The copy warp starts before the kernel's inputs are ready (dependent launch).
// Numerics   f32 sums over k in an order that depends on K only, not on the number of tokens or of SMs.
// Checks     racecheck reports the sums: it does not see that lane 0 arrives for its whole warp, after __syncwarp.
// Reference  ops/ref/linear.cc, elementwise.cc       Test  ops/cuda/cuda_ops_test.cc
#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"
#include "ops/cuda/row.cuh"

namespace carat::cuda {

namespace {

constexpr int kRows = 8;         // of w in a stage
constexpr int kStep = 32;        // k of a warp's turn: 16 bytes a lane
constexpr int kMaxPiece = 2048;  // k of a stage
constexpr int kWarps = kRowThreads / 32;
constexpr int kCopyWarp = kWarps, kWriteWarp = kWarps + 1;
constexpr int kThreads = kRowThreads + 64;
constexpr int kSumSlots = 4;  // tiles of 8 rows whose sums wait for the writing warp
constexpr int kTile = kRows * kFewTokens;
constexpr int kSumBytes = kSumSlots * kWarps * kTile * 4;
constexpr int kMaxSmem = 226 * 1024;
// Rows lie 64 bytes off a multiple of 128 apart: eight lanes that read 16 bytes each of two rows meet no bank twice.
constexpr int pitch_of(int k) { return (2 * k + 127) / 128 * 128 + 64; }

struct Params {
  const bf16* w;
  int num_tokens, n, k;
  int unit;           // rows of w that stay together
  int piece, pieces;  // k of a stage, stages of a row
  int stages, pitch, x_pitch;
  const bf16* x;
  int64_t x_stride;
  // The input made from the residual stream, see Residual.
  const bf16 *h, *y, *w_post, *w_next;
  bf16* h_out;
  float scalar, eps;
  bf16* out;
  int64_t out_stride;
  const bf16* factor;
  int64_t factor_stride;
  bool late_trigger;
};

/// One token's input x [C] into shared memory; the first block stores the new residual stream to h_out.
template <int V>
__device__ __forceinline__ void make_input(const Params& p, unsigned char* x, RowSums& sums) {
  const int c = p.k;
  // Weights of the norms do not depend on other kernels: they are fetched before the wait.
  uint4 post[V], next[V];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const int at = 8 * (threadIdx.x + i * kRowThreads);
    if (at < c && p.w_post) post[i] = *reinterpret_cast<const uint4*>(p.w_post + at);
    if (at < c && p.w_next) next[i] = *reinterpret_cast<const uint4*>(p.w_next + at);
  }
  pdl_wait();
  Row<V> f, h;
  h.load(p.h, c);
  if (p.y) {
    f.load(p.y, c);
    const float inv = f.inverse_rms(c, p.eps, sums);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (8 * (threadIdx.x + i * kRowThreads) >= c) break;
      const Vec8 w = unpack8(post[i]);
#pragma unroll
      for (int j = 0; j < 8; ++j)
        h.part[i].v[j] = round_bf16(round_bf16(h.part[i].v[j] + round_bf16(f.part[i].v[j] * inv * w.v[j])) * p.scalar);
    }
    if (blockIdx.x == 0) h.store(p.h_out, c);
  }
  if (p.w_next) {
    const float inv = h.inverse_rms(c, p.eps, sums);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      if (8 * (threadIdx.x + i * kRowThreads) >= c) break;
      const Vec8 w = unpack8(next[i]);
#pragma unroll
      for (int j = 0; j < 8; ++j) h.part[i].v[j] = h.part[i].v[j] * inv * w.v[j];
    }
  }
  h.store(reinterpret_cast<bf16*>(x), c);
}

__device__ __forceinline__ void copy_input(const Params& p, unsigned char* x) {
  pdl_wait();
  const int vectors = p.k / 8;
#pragma unroll 8
  for (int e = threadIdx.x; e < p.num_tokens * vectors; e += kRowThreads) {
    const int t = e / vectors, i = e % vectors;
    *reinterpret_cast<uint4*>(x + t * p.x_pitch + i * 16) =
        __ldcg(reinterpret_cast<const uint4*>(p.x + t * p.x_stride) + i);
  }
}

/// V: vectors of a thread in the norms, 0: the input is x as it is.
template <Epilogue E, int V>
__global__ void __launch_bounds__(kThreads, 1) few_kernel(const Params p) {
  extern __shared__ __align__(128) unsigned char smem[];
  unsigned char* const ring = smem;
  unsigned char* const x = ring + p.stages * kRows * p.pitch;
  float* const sums = reinterpret_cast<float*>(x + p.num_tokens * p.x_pitch);
  uint64_t* const full = reinterpret_cast<uint64_t*>(reinterpret_cast<unsigned char*>(sums) + kSumBytes);
  uint64_t* const empty = full + p.stages;
  uint64_t* const sums_full = empty + p.stages;
  uint64_t* const sums_empty = sums_full + kSumSlots;
  __shared__ RowSums::Memory row_sums_memory;

  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  if (!p.late_trigger) pdl_trigger();
  if (tid == 0) {
    for (int s = 0; s < p.stages; ++s) {
      mbar_init(&full[s], 1);
      mbar_init(&empty[s], kWarps);
    }
    for (int s = 0; s < kSumSlots; ++s) {
      mbar_init(&sums_full[s], kWarps);
      mbar_init(&sums_empty[s], 1);
    }
    mbar_init_fence();
  }
  __syncthreads();

  const int units = p.n / p.unit, blocks = gridDim.x, block = blockIdx.x;
  const int row_begin = static_cast<int>(static_cast<int64_t>(units) * block / blocks) * p.unit;
  const int row_end = static_cast<int>(static_cast<int64_t>(units) * (block + 1) / blocks) * p.unit;
  const int tiles = (row_end - row_begin + kRows - 1) / kRows;

  if (warp == kCopyWarp) {
    const uint64_t policy = evict_first_policy();
    int slot = 0;
    uint32_t lap = 0;
    for (int tile = 0; tile < tiles; ++tile) {
      const int row = row_begin + tile * kRows, rows = min(kRows, row_end - row);
      for (int k0 = 0; k0 < p.k; k0 += p.piece) {
        const int bytes = 2 * min(p.piece, p.k - k0);
        if (lap > 0) mbar_wait(&empty[slot], (lap - 1) & 1);
        if (lane == 0) mbar_arrive_expect(&full[slot], rows * bytes);
        __syncwarp();
        if (lane < rows)
          copy_bulk(smem_addr(ring) + (slot * kRows + lane) * p.pitch,
                    p.w + static_cast<int64_t>(row + lane) * p.k + k0, bytes, &full[slot], policy);
        if (++slot == p.stages) {
          slot = 0;
          ++lap;
        }
      }
    }
    return;
  }

  if (warp == kWriteWarp) {
    // A lane has outputs lane and lane + 32 of a tile: row o / 8, token o % 8.
    float gate[2] = {};
    pdl_wait();
    if (p.late_trigger) pdl_trigger();
    for (int tile = 0; tile < tiles; ++tile) {
      const int slot = tile % kSumSlots;
      mbar_wait(&sums_full[slot], static_cast<uint32_t>(tile / kSumSlots) & 1);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int o = lane + 32 * i, t = o % kFewTokens;
        const int row = row_begin + tile * kRows + o / kFewTokens;
        float v = 0.0f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) v += sums[(slot * kWarps + w) * kTile + o];
        v = round_bf16(v);
        const bool wanted = t < p.num_tokens && row < row_end;
        if constexpr (E == Epilogue::kGeglu) {
          if (tile % 2 == 0) {
            gate[i] = round_bf16(gelu_tanh(v));
          } else if (wanted) {
            const int column = (row_begin + (tile - 1) * kRows) / 2 + o / kFewTokens;
            p.out[t * p.out_stride + column] = __float2bfloat16_rn(gate[i] * v);
          }
        } else if (wanted) {
          if constexpr (E == Epilogue::kGeluMul)
            v = round_bf16(gelu_tanh(v)) * __bfloat162float(p.factor[t * p.factor_stride + row]);
          p.out[t * p.out_stride + row] = __float2bfloat16_rn(v);
        }
      }
      __syncwarp();
      if (lane == 0) mbar_arrive(&sums_empty[slot]);
    }
    return;
  }

  RowSums row_sums{row_sums_memory};
  if constexpr (V == 0)
    copy_input(p, x);
  else
    make_input<V>(p, x, row_sums);
  named_barrier(kRowBarrier, kRowThreads);

  // Lane (g, q) holds 8 values of k from row g of w and the same 8 of token g: four k pairs, which are the fragments of
  // two products. Which k a pair stands for does not matter as long as both operands agree.
  const int g = lane / 4, q = lane % 4;
  const bool has_token = g < p.num_tokens;
  const uint32_t w_lane = smem_addr(ring) + g * p.pitch + q * 16;
  const uint32_t x_lane = smem_addr(x) + g * p.x_pitch + q * 16;
  int slot = 0;
  uint32_t lap = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    float even[4] = {}, odd[4] = {};
    for (int k0 = 0; k0 < p.k; k0 += p.piece) {
      const int steps = min(p.piece, p.k - k0) / kStep;
      const uint32_t w_at = w_lane + slot * kRows * p.pitch, x_at = x_lane + k0 * 2;
      mbar_wait(&full[slot], lap & 1);
#pragma unroll 4
      for (int i = warp; i < steps; i += kWarps) {
        const uint4 a = load_shared_16(w_at + i * (2 * kStep));
        uint4 b = make_uint4(0, 0, 0, 0);
        if (has_token) b = load_shared_16(x_at + i * (2 * kStep));
        mma_bf16(even, {a.x, 0, a.y, 0}, b.x, b.y);
        mma_bf16(odd, {a.z, 0, a.w, 0}, b.z, b.w);
      }
      __syncwarp();
      if (lane == 0) mbar_arrive(&empty[slot]);
      if (++slot == p.stages) {
        slot = 0;
        ++lap;
      }
    }
    const int sum_slot = tile % kSumSlots;
    if (tile >= kSumSlots) mbar_wait(&sums_empty[sum_slot], static_cast<uint32_t>(tile / kSumSlots - 1) & 1);
    *reinterpret_cast<float2*>(&sums[(sum_slot * kWarps + warp) * kTile + 2 * lane]) =
        make_float2(even[0] + odd[0], even[1] + odd[1]);
    __syncwarp();
    if (lane == 0) mbar_arrive(&sums_full[sum_slot]);
  }
}

int smem_without_ring(int num_tokens, int k) { return num_tokens * pitch_of(k) + kSumBytes + 2 * kSumSlots * 8 + 128; }
int piece_of(int k) {
  const int pieces = (k + kMaxPiece - 1) / kMaxPiece;
  return ((k + pieces - 1) / pieces + kStep - 1) / kStep * kStep;
}

template <Epilogue E, int V>
void launch_one(const Launch& launch, const Params& p, int blocks, int bytes) {
  static const bool allowed = [] {
    allow_smem(few_kernel<E, V>, kMaxSmem);
    return true;
  }();
  static_cast<void>(allowed);
  launch_kernel(launch, few_kernel<E, V>, dim3(blocks), dim3(kThreads), bytes, p);
}

template <Epilogue E>
void launch_for(const Launch& launch, const Params& p, int blocks, int bytes) {
  if (!p.h) return launch_one<E, 0>(launch, p, blocks, bytes);
  if (p.k <= 8 * kRowThreads) return launch_one<E, 1>(launch, p, blocks, bytes);
  if (p.k <= 16 * kRowThreads) return launch_one<E, 2>(launch, p, blocks, bytes);
  launch_one<E, kRowVectors>(launch, p, blocks, bytes);
}

}  // namespace

bool linear_few_fits(int num_tokens, int k) {
  // At least three stages, so that a copy, a product and a free slot overlap.
  return num_tokens <= kFewTokens && k % kStep == 0 &&
         smem_without_ring(num_tokens, k) + 3 * (kRows * pitch_of(piece_of(k)) + 16) <= kMaxSmem;
}

void linear_few(const Launch& launch, const FewParams& f) {
  if (f.num_tokens == 0) return;
  CARAT_CHECK(linear_few_fits(f.num_tokens, f.k), str_cat("linear_few: ", f.num_tokens, " tokens of ", f.k));
  CARAT_CHECK(!f.input.h || (f.num_tokens == 1 && f.k <= 8 * kRowThreads * kRowVectors),
              "linear_few: the residual stream of one token, of up to 8192 values");
  Params p{};
  p.w = static_cast<const bf16*>(f.w);
  p.num_tokens = f.num_tokens;
  p.n = f.n;
  p.k = f.k;
  p.unit = f.epilogue == Epilogue::kGeglu ? 16 : 1;
  CARAT_CHECK(f.n % p.unit == 0, "linear_few: gate and up come in groups of 16 rows");
  p.piece = piece_of(f.k);
  p.pieces = (f.k + p.piece - 1) / p.piece;
  p.pitch = pitch_of(p.piece);
  p.x_pitch = pitch_of(f.k);
  p.x = static_cast<const bf16*>(f.x);
  p.x_stride = f.x_stride;
  p.h = static_cast<const bf16*>(f.input.h);
  p.y = static_cast<const bf16*>(f.input.y);
  p.w_post = static_cast<const bf16*>(f.input.w_post);
  p.w_next = static_cast<const bf16*>(f.input.w_next);
  p.h_out = static_cast<bf16*>(f.input.h_out);
  p.scalar = f.input.scalar;
  p.eps = f.input.eps;
  p.out = static_cast<bf16*>(f.out);
  p.out_stride = f.out_stride;
  p.factor = static_cast<const bf16*>(f.factor);
  p.factor_stride = f.factor_stride;
  p.late_trigger = f.late_trigger;
  const int units = f.n / p.unit, blocks = std::min(launch.num_sms, units);
  CARAT_CHECK(blocks >= f.num_tokens, "linear_few: fewer rows than tokens");
  const int most_rows = (units + blocks - 1) / blocks * p.unit;
  const int fixed = smem_without_ring(f.num_tokens, f.k), stage = kRows * p.pitch + 16;
  p.stages = std::min((most_rows + kRows - 1) / kRows * p.pieces, (kMaxSmem - fixed) / stage);
  const int bytes = fixed + p.stages * stage;
  switch (f.epilogue) {
    case Epilogue::kBf16:
      return launch_for<Epilogue::kBf16>(launch, p, blocks, bytes);
    case Epilogue::kGeglu:
      return launch_for<Epilogue::kGeglu>(launch, p, blocks, bytes);
    case Epilogue::kGeluMul:
      return launch_for<Epilogue::kGeluMul>(launch, p, blocks, bytes);
    case Epilogue::kF32:
      break;
  }
  CARAT_CHECK(false, "linear_few: no such epilogue");
}

}  // namespace carat::cuda
