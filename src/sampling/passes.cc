#include "sampling/passes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

// Vectors wider than the baseline's registers never cross a real call here: all helpers are inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace carat::sampling {
namespace {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// One source for every instruction set: GCC/clang vector types of W floats, instantiated inside functions that carry
// the target attribute. Everything is always_inline so that it is compiled for its caller's target.
#define CARAT_INLINE inline __attribute__((always_inline))

template <int W>
struct Lanes {
  typedef float F __attribute__((vector_size(W * 4)));
  typedef int32_t I __attribute__((vector_size(W * 4)));

  static CARAT_INLINE void load(F& out, const float* p) { std::memcpy(&out, p, sizeof out); }
  static CARAT_INLINE void select(F& out, const I& mask, const F& yes, const F& no) {
    const I bits = (mask & reinterpret_cast<I>(yes)) | (~mask & reinterpret_cast<I>(no));
    out = reinterpret_cast<F>(bits);
  }

  /// y = exp(x) for x <= 0 (up to rounding), 0 below -87. exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln 2 / 2;
  /// the polynomial is the Taylor series of degree 7 (remainder below 6e-9).
  static CARAT_INLINE void exp(F& y, const F& x) {
    const F low = F{} - 87.0f;  // false for NaN too
    const I alive = x > low;
    F z;
    select(z, alive, x, F{});
    const F magic = F{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer in the low mantissa bits
    const F shifted = z * 1.44269504f + magic;
    const F n = shifted - magic;
    const F r = (z - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two pieces
    F p = F{} + 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const I exponent = reinterpret_cast<I>(shifted) << 23;  // magic's own bits fall out at the top
    const I scaled_bits = reinterpret_cast<I>(p) + exponent;
    const F scaled = reinterpret_cast<F>(scaled_bits);
    select(y, alive, scaled, F{});
  }

  static CARAT_INLINE float full_block_max(const float* x) {
    F a = F{} + kLowest, b = a, u, v;
    for (int i = 0; i < kBlock; i += 2 * W) {
      load(u, x + i);
      load(v, x + i + W);
      select(a, u > a, u, a);
      select(b, v > b, v, b);
    }
    select(a, b > a, b, a);
    float lanes[W], best = kLowest;
    std::memcpy(lanes, &a, sizeof lanes);
    for (const float x_max : lanes) best = x_max > best ? x_max : best;
    return best;
  }

  static CARAT_INLINE double full_block_sum(const float* x, float shift, float scale) {
    F a{}, b{}, u, v, e;
    for (int i = 0; i < kBlock; i += 2 * W) {
      load(u, x + i);
      load(v, x + i + W);
      exp(e, (u - shift) * scale);
      a += e;
      exp(e, (v - shift) * scale);
      b += e;
    }
    a += b;
    float lanes[W];
    std::memcpy(lanes, &a, sizeof lanes);
    double sum = 0;
    for (const float part : lanes) sum += static_cast<double>(part);
    return sum;
  }

  static CARAT_INLINE void maxima(const float* x, int64_t blocks, float* out) {
    for (int64_t b = 0; b < blocks; ++b) out[b] = full_block_max(x + b * kBlock);
  }
  static CARAT_INLINE void sums(const float* x, int64_t blocks, float shift, float scale, double* out) {
    for (int64_t b = 0; b < blocks; ++b) out[b] = full_block_sum(x + b * kBlock, shift, scale);
  }
};

template <int W>
struct Terms : Lanes<W> {
  using typename Lanes<W>::F;
  static CARAT_INLINE void terms(const float* x, int64_t n, float shift, float scale, float* out) {
    F u, e;
    for (int64_t i = 0; i < n; i += W) {
      Lanes<W>::load(u, x + i);
      Lanes<W>::exp(e, (u - shift) * scale);
      std::memcpy(out + i, &e, sizeof e);
    }
  }
};

struct Kernels {
  void (*maxima)(const float* x, int64_t blocks, float* out);
  void (*sums)(const float* x, int64_t blocks, float shift, float scale, double* out);
  void (*terms)(const float* x, int64_t n, float shift, float scale, float* out);  // n: a multiple of kBlock
};

void maxima_base(const float* x, int64_t blocks, float* out) { Lanes<4>::maxima(x, blocks, out); }
void sums_base(const float* x, int64_t blocks, float shift, float scale, double* out) {
  Lanes<4>::sums(x, blocks, shift, scale, out);
}
void terms_base(const float* x, int64_t n, float shift, float scale, float* out) {
  Terms<4>::terms(x, n, shift, scale, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void maxima_avx2(const float* x, int64_t blocks, float* out) {
  Lanes<8>::maxima(x, blocks, out);
}
__attribute__((target("avx2,fma"))) void sums_avx2(const float* x, int64_t blocks, float shift, float scale,
                                                   double* out) {
  Lanes<8>::sums(x, blocks, shift, scale, out);
}
__attribute__((target("avx512f,avx512dq,fma"))) void maxima_avx512(const float* x, int64_t blocks, float* out) {
  Lanes<16>::maxima(x, blocks, out);
}
__attribute__((target("avx512f,avx512dq,fma"))) void sums_avx512(const float* x, int64_t blocks, float shift,
                                                                 float scale, double* out) {
  Lanes<16>::sums(x, blocks, shift, scale, out);
}

__attribute__((target("avx2,fma"))) void terms_avx2(const float* x, int64_t n, float shift, float scale, float* out) {
  Terms<8>::terms(x, n, shift, scale, out);
}
__attribute__((target("avx512f,avx512dq,fma"))) void terms_avx512(const float* x, int64_t n, float shift, float scale,
                                                                  float* out) {
  Terms<16>::terms(x, n, shift, scale, out);
}

#endif

struct NamedKernels {
  const char* name;
  Kernels kernels;
};

std::vector<NamedKernels> available_kernels() {
  std::vector<NamedKernels> out;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
    out.push_back({"avx512", {maxima_avx512, sums_avx512, terms_avx512}});
  if (avx2) out.push_back({"avx2", {maxima_avx2, sums_avx2, terms_avx2}});
#endif
  out.push_back({"base", {maxima_base, sums_base, terms_base}});
  return out;
}

const std::vector<NamedKernels>& all_kernels() {
  static const std::vector<NamedKernels> all = available_kernels();
  return all;
}

Kernels& kernels() {
  static Kernels chosen = all_kernels().front().kernels;
  return chosen;
}

}  // namespace

float block_maxima(std::span<const float> x, std::span<float> maxima) {
  const int64_t n = static_cast<int64_t>(x.size()), full = n / kBlock;
  kernels().maxima(x.data(), full, maxima.data());
  if (full * kBlock < n) {
    float best = kLowest;
    for (int64_t i = full * kBlock; i < n; ++i)
      if (x[i] > best) best = x[i];
    maxima[full] = best;
  }
  return *std::max_element(maxima.begin(), maxima.begin() + num_blocks(n));
}

double block_exp_sums(std::span<const float> x, float shift, float scale, std::span<double> sums) {
  const int64_t n = static_cast<int64_t>(x.size()), full = n / kBlock;
  kernels().sums(x.data(), full, shift, scale, sums.data());
  if (full * kBlock < n) {
    double sum = 0;
    for (int64_t i = full * kBlock; i < n; ++i) {
      const float z = (x[i] - shift) * scale;
      if (z > -87.0f) sum += std::exp(static_cast<double>(z));
    }
    sums[full] = sum;
  }
  double total = 0;
  for (int64_t b = 0; b < num_blocks(n); ++b) total += sums[b];
  return total;
}

void exp_terms(std::span<const float> x, float shift, float scale, std::span<float> out) {
  const int64_t n = static_cast<int64_t>(x.size()), full = n / kBlock * kBlock;
  kernels().terms(x.data(), full, shift, scale, out.data());
  for (int64_t i = full; i < n; ++i) {
    const float z = (x[i] - shift) * scale;
    out[i] = z > -87.0f ? std::exp(z) : 0;
  }
}

std::span<const char* const> instruction_sets() {
  static const std::vector<const char*> names = [] {
    std::vector<const char*> out;
    for (const NamedKernels& k : all_kernels()) out.push_back(k.name);
    return out;
  }();
  return names;
}

bool use_instruction_set(std::string_view name) {
  for (const NamedKernels& k : all_kernels())
    if (k.name == name) {
      kernels() = k.kernels;
      return true;
    }
  return false;
}

}  // namespace carat::sampling
