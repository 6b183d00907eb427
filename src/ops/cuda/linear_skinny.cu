// Contract   cuda_ops.h linear_skinny, experts. 1 <= tokens per group <= 64, K % 16 == 0, 16-byte rows.
// Mapping    weights are the M operand (64 rows a tile), tokens the N operand (8 * NT columns). The stages (tile,
//            chunk of 128 k) of the whole product are dealt in contiguous ranges over one block per SM. Four producer
//            warps stream stages into a ring in shared memory, eight warps multiply: four groups of 16 rows times two
//            halves of the chunk. A tile cut by a range border is summed through global memory by the block that
//            arrives last, in block order, so the result is the same in every run.
// Resources  one block of 384 threads per SM; ring of 170 to 200 KB.
// Roofline   bytes = 2*N*K (+ tokens); memory-bound up to 64 tokens. Weight loads start before the kernel's inputs
//            are ready (dependent launch).
// Numerics   f32 sums over k in an order that depends on N, K and the number of SMs, not on the number of tokens. For
//            experts it also depends on how many of them have tokens.
// Reference  ops/ref/linear.cc, experts.cc           Test  ops/cuda/cuda_ops_test.cc
#include <algorithm>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"

namespace carat::cuda {

namespace {

constexpr int kRows = 64;                // weight rows of a tile
constexpr int kChunk = 128;              // k of a stage
constexpr int kPitch = 2 * kChunk + 16;  // bytes between rows in shared memory; 17 * 16: no bank conflicts for ldmatrix
constexpr int kConsumers = 256;
constexpr int kProducers = 128;
constexpr int kThreads = kConsumers + kProducers;
constexpr int kMaxTiles = 1 << 15;  // counters in the workspace
constexpr int kMaxExperts = 256;

template <int NT>
struct Layout {
  static constexpr int kTokens = 8 * NT;
  static constexpr int kStageBytes = (kRows + kTokens) * kPitch;
  static constexpr int kReduceBytes = 128 * NT * 4 * 4;
  static constexpr int kStages = std::min(10, (205 * 1024 - kReduceBytes) / kStageBytes);
  static constexpr int kSmemBytes = kStages * kStageBytes + kReduceBytes + 2 * kStages * 8 + 64;
};

struct Params {
  const bf16* w;
  const bf16* x;
  int64_t x_stride;
  void* y;
  int64_t y_stride;
  int num_tokens, n, k;
  float* partials;    // [2 * blocks][NT * 4][128]
  int32_t* counters;  // [kMaxTiles], zero between launches
  // Experts only.
  const int32_t* counts;
  const int32_t* lists;
  int capacity, num_experts, top_k;
  bool x_by_pair;
};

/// What a tile multiplies: which weights and which tokens.
struct Tile {
  int expert, first_token, num_tokens, row0;
};

template <int NT, Epilogue E, bool kGrouped>
__global__ void __launch_bounds__(kThreads, 1) skinny_kernel(const Params p) {
  using L = Layout<NT>;
  extern __shared__ __align__(128) unsigned char smem[];
  unsigned char* const ring = smem;
  float* const reduce = reinterpret_cast<float*>(smem + L::kStages * L::kStageBytes);
  uint64_t* const full = reinterpret_cast<uint64_t*>(smem + L::kStages * L::kStageBytes + L::kReduceBytes);
  uint64_t* const empty = full + L::kStages;
  int* const flag = reinterpret_cast<int*>(empty + L::kStages);
  __shared__ int group_begin[kGrouped ? kMaxExperts + 1 : 1];  // groups before expert e

  const int tid = threadIdx.x, warp = tid / 32, lane = tid % 32;
  pdl_trigger();
  if (tid == 0) {
    for (int s = 0; s < L::kStages; ++s) {
      mbar_init(&full[s], kProducers);
      mbar_init(&empty[s], kConsumers / 32);
    }
    mbar_init_fence();
  }
  int num_groups = 1;
  if constexpr (kGrouped) {
    pdl_wait();  // the schedule itself depends on the router
    if (warp == 0) {
      int before = 0;
      for (int e0 = 0; e0 < p.num_experts; e0 += 32) {
        const int groups = e0 + lane < p.num_experts ? (p.counts[e0 + lane] + L::kTokens - 1) / L::kTokens : 0;
        int inclusive = groups;
        for (int o = 1; o < 32; o *= 2) {
          const int other = __shfl_up_sync(0xffffffffu, inclusive, o);
          if (lane >= o) inclusive += other;
        }
        if (e0 + lane < p.num_experts) group_begin[e0 + lane] = before + inclusive - groups;
        before += __shfl_sync(0xffffffffu, inclusive, 31);
      }
      if (lane == 0) group_begin[p.num_experts] = before;
    }
  }
  __syncthreads();
  if constexpr (kGrouped) num_groups = group_begin[p.num_experts];

  const int row_tiles = (p.n + kRows - 1) / kRows;
  const int chunks = (p.k + kChunk - 1) / kChunk;
  const int64_t total = static_cast<int64_t>(num_groups) * row_tiles * chunks;
  const int blocks = static_cast<int>(min(static_cast<int64_t>(gridDim.x), total)),
            block = blockIdx.x;  // no empty ranges
  if (block >= blocks) return;
  const auto range_begin = [&](int b) { return static_cast<int>(total * b / blocks); };
  const int begin = range_begin(block), end = range_begin(block + 1);

  const auto tile_of = [&](int tile) {
    if constexpr (!kGrouped) return Tile{0, 0, p.num_tokens, tile * kRows};
    const int group = tile / row_tiles;
    int lo = 0, hi = p.num_experts;  // the expert with group_begin[lo] <= group < group_begin[lo + 1]
    while (hi - lo > 1) {
      const int mid = (lo + hi) / 2;
      (group_begin[mid] <= group ? lo : hi) = mid;
    }
    const int first = (group - group_begin[lo]) * L::kTokens;
    return Tile{lo, first, min(L::kTokens, p.counts[lo] - first), (tile % row_tiles) * kRows};
  };

  if (warp >= kConsumers / 32) {
    // ---- producers: thread i copies 16-byte piece i % 16 of rows i / 16, i / 16 + 8, ...
    const int producer = tid - kConsumers, piece = producer % 16, row = producer / 16;
    const uint64_t policy = evict_first_policy();
    const uint32_t ring_base = smem_addr(ring) + static_cast<uint32_t>(row * kPitch + piece * 16);
    constexpr int kRowStep = kProducers / 16;
    // Where the next stage's weights and tokens come from. A tile's addresses are worked out once: stages are short.
    struct Cursor {
      int stage, chunk, tile;
      const bf16* source;
      Tile at;
    };
    const auto enter_tile = [&](Cursor& c) { c.at = tile_of(c.tile); };
    const auto advance = [&](Cursor& c) {
      ++c.stage;
      if (++c.chunk == chunks) {
        c.chunk = 0;
        ++c.tile;
        return true;
      }
      return false;
    };
    Cursor w{begin, begin % chunks, begin / chunks, nullptr, {}};
    const auto enter_weights = [&] {
      enter_tile(w);
      w.source = p.w + (static_cast<int64_t>(w.at.expert) * p.n + w.at.row0 + row) * p.k + piece * 8;
    };
    const auto load_weights = [&] {
      const int k0 = w.chunk * kChunk;
      if (k0 + piece * 8 < p.k) {
        const bf16* src = w.source + k0;
        const uint32_t dst = ring_base + static_cast<uint32_t>((w.stage - begin) % L::kStages * L::kStageBytes);
        const int rows = p.n - w.at.row0 - row;
#pragma unroll
        for (int r = 0; r < kRows / kRowStep; ++r)
          if (r * kRowStep < rows)
            copy_async_16(dst + r * kRowStep * kPitch, src + static_cast<int64_t>(r * kRowStep) * p.k, policy);
      }
      if (advance(w) && w.stage < end) enter_weights();
    };
    Cursor x{begin, begin % chunks, begin / chunks, nullptr, {}};
    const bf16* x_source[NT];  // of the token rows row, row + 8, ...; null past the last
    const auto enter_tokens = [&] {
      enter_tile(x);
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        const int i = row + j * kRowStep;
        x_source[j] = nullptr;
        if (i >= x.at.num_tokens) continue;
        int64_t x_row = i;
        if constexpr (kGrouped) {
          const int pair = p.lists[static_cast<int64_t>(x.at.expert) * p.capacity + x.at.first_token + i];
          x_row = p.x_by_pair ? pair : pair / p.top_k;
        }
        x_source[j] = p.x + x_row * p.x_stride + piece * 8;
      }
    };
    const auto load_tokens = [&] {
      const int slot = (x.stage - begin) % L::kStages, k0 = x.chunk * kChunk;
      if (k0 + piece * 8 < p.k) {
        const uint32_t dst = ring_base + static_cast<uint32_t>(slot * L::kStageBytes + kRows * kPitch);
#pragma unroll
        for (int j = 0; j < NT; ++j)
          if (x_source[j]) copy_async_16(dst + static_cast<uint32_t>(j * kRowStep * kPitch), x_source[j] + k0);
      }
      copies_arrive(&full[slot]);
      if (advance(x) && x.stage < end) enter_tokens();
    };
    const int ahead = min(end, begin + L::kStages);
    enter_weights();
    for (int s = begin; s < ahead; ++s) load_weights();
    if constexpr (!kGrouped) pdl_wait();
    enter_tokens();
    for (int s = begin; s < ahead; ++s) load_tokens();
    for (int s = ahead; s < end; ++s) {
      const int i = s - begin;
      mbar_wait(&empty[i % L::kStages], static_cast<uint32_t>((i / L::kStages - 1) & 1));
      load_weights();
      load_tokens();
    }
    return;
  }

  // ---- consumers
  if constexpr (!kGrouped) pdl_wait();  // before the first write of the workspace and of y
  const int row_group = warp % 4, half = warp / 4;
  float acc[NT][4];
  for (auto& a : acc) a[0] = a[1] = a[2] = a[3] = 0.0f;
  // ldmatrix rows: weights: lanes 0-7 rows 0-7, 8-15 rows 8-15 at k, 16-31 the same at k + 8; tokens: 8 tokens, four
  // times 8 k.
  const uint32_t w_offset = static_cast<uint32_t>((row_group * 16 + lane % 16) * kPitch + (lane / 16) * 16);
  const uint32_t x_offset = static_cast<uint32_t>((kRows + lane % 8) * kPitch + (lane / 8) * 16);
  const uint32_t ring_addr = smem_addr(ring);

  const auto finish_tile = [&](int tile, int segment_begin, int segment_end) {
    // The two halves of k meet in shared memory; afterwards the first four warps hold the sums.
    if (half == 1) {
      for (int j = 0; j < NT; ++j)
        for (int i = 0; i < 4; ++i) reduce[(j * 4 + i) * 128 + tid - 128] = acc[j][i];
    }
    named_barrier(1, kConsumers);
    if (half == 0) {
      for (int j = 0; j < NT; ++j)
        for (int i = 0; i < 4; ++i) acc[j][i] += reduce[(j * 4 + i) * 128 + tid];
    }
    named_barrier(1, kConsumers);
    if (half == 1) return;
    const int tile_begin = tile * chunks, tile_end = tile_begin + chunks;
    if (segment_begin != tile_begin || segment_end != tile_end) {
      const int slot = 2 * block + (segment_begin == begin ? 0 : 1);
      float* mine = p.partials + static_cast<int64_t>(slot) * NT * 4 * 128;
      for (int j = 0; j < NT; ++j)
        for (int i = 0; i < 4; ++i) mine[(j * 4 + i) * 128 + tid] = acc[j][i];
      __threadfence();
      named_barrier(2, 128);
      // Blocks whose ranges meet this tile.
      int first = static_cast<int>((static_cast<int64_t>(tile_begin) * blocks) / total);
      while (range_begin(first + 1) <= tile_begin) ++first;
      while (range_begin(first) > tile_begin) --first;
      int last = first;
      while (range_begin(last + 1) < tile_end) ++last;
      if (tid == 0) *flag = atomicAdd(&p.counters[tile], 1) == last - first;
      named_barrier(2, 128);
      if (!*flag) return;
      __threadfence();
      if (tid == 0) p.counters[tile] = 0;
      for (auto& a : acc) a[0] = a[1] = a[2] = a[3] = 0.0f;
      for (int b = first; b <= last; ++b) {
        const int s = 2 * b + (range_begin(b) >= tile_begin || range_begin(b) / chunks == tile ? 0 : 1);
        const float* part = p.partials + static_cast<int64_t>(s) * NT * 4 * 128;
        for (int j = 0; j < NT; ++j)
          for (int i = 0; i < 4; ++i) acc[j][i] += __ldcg(&part[(j * 4 + i) * 128 + tid]);
      }
    }
    // Write out: this thread has rows r and r + 8, token columns c and c + 1 of each group of eight.
    const Tile t = tile_of(tile);
    const int r = t.row0 + row_group * 16 + lane / 4;
    for (int j = 0; j < NT; ++j) {
      for (int c = 0; c < 2; ++c) {
        const int i = j * 8 + 2 * (lane % 4) + c;
        if (i >= t.num_tokens) continue;
        int64_t row = i;
        if constexpr (kGrouped) row = p.lists[static_cast<int64_t>(t.expert) * p.capacity + t.first_token + i];
        const float lo = acc[j][c], hi = acc[j][2 + c];
        if constexpr (E == Epilogue::kGeglu) {
          if (r + 8 >= p.n) continue;
          const float gate = round_bf16(gelu_tanh(round_bf16(lo)));
          const int out = (t.row0 + row_group * 16) / 2 + lane / 4;
          static_cast<bf16*>(p.y)[row * p.y_stride + out] = __float2bfloat16_rn(gate * round_bf16(hi));
        } else if constexpr (E == Epilogue::kF32) {
          float* y = static_cast<float*>(p.y) + row * p.y_stride;
          if (r < p.n) y[r] = lo;
          if (r + 8 < p.n) y[r + 8] = hi;
        } else {
          bf16* y = static_cast<bf16*>(p.y) + row * p.y_stride;
          if (r < p.n) y[r] = __float2bfloat16_rn(lo);
          if (r + 8 < p.n) y[r + 8] = __float2bfloat16_rn(hi);
        }
      }
    }
  };

  int segment_begin = begin;
  for (int s = begin; s < end; ++s) {
    const int i = s - begin, slot = i % L::kStages;
    const int steps = min(kChunk, p.k - (s % chunks) * kChunk) / 16;  // k16 steps in this stage
    mbar_wait(&full[slot], static_cast<uint32_t>((i / L::kStages) & 1));
    const uint32_t base = ring_addr + static_cast<uint32_t>(slot * L::kStageBytes);
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int step = half * 4 + pair * 2;
      if (step >= steps) break;
      const uint32_t at = static_cast<uint32_t>(step * 32);
      uint32_t a0[4], a1[4];
      ldmatrix_x4(a0, base + w_offset + at);
      ldmatrix_x4(a1, base + w_offset + at + 32);
#pragma unroll
      for (int j = 0; j < NT; ++j) {
        uint32_t b[4];
        ldmatrix_x4(b, base + x_offset + static_cast<uint32_t>(j * 8 * kPitch) + at);
        mma_bf16(acc[j], a0, b[0], b[1]);
        if (step + 1 < steps) mma_bf16(acc[j], a1, b[2], b[3]);
      }
    }
    __syncwarp();
    if (lane == 0) mbar_arrive(&empty[slot]);
    if ((s + 1) % chunks == 0 || s + 1 == end) {
      finish_tile(s / chunks, segment_begin, s + 1);
      segment_begin = s + 1;
      for (auto& a : acc) a[0] = a[1] = a[2] = a[3] = 0.0f;
    }
  }
}

constexpr int kCombineThreads = 64;

/// y[t] = round(sum_j weights[t,j] * out[t * k + j]), j ascending. Eight columns a thread.
__global__ void __launch_bounds__(kCombineThreads)
    combine_kernel(bf16* y, const bf16* out, const float* weights, int k, int c) {
  pdl_trigger();
  pdl_wait();
  const int64_t t = blockIdx.y;
  const int i = 8 * (blockIdx.x * kCombineThreads + threadIdx.x);
  if (i >= c) return;
  float sum[8] = {};
#pragma unroll 8
  for (int j = 0; j < k; ++j) {
    const uint4 raw = *reinterpret_cast<const uint4*>(out + (t * k + j) * c + i);
    const float w = weights[t * k + j];
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sum[2 * e] += w * __uint_as_float(words[e] << 16);
      sum[2 * e + 1] += w * __uint_as_float(words[e] & 0xffff0000u);
    }
  }
  uint32_t words[4];
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(sum[2 * e], sum[2 * e + 1]);
    words[e] = *reinterpret_cast<const uint32_t*>(&two);
  }
  *reinterpret_cast<uint4*>(y + t * c + i) = make_uint4(words[0], words[1], words[2], words[3]);
}

template <int NT, Epilogue E, bool kGrouped>
void launch_one(const Launch& launch, const Params& p, int blocks) {
  using L = Layout<NT>;
  static const bool allowed = [] {
    allow_smem(skinny_kernel<NT, E, kGrouped>, L::kSmemBytes);
    return true;
  }();
  static_cast<void>(allowed);
  launch_kernel(launch, skinny_kernel<NT, E, kGrouped>, dim3(blocks), dim3(kThreads), L::kSmemBytes, p);
}

template <Epilogue E, bool kGrouped>
void launch_for_tokens(const Launch& launch, const Params& p, int tokens, int blocks) {
  if (tokens <= 8) return launch_one<1, E, kGrouped>(launch, p, blocks);
  if (tokens <= 16) return launch_one<2, E, kGrouped>(launch, p, blocks);
  if (tokens <= 32) return launch_one<4, E, kGrouped>(launch, p, blocks);
  launch_one<8, E, kGrouped>(launch, p, blocks);
}

Params params_for(const Launch& launch) {
  Params p{};
  p.counters = static_cast<int32_t*>(launch.workspace);
  p.partials = reinterpret_cast<float*>(p.counters + kMaxTiles);
  return p;
}

}  // namespace

int64_t workspace_bytes(int num_sms) { return kMaxTiles * 4 + int64_t{2} * num_sms * 8 * 4 * 128 * 4; }

void linear_skinny(const Launch& launch, void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,
                   int num_tokens, int n, int k, Epilogue epilogue) {
  if (num_tokens == 0) return;
  CARAT_CHECK(num_tokens <= 64 && k % 16 == 0 && n > 0, "linear_skinny: at most 64 tokens, K a multiple of 16");
  Params p = params_for(launch);
  p.w = static_cast<const bf16*>(w);
  p.x = static_cast<const bf16*>(x);
  p.x_stride = x_stride;
  p.y = y;
  p.y_stride = y_stride;
  p.num_tokens = num_tokens;
  p.n = n;
  p.k = k;
  const int stages = ((n + kRows - 1) / kRows) * ((k + kChunk - 1) / kChunk);
  CARAT_CHECK((n + kRows - 1) / kRows <= kMaxTiles, "linear_skinny: too many rows");
  const int blocks = std::min(launch.num_sms, stages);
  switch (epilogue) {
    case Epilogue::kBf16:
      return launch_for_tokens<Epilogue::kBf16, false>(launch, p, num_tokens, blocks);
    case Epilogue::kF32:
      return launch_for_tokens<Epilogue::kF32, false>(launch, p, num_tokens, blocks);
    case Epilogue::kGeglu:
      return launch_for_tokens<Epilogue::kGeglu, false>(launch, p, num_tokens, blocks);
    case Epilogue::kGeluMul:
      break;
  }
  CARAT_CHECK(false, "linear_skinny: no such epilogue");
}

void experts(const Launch& launch, const ExpertsParams& e) {
  if (e.num_tokens == 0) return;
  CARAT_CHECK(e.num_experts <= kMaxExperts && e.c % 16 == 0 && e.f % 16 == 0,
              "experts: at most 256 experts, sizes multiples of 16");
  Params p = params_for(launch);
  p.counts = e.counts;
  p.lists = e.lists;
  p.capacity = e.capacity;
  p.num_experts = e.num_experts;
  p.top_k = e.k;
  // Columns of a tile: twice the mean load, so that few experts need a second pass over their weights.
  const int columns = std::min(64, std::max(8, 2 * e.num_tokens * e.k / e.num_experts));
  const int max_groups = std::min(e.num_experts, e.num_tokens * e.k) + e.num_tokens * e.k / columns;
  CARAT_CHECK(static_cast<int64_t>(max_groups) * ((std::max(2 * e.f, e.c) + kRows - 1) / kRows) <= kMaxTiles,
              "experts: too many tokens in a step");
  p.w = static_cast<const bf16*>(e.gate_up);
  p.x = static_cast<const bf16*>(e.x);
  p.x_stride = e.c;
  p.y = e.act;
  p.y_stride = e.f;
  p.n = 2 * e.f;
  p.k = e.c;
  launch_for_tokens<Epilogue::kGeglu, true>(launch, p, columns, launch.num_sms);
  p.w = static_cast<const bf16*>(e.down);
  p.x = static_cast<const bf16*>(e.act);
  p.x_stride = e.f;
  p.y = e.out;
  p.y_stride = e.c;
  p.n = e.c;
  p.k = e.f;
  p.x_by_pair = true;
  launch_for_tokens<Epilogue::kBf16, true>(launch, p, columns, launch.num_sms);
  launch_kernel(launch, combine_kernel, dim3((e.c / 8 + kCombineThreads - 1) / kCombineThreads, e.num_tokens),
                dim3(kCombineThreads), 0, static_cast<bf16*>(e.y), static_cast<const bf16*>(e.out), e.weights, e.k,
                e.c);
}

}  // namespace carat::cuda
