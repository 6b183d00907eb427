// Contract   cuda_ops.h: sample.
// Mapping    One to kMaxPieces blocks of 32 warps a row, as many as the card has room for. The row is cut into segments
//            of 256 values, a warp reads one at a time (16 bytes a lane). The first pass leaves each segment's largest
//            value and its sum of weights relative to that; with several blocks a row they meet in `scratch`, and the
//            last to arrive does the rest, which visits only the segments that can hold what it looks for.
// Selection  What is kept is a prefix of the order (larger value first, lower id first), so it is named by its last
//            member, the cut. find_cut takes a lower bound of the cut from the segments' maxima or from the mass, lists
//            what lies above, sorts the list and walks it; if that is too much for the list, it halves the range of
//            values first. The draw then sums the kept weights per segment in id order.
// Adjusted   Penalties, biases and masks are applied by every load, so no adjusted copy of the row exists.
// Roofline   2 V bytes a row once (a block alone: about 12 us, bound by the exponentials); top-k 64 adds about 64
//            segments twice.
// Numerics   Weights and logits f32, sums of segments in a fixed order, sums above that in f64; integer atomics only.
//            The number of blocks a row does not change a bit of the result.
// Reference  sampling/sampler.cc                    Test  ops/cuda/sample_test.cc
#include <algorithm>
#include <cfloat>
#include <climits>

#include "ops/cuda/launch.cuh"
#include "ops/cuda/ptx.cuh"

namespace carat::cuda {

namespace {

constexpr int kThreads = 1024, kWarps = kThreads / 32;
constexpr int kSegment = 256;
constexpr int kMaxSegments = kMaxSampleVocab / kSegment;  // a thread per segment in scans
constexpr int kMaxPieces = 16;
constexpr int kList = 4096, kPerThread = kList / kThreads;
static_assert(kMaxSegments <= kThreads && kMaxSegments <= 32 * kWarps);
constexpr unsigned kAll = 0xffffffffu;

/// Order-preserving: larger floats have larger keys. NaN and -0 do not occur (load).
__device__ __forceinline__ uint32_t key_of(float x) {
  const uint32_t b = __float_as_uint(x);
  return (b & 0x80000000u) ? ~b : (b | 0x80000000u);
}
__device__ __forceinline__ float value_of(uint32_t key) {
  return __uint_as_float((key & 0x80000000u) ? (key & 0x7fffffffu) : ~key);
}

/// Where the blocks of a row meet.
struct RowScratch {
  uint32_t maxima[kMaxSegments];
  float sums[kMaxSegments];
  int32_t num_arrived, unused[3];  ///< 0 between launches
};

struct Shared {
  uint64_t list[kList];  // (~key, id): ascending is the selection order
  TokenBias biases[kMaxSampleBiases];
  uint32_t biased[kMaxSampleVocab / 32];              // bit set of their tokens
  double sums[kMaxSegments];                          // of weights
  uint32_t maxima[kMaxSegments + kMaxSegments / 32];  // keys, see maximum()
  double warp_sums[kWarps];
  SampleRow row;
  int count, found, last;
};

/// The last member kept.
struct Cut {
  uint32_t key;
  int32_t id;
  __device__ __forceinline__ bool keeps(uint32_t k, int32_t i) const { return k > key || (k == key && i <= id); }
};

struct Values {
  float v[8];
};

class RowSampler {
 public:
  __device__ RowSampler(Shared& shared, const bf16* logits, int vocab)
      : s_(shared),
        x_(logits),
        counts_(shared.row.counts),
        mask_(reinterpret_cast<const uint8_t*>(shared.row.mask)),
        vocab_(vocab),
        segments_((vocab + kSegment - 1) / kSegment),
        warp_(threadIdx.x / 32),
        lane_(threadIdx.x % 32),
        num_biases_(shared.row.num_biases),
        scale_(shared.row.inverse_temperature),
        weighted_(!shared.row.greedy || shared.row.logprobs) {
    if (num_biases_ > 0) read_biases();
  }

  /// The row's share of this block: maxima and sums of its segments. False: another block of the row goes on.
  __device__ bool read_row(RowScratch* scratch) {
    const int pieces = gridDim.x;
    const int each = (segments_ + pieces - 1) / pieces, begin = static_cast<int>(blockIdx.x) * each;
    first_pass(begin, min(begin + each, segments_));
    return pieces == 1 || join(scratch[blockIdx.y], begin, min(begin + each, segments_), pieces);
  }

  __device__ __forceinline__ int32_t run() {
    best_ = value_of(best_key());
    if (weighted_) {
      const int i = threadIdx.x;
      if (i < segments_) s_.sums[i] *= static_cast<double>(weight(value_of(maximum(i))));
      total_ = block_sum(my_sum());
    }
    const bool usable = fabsf(best_) <= FLT_MAX;
    if (usable && !s_.row.greedy) return draw();
    return mask_ && best_ == -INFINITY ? first_allowed() : first_best();
  }

  __device__ __forceinline__ void describe(int32_t token, SampleResult& out) {
    const SampleRow& r = s_.row;
    const double log_total = log(total_);
    const auto logprob = [&](float value) {
      return static_cast<float>(static_cast<double>(value - best_) * static_cast<double>(scale_) - log_total);
    };
    if (threadIdx.x == 0) out.logprob = logprob(load_one(token));
    for (int i = threadIdx.x; i < r.num_ids; i += kThreads) out.id_logprobs[i] = logprob(load_one(r.ids[i]));
    int n = 0;
    if (r.num_top > 0) {
      const Cut cut = find_cut(r.num_top, INFINITY, lower_bound(r.num_top));
      n = min(collect(cut.key, [&](uint32_t k, int32_t id) { return cut.keeps(k, id); }), r.num_top);
      sort(n);
      for (int i = threadIdx.x; i < n; i += kThreads) {
        out.top_ids[i] = static_cast<int32_t>(static_cast<uint32_t>(s_.list[i]));
        out.top_logprobs[i] = logprob(value_of(~static_cast<uint32_t>(s_.list[i] >> 32)));
      }
    }
    if (threadIdx.x == 0) out.num_top = n;
  }

 private:
  // ---- values
  /// Ids at .. at + 7, adjusted; beyond the row and outside the mask -infinity.
  __device__ __forceinline__ Values load(int at) const {
    Values r;
    const uint32_t allowed = at >= vocab_ ? 0u : mask_ ? static_cast<uint32_t>(__ldg(mask_ + at / 8)) : 0xffu;
    if (allowed == 0) {
#pragma unroll
      for (float& v : r.v) v = -INFINITY;
      return r;
    }
    const uint4 raw = __ldg(reinterpret_cast<const uint4*>(x_ + at));
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      r.v[2 * i] = clean(__uint_as_float(words[i] << 16));
      r.v[2 * i + 1] = clean(__uint_as_float(words[i] & 0xffff0000u));
    }
    if (counts_) penalise(r, at);
    if (num_biases_ > 0) {
      const uint32_t biased = (s_.biased[at / 32] >> (at % 32)) & 0xffu;
      if (biased) {
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (biased >> j & 1) r.v[j] = with_biases(r.v[j], at + j);
      }
    }
    if (allowed != 0xffu) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (!(allowed >> j & 1)) r.v[j] = -INFINITY;
    }
    return r;
  }
  __device__ float load_one(int32_t id) const {
    if (mask_ && !(mask_[id / 8] >> (id % 8) & 1)) return -INFINITY;
    float x = clean(__bfloat162float(x_[id]));
    if (counts_) x = penalised(x, counts_[id]);
    return num_biases_ > 0 ? with_biases(x, id) : x;
  }
  /// NaN counts as -infinity, -0 as 0.
  __device__ static __forceinline__ float clean(float x) { return x == x ? x + 0.0f : -INFINITY; }
  __device__ __forceinline__ void penalise(Values& r, int at) const {
    const uint4 raw = __ldcg(reinterpret_cast<const uint4*>(counts_ + at));  // written by launches before
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (words[i] == 0) continue;
      r.v[2 * i] = penalised(r.v[2 * i], words[i] & 0xffffu);
      r.v[2 * i + 1] = penalised(r.v[2 * i + 1], words[i] >> 16);
    }
  }
  __device__ float penalised(float x, uint32_t count) const {
    if (count == 0) return x;
    const SampleRow& r = s_.row;
    x = __fsub_rn(x, __fadd_rn(__fmul_rn(r.frequency_penalty, static_cast<float>(count)), r.presence_penalty));
    return clean(x > 0 ? __fdiv_rn(x, r.repetition_penalty) : __fmul_rn(x, r.repetition_penalty));
  }
  __device__ float with_biases(float x, int32_t id) const {
    int begin = 0, end = num_biases_;
    while (begin < end) {
      const int middle = (begin + end) / 2;
      if (s_.biases[middle].token < id)
        begin = middle + 1;
      else
        end = middle;
    }
    for (; begin < num_biases_ && s_.biases[begin].token == id; ++begin) x = __fadd_rn(x, s_.biases[begin].bias);
    return clean(x);
  }
  __device__ void read_biases() {
    for (int i = threadIdx.x; i < (vocab_ + 31) / 32; i += kThreads) s_.biased[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < num_biases_; i += kThreads) {
      const TokenBias b = s_.row.biases[i];
      s_.biases[i] = b;
      if (b.token >= 0 && b.token < vocab_) atomicOr(&s_.biased[b.token / 32], 1u << (b.token % 32));
    }
    __syncthreads();
  }
  /// exp of the distance to `base` in units of the temperature, as on the host.
  __device__ __forceinline__ float weight(float x, float base) const {
    const float z = (x - base) * scale_;
    return z > -87.0f ? expf(z) : 0.0f;
  }
  __device__ __forceinline__ float weight(float x) const { return weight(x, best_); }

  // ---- sums and scans over the block; each starts and ends with a barrier
  __device__ double block_sum(double v) {
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(kAll, v, o);
    __syncthreads();
    if (lane_ == 0) s_.warp_sums[warp_] = v;
    __syncthreads();
    double sum = s_.warp_sums[lane_];
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(kAll, sum, o);
    __syncthreads();
    return sum;
  }
  __device__ double warp_inclusive(double v) const {
    for (int o = 1; o < 32; o <<= 1) {
      const double below = __shfl_up_sync(kAll, v, o);
      if (lane_ >= o) v += below;
    }
    return v;
  }
  /// Sum of the threads up to this one; `total` gets all.
  __device__ double block_inclusive(double v, double& total) {
    v = warp_inclusive(v);
    __syncthreads();
    if (lane_ == 31) s_.warp_sums[warp_] = v;
    __syncthreads();
    const double warps = warp_inclusive(s_.warp_sums[lane_]);
    total = __shfl_sync(kAll, warps, 31);
    const double before = __shfl_sync(kAll, warps, warp_ == 0 ? 0 : warp_ - 1);
    __syncthreads();
    return warp_ == 0 ? v : v + before;
  }

  // ---- passes
  /// Keys of the segments' largest values. Padded, so that both a warp's own segments (32 apart) and neighbouring ones
  /// lie in different banks.
  __device__ uint32_t& maximum(int segment) const { return s_.maxima[segment + segment / 32]; }
  /// Maxima of the segments and, if wanted, their sums of weights relative to those.
  __device__ void first_pass(int begin, int end) {
    constexpr int kAhead = 4;  // loads in flight
    for (int first = begin + warp_; first < end; first += kAhead * kWarps) {
      Values x[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) x[i] = load((first + i * kWarps) * kSegment + lane_ * 8);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int segment = first + i * kWarps;
        if (segment >= end) break;
        float top = x[i].v[0];
#pragma unroll
        for (const float v : x[i].v) top = fmaxf(top, v);
        const uint32_t key = __reduce_max_sync(kAll, key_of(top));
        float sum = 0.0f;
        if (weighted_) {
          const float base = value_of(key);
#pragma unroll
          for (const float v : x[i].v) sum += weight(v, base);
          for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(kAll, sum, o);
        }
        if (lane_ == 0) {
          maximum(segment) = key;
          s_.sums[segment] = static_cast<double>(sum);
        }
      }
    }
    __syncthreads();
  }
  /// Hands this block's segments over. True in the block that arrives last; it then has all of them.
  __device__ bool join(RowScratch& meeting, int begin, int end, int pieces) {
    for (int i = begin + static_cast<int>(threadIdx.x); i < end; i += kThreads) {
      __stcg(&meeting.maxima[i], maximum(i));
      __stcg(&meeting.sums[i], static_cast<float>(s_.sums[i]));
    }
    __threadfence();  // each thread's values before the block's arrival
    __syncthreads();
    if (threadIdx.x == 0) {
      s_.last = atomicAdd(&meeting.num_arrived, 1) == pieces - 1;
      if (s_.last) meeting.num_arrived = 0;
    }
    __syncthreads();
    if (!s_.last) return false;
    __threadfence();  // the others' arrivals before their values
    const int i = threadIdx.x;
    if (i < segments_) {
      maximum(i) = __ldcg(&meeting.maxima[i]);
      s_.sums[i] = static_cast<double>(__ldcg(&meeting.sums[i]));
    }
    __syncthreads();
    return true;
  }
  __device__ uint32_t my_maximum() const {
    return static_cast<int>(threadIdx.x) < segments_ ? maximum(static_cast<int>(threadIdx.x)) : 0u;
  }
  __device__ uint32_t best_key() const {
    uint32_t key = 0;
    for (int i = lane_; i < segments_; i += 32) key = max(key, maximum(i));
    return __reduce_max_sync(kAll, key);
  }
  /// The lowest id of the largest value. Every warp finds it.
  __device__ int32_t first_best() {
    const uint32_t best = key_of(best_);
    if (threadIdx.x == 0) s_.found = INT_MAX;
    __syncthreads();
    if (my_maximum() == best) atomicMin(&s_.found, static_cast<int>(threadIdx.x));
    __syncthreads();
    const int at = s_.found * kSegment + lane_ * 8;
    const Values x = load(at);
    int token = INT_MAX;
#pragma unroll
    for (int j = 7; j >= 0; --j)
      if (key_of(x.v[j]) == best) token = at + j;
    return static_cast<int32_t>(__reduce_min_sync(kAll, static_cast<unsigned>(token)));
  }
  /// The lowest id in the mask, 0 if there is none.
  __device__ int32_t first_allowed() {
    if (threadIdx.x == 0) s_.found = INT_MAX;
    __syncthreads();
    for (int i = threadIdx.x; i < (vocab_ + 31) / 32; i += kThreads) {
      const uint32_t word = s_.row.mask[i];
      if (word == 0) continue;
      atomicMin(&s_.found, i * 32 + __ffs(static_cast<int>(word)) - 1);
      break;
    }
    __syncthreads();
    return s_.found < vocab_ ? s_.found : 0;
  }
  /// f(values, first id, segment) by whole warps, for the segments that hold a key of at least `floor`.
  template <class F>
  __device__ __forceinline__ void each_segment(uint32_t floor, F f) const {
    const int mine = warp_ + lane_ * kWarps;
    unsigned todo = __ballot_sync(kAll, mine < segments_ && maximum(mine) >= floor);
    const auto first_segment = [&] { return warp_ + (__ffs(static_cast<int>(todo)) - 1) * kWarps; };
    Values next{};
    if (todo) next = load(first_segment() * kSegment + lane_ * 8);
    while (todo) {
      const int segment = first_segment();
      const Values x = next;
      todo &= todo - 1;
      if (todo) next = load(first_segment() * kSegment + lane_ * 8);
      f(x, segment * kSegment + lane_ * 8, segment);
    }
  }
  /// sums[segment] = sum of w(key, id, value), 0 for segments wholly below `floor`.
  template <class W>
  __device__ void segment_sums(uint32_t floor, W w) {
    __syncthreads();
    for (int i = threadIdx.x; i < segments_; i += kThreads) s_.sums[i] = 0.0;
    __syncthreads();
    each_segment(floor, [&](const Values& x, int at, int segment) {
      float part = 0.0f;
#pragma unroll
      for (int j = 0; j < 8; ++j) part += w(key_of(x.v[j]), at + j, x.v[j]);
      auto sum = static_cast<double>(part);
      for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(kAll, sum, o);
      if (lane_ == 0) s_.sums[segment] = sum;
    });
    __syncthreads();
  }
  /// The token at which the sums of w in id order pass target(total). sums[] holds those of the segments.
  template <class W, class T>
  __device__ int32_t locate(W w, T target_of) {
    const double mine = my_sum();
    double total;
    const double end = block_inclusive(mine, total);
    const double target = target_of(total);
    if (threadIdx.x == 0) {
      s_.found = INT_MAX;
      s_.last = 0;
    }
    __syncthreads();
    if (mine > 0.0) {
      if (target < end) atomicMin(&s_.found, static_cast<int>(threadIdx.x));
      atomicMax(&s_.last, static_cast<int>(threadIdx.x));
    }
    __syncthreads();
    const int segment =
        s_.found == INT_MAX ? s_.last : s_.found;  // rounding may leave a rest: the last with any weight takes it
    if (static_cast<int>(threadIdx.x) == segment) s_.warp_sums[0] = target - (end - mine);
    __syncthreads();
    const double left = s_.warp_sums[0];
    if (warp_ == 0) {
      const int at = segment * kSegment + lane_ * 8;
      const Values x = load(at);
      float ws[8];
      double sum = 0.0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        ws[j] = w(key_of(x.v[j]), at + j, x.v[j]);
        sum += static_cast<double>(ws[j]);
      }
      const double upto = warp_inclusive(sum);
      const unsigned any = __ballot_sync(kAll, sum > 0.0), passed = __ballot_sync(kAll, sum > 0.0 && left < upto);
      const int chosen = passed ? __ffs(static_cast<int>(passed)) - 1 : any ? 31 - __clz(static_cast<int>(any)) : 0;
      if (lane_ == chosen) {
        double rest = left - (upto - sum);
        int token = at;
        bool done = false;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          if (done || ws[j] <= 0.0f) continue;
          token = at + j;
          rest -= static_cast<double>(ws[j]);
          done = rest < 0.0;
        }
        s_.found = token;
      }
    }
    __syncthreads();
    const int token = s_.found;
    __syncthreads();
    return token;
  }

  // ---- selection
  /// Lists the entries for which pred(key, id), as far as the list reaches; returns how many there are. The order is
  /// accidental.
  template <class P>
  __device__ int collect(uint32_t floor, P pred) {
    __syncthreads();
    if (threadIdx.x == 0) s_.count = 0;
    __syncthreads();
    each_segment(floor, [&](const Values& x, int at, int) {
      unsigned mask = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) mask |= pred(key_of(x.v[j]), at + j) ? 1u << j : 0u;
      if (__ballot_sync(kAll, mask != 0) == 0) return;
      const int mine = __popc(mask);
      int upto = mine;
      for (int o = 1; o < 32; o <<= 1) {
        const int below = __shfl_up_sync(kAll, upto, o);
        if (lane_ >= o) upto += below;
      }
      int base = 0;
      if (lane_ == 31) base = atomicAdd(&s_.count, upto);
      int place = __shfl_sync(kAll, base, 31) + upto - mine;
#pragma unroll
      for (int j = 0; j < 8; ++j)
        if (mask >> j & 1) {
          if (place < kList)
            s_.list[place] = static_cast<uint64_t>(~key_of(x.v[j])) << 32 | static_cast<uint32_t>(at + j);
          ++place;
        }
    });
    __syncthreads();
    return s_.count;
  }
  /// Sorts the first n of the list, ascending (bitonic). Up to a distance of 32 a warp's pairs are its own.
  __device__ void sort(int n) {
    int size = 2;
    while (size < n) size *= 2;
    for (int i = n + threadIdx.x; i < size; i += kThreads) s_.list[i] = ~0ull;
    __syncthreads();
    for (int k = 2; k <= size; k *= 2)
      for (int j = k / 2; j > 0; j /= 2) {
        for (int t = threadIdx.x; t < size / 2; t += kThreads) {
          const int i = 2 * t - (t & (j - 1));
          const uint64_t a = s_.list[i], b = s_.list[i + j];
          if ((a > b) == ((i & k) == 0)) {
            s_.list[i] = b;
            s_.list[i + j] = a;
          }
        }
        const int next = j > 1 ? j / 2 : k;
        if (max(j, next) > 32)
          __syncthreads();
        else
          __syncwarp();
      }
    __syncthreads();
  }
  __device__ static uint32_t lowest_key() { return key_of(-FLT_MAX); }
  /// At least k entries (or all finite ones) have this key or more: the k-th largest of the segments' maxima.
  __device__ uint32_t lower_bound(int k) const {
    if (k > segments_) return lowest_key();
    const uint32_t mine = my_maximum();
    uint32_t key = 0;
    for (int bit = 31; bit >= 16; --bit) {  // the upper half: exact for bf16 values
      const uint32_t next = key | 1u << bit;
      if (__syncthreads_count(mine >= next) >= k) key = next;
    }
    return max(key, lowest_key());
  }
  /// Between lo and hi, on bf16 numbers first: nearly all entries are some.
  __device__ static uint32_t middle_key(uint32_t lo, uint32_t hi, int step) {
    const float a = value_of(lo), b = value_of(hi);
    if (step < 16 && a > -1e4f && b < 1e4f) {
      const uint32_t key = key_of(round_bf16(0.5f * (a + b)) + 0.0f);
      if (key > lo && key < hi) return key;
    }
    if (step % 2 == 0) return lo + 1;  // one number left, most likely
    return lo + (hi - lo) / 2;
  }
  /// The first member, in selection order, at which k entries or a weight of `mass` are reached; {lo, all} if that
  /// takes all entries from lo on.
  __device__ Cut find_cut(int k, double mass, const uint32_t lo_in) {
    const Cut all{lo_in, INT_MAX};
    uint32_t lo = lo_in, hi = key_of(best_) + 1;
    double above_count = 0.0, above_mass = 0.0;  // of the keys from hi on
    const auto in_range = [&](uint32_t key, int32_t) { return key >= lo && key < hi; };
    int n = collect(lo, in_range);
    for (int step = 0; n > kList && hi - lo > 1; ++step) {
      const uint32_t middle = middle_key(lo, hi, step);
      int my_count = 0;
      double my_mass = 0.0;
      each_segment(middle, [&](const Values& x, int, int) {
        float part = 0.0f;
#pragma unroll
        for (const float v : x.v) {
          const uint32_t key = key_of(v);
          if (key < middle || key >= hi) continue;
          ++my_count;
          part += weight(v);
        }
        my_mass += static_cast<double>(part);
      });
      const double upper_count = block_sum(my_count), upper_mass = block_sum(my_mass);
      if (above_count + upper_count >= k || above_mass + upper_mass >= mass) {
        lo = middle;
        n = static_cast<int>(upper_count);
      } else {
        hi = middle;
        above_count += upper_count;
        above_mass += upper_mass;
        n -= static_cast<int>(upper_count);
      }
      if (n <= kList) collect(lo, in_range);
    }
    if (n > kList) return cut_of_ties(lo, n, k - above_count, mass - above_mass, all);
    sort(n);
    double ws[kPerThread], sum = 0.0;
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int at = threadIdx.x * kPerThread + j;
      ws[j] = at < n ? static_cast<double>(weight(value_of(~static_cast<uint32_t>(s_.list[at] >> 32)))) : 0.0;
      sum += ws[j];
    }
    double total;
    double upto = above_mass + block_inclusive(sum, total) - sum;
    if (threadIdx.x == 0) s_.found = INT_MAX;
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int at = threadIdx.x * kPerThread + j;
      upto += ws[j];
      if (at < n && (above_count + at + 1 >= k || upto >= mass)) atomicMin(&s_.found, at);
    }
    __syncthreads();
    const int found = s_.found;
    const uint64_t item = found == INT_MAX ? 0 : s_.list[found];
    __syncthreads();
    return found == INT_MAX
               ? all
               : Cut{~static_cast<uint32_t>(item >> 32), static_cast<int32_t>(static_cast<uint32_t>(item))};
  }
  /// n equal entries: how many of them are needed, and the id of the last of those.
  __device__ Cut cut_of_ties(uint32_t key, int n, double count, double mass, const Cut& all) {
    const auto w = static_cast<double>(weight(value_of(key)));
    const double by_mass = w > 0.0 ? ceil(mass / w) : INFINITY;
    const double needed = fmax(1.0, fmin(count, by_mass));
    if (needed > n) return all;
    const auto tied = [&](uint32_t k, int32_t, float) { return k == key ? 1.0f : 0.0f; };
    segment_sums(key, tied);
    return {key, locate(tied, [&](double) { return needed - 0.5; })};
  }
  __device__ int32_t draw() {
    const SampleRow& r = s_.row;
    const bool has_k = r.top_k >= 1 && r.top_k < vocab_, has_p = r.top_p<1.0f, has_min_p = r.min_p_offset> - INFINITY;
    const double u = r.u;
    if (!has_k && !has_p && !has_min_p)
      return locate([&](uint32_t, int32_t, float v) { return weight(v); }, [&](double total) { return u * total; });
    uint32_t floor = lowest_key();
    if (has_min_p) floor = max(floor, key_of(best_ + r.min_p_offset + 0.0f));
    Cut cut{floor, INT_MAX};
    if (has_k || has_p) {
      const int k = has_k ? r.top_k : INT_MAX;
      uint32_t lo = floor;
      if (has_k) lo = max(lo, lower_bound(k));
      double mass = INFINITY;
      if (has_p) {
        mass = static_cast<double>(r.top_p) * total_;
        if (has_k && has_min_p) {  // top-p of what top-k leaves; the floor comes last
          const Cut top = find_cut(k, INFINITY, lower_bound(k));
          const auto kept = [&](uint32_t key, int32_t id, float v) { return top.keeps(key, id) ? weight(v) : 0.0f; };
          segment_sums(top.key, kept);
          mass = static_cast<double>(r.top_p) * block_sum(my_sum());
        } else {
          // All that lies further below the best has together less than the 1 - top_p that may be missing.
          const double z = log((1.0 - static_cast<double>(r.top_p)) * total_ / vocab_) - 1.0;
          lo = max(lo, key_of(static_cast<float>(static_cast<double>(best_) + z / static_cast<double>(scale_)) + 0.0f));
        }
      }
      cut = find_cut(k, mass, lo);
    }
    const auto kept = [&](uint32_t key, int32_t id, float v) { return cut.keeps(key, id) ? weight(v) : 0.0f; };
    segment_sums(cut.key, kept);
    return locate(kept, [&](double total) { return u * total; });
  }
  __device__ double my_sum() const { return static_cast<int>(threadIdx.x) < segments_ ? s_.sums[threadIdx.x] : 0.0; }

  Shared& s_;
  const bf16* x_;
  const uint16_t* counts_;
  const uint8_t* mask_;
  int vocab_, segments_, warp_, lane_, num_biases_;
  float scale_, best_ = 0.0f;
  bool weighted_;
  double total_ = 0.0;
};

__global__ void __launch_bounds__(kThreads, 1)
    sample_kernel(const SampleRow* rows, const bf16* logits, int vocab, int32_t* last_token, int32_t* sampled,
                  SampleResult* results, RowScratch* scratch) {
  extern __shared__ __align__(16) unsigned char raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  pdl_trigger();
  pdl_wait();
  if (threadIdx.x == 0) shared.row = rows[blockIdx.y];
  __syncthreads();
  const SampleRow& r = shared.row;
  RowSampler sampler(shared, logits + static_cast<int64_t>(r.logits_row) * vocab, vocab);
  if (!sampler.read_row(scratch)) return;
  const int32_t token = sampler.run();
  if (r.logprobs) sampler.describe(token, results[r.sample]);
  __syncthreads();  // describe() reads the counts
  if (threadIdx.x == 0) {
    last_token[r.slot] = token;
    sampled[r.sample] = token;
    if (r.counts && r.counts[token] < UINT16_MAX) ++r.counts[token];
  }
}

}  // namespace

int64_t sample_scratch_bytes(int max_rows) { return int64_t{max_rows} * static_cast<int64_t>(sizeof(RowScratch)); }

void sample(const Launch& launch, const SampleRow* rows, int num_rows, const void* logits, int vocab,
            int32_t* last_token, int32_t* sampled, SampleResult* results, void* scratch) {
  CARAT_CHECK(vocab % 8 == 0 && vocab <= kMaxSampleVocab,
              str_cat("sample: a vocabulary of ", vocab, " is not supported"));
  static const bool allowed = (allow_smem(sample_kernel, sizeof(Shared)), true);
  static_cast<void>(allowed);
  if (num_rows == 0) return;
  const int pieces = std::clamp(launch.num_sms / num_rows, 1, kMaxPieces);
  launch_kernel(launch, sample_kernel, dim3(pieces, num_rows), dim3(kThreads), sizeof(Shared), rows,
                static_cast<const bf16*>(logits), vocab, last_token, sampled, results,
                static_cast<RowScratch*>(scratch));
}

}  // namespace carat::cuda
