#include "media/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/check.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

// Both passes are one loop: 16 bytes side by side are weighted sums of `count` groups of 16 bytes that lie `stride`
// apart. For the pass over rows these are pieces of rows. For the pass over columns strips of 16 rows are transposed
// before and after.

namespace carat {
namespace {

constexpr int kChannels = 3;
constexpr int kLanes = 16;
using Lanes = uint8_t __attribute__((vector_size(kLanes)));

/// What one output of an axis is made of.
struct Taps {
  int first = 0;  ///< input
  int count = 0;
  const int16_t* weights = nullptr;  ///< [count], and a zero if that is odd
};

double cubic(double t) {
  constexpr double a = -0.5;
  t = std::abs(t);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  if (t < 2) return ((t - 5) * t + 8) * t * a - 4 * a;
  return 0;
}

/// The weights of all outputs of an axis, times 2^precision.
class Axis {
 public:
  Axis(int in, int out) {
    const double scale = static_cast<double>(in) / out;
    const double support = scale >= 1 ? 2 * scale : 2, inverse = scale >= 1 ? 1 / scale : 1;
    std::vector<double> exact;
    double highest = 0;
    for (int i = 0; i < out; ++i) {
      const double center = scale * (i + 0.5);
      const int low = std::max(static_cast<int>(center - support + 0.5), 0);
      const int high = std::min(static_cast<int>(center + support + 0.5), in);
      double total = 0;
      for (int j = low; j < high; ++j) {
        exact.push_back(cubic((j - center + 0.5) * inverse));
        total += exact.back();
      }
      for (size_t j = exact.size() - static_cast<size_t>(high - low); j < exact.size(); ++j) {
        exact[j] /= total;
        highest = std::max(highest, exact[j]);
      }
      taps_.push_back({low, high - low});
    }
    while (precision_ < 22 && static_cast<int>(0.5 + highest * (1 << (precision_ + 1))) < 1 << 15) ++precision_;
    const double one = 1 << precision_;
    const double* next = exact.data();
    for (const Taps& taps : taps_) {
      for (int j = 0; j < taps.count; ++j, ++next)
        weights_.push_back(static_cast<int16_t>(*next * one + (*next < 0 ? -0.5 : 0.5)));
      if (taps.count % 2) weights_.push_back(0);
    }
    const int16_t* weights = weights_.data();
    for (Taps& taps : taps_) taps.weights = std::exchange(weights, weights + taps.count + taps.count % 2);
  }
  Axis(const Axis&) = delete;

  std::span<const Taps> taps() const { return taps_; }
  int precision() const { return precision_; }

 private:
  int precision_ = 0;
  std::vector<Taps> taps_;
  std::vector<int16_t> weights_;
};

/// out[lane] = the rounded sum of in[j * stride + lane] over the taps, for kLanes lanes. `in` is that of input 0.
inline void weigh(uint8_t* out, const uint8_t* in, int64_t stride, const Taps& taps, int precision) {
  in += taps.first * stride;
#ifdef __SSE2__
  const __m128i zero = _mm_setzero_si128(), half = _mm_set1_epi32(1 << (precision - 1));
  __m128i sum[4] = {half, half, half, half};
  for (int j = 0; j < taps.count; j += 2) {
    const uint8_t* const p = in + j * stride;
    const uint8_t* const q = j + 1 < taps.count ? p + stride : p;
    int32_t pair;
    std::memcpy(&pair, taps.weights + j, sizeof pair);
    const __m128i weights = _mm_set1_epi32(pair);
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(q));
    const __m128i low = _mm_unpacklo_epi8(a, b), high = _mm_unpackhi_epi8(a, b);
    sum[0] = _mm_add_epi32(sum[0], _mm_madd_epi16(_mm_unpacklo_epi8(low, zero), weights));
    sum[1] = _mm_add_epi32(sum[1], _mm_madd_epi16(_mm_unpackhi_epi8(low, zero), weights));
    sum[2] = _mm_add_epi32(sum[2], _mm_madd_epi16(_mm_unpacklo_epi8(high, zero), weights));
    sum[3] = _mm_add_epi32(sum[3], _mm_madd_epi16(_mm_unpackhi_epi8(high, zero), weights));
  }
  const __m128i shift = _mm_cvtsi32_si128(precision);
  for (__m128i& s : sum) s = _mm_sra_epi32(s, shift);
  const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(sum[0], sum[1]), _mm_packs_epi32(sum[2], sum[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
#else
  int32_t sum[kLanes];
  for (int32_t& s : sum) s = 1 << (precision - 1);
  for (int j = 0; j < taps.count; ++j)
    for (int lane = 0; lane < kLanes; ++lane) sum[lane] += taps.weights[j] * in[j * stride + lane];
  for (int lane = 0; lane < kLanes; ++lane)
    out[lane] = static_cast<uint8_t>(std::clamp(sum[lane] >> precision, 0, 255));
#endif
}

/// Rows to columns: four rounds of the perfect shuffle.
inline void transpose(Lanes (&m)[kLanes]) {
  for (int round = 0; round < 4; ++round) {
    Lanes t[kLanes];
    for (int i = 0; i < kLanes / 2; ++i) {
      const Lanes a = m[i], b = m[i + kLanes / 2];
      t[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      t[2 * i + 1] = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    std::copy(std::begin(t), std::end(t), m);
  }
}

/// strip[i][lane] = rows[lane][i] for all of `width`; lanes from `num_rows` on repeat the last row.
void load_strip(const uint8_t* rows, int64_t width, int num_rows, uint8_t* strip) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const size_t n = static_cast<size_t>(std::min<int64_t>(kLanes, width - i));
    Lanes m[kLanes] = {};
    for (int lane = 0; lane < kLanes; ++lane) {
      const uint8_t* const row = rows + std::min(lane, num_rows - 1) * width + i;
      if (n == kLanes)
        std::memcpy(&m[lane], row, kLanes);
      else
        std::memcpy(&m[lane], row, n);
    }
    transpose(m);
    std::memcpy(strip + i * kLanes, m, n * kLanes);
  }
}

/// The way back, for `num_rows` lanes.
void store_strip(const uint8_t* strip, int64_t width, int num_rows, uint8_t* rows) {
  for (int64_t i = 0; i < width; i += kLanes) {
    const size_t n = static_cast<size_t>(std::min<int64_t>(kLanes, width - i));
    Lanes m[kLanes] = {};
    std::memcpy(m, strip + i * kLanes, n * kLanes);
    transpose(m);
    for (int lane = 0; lane < num_rows; ++lane) {
      if (n == kLanes)
        std::memcpy(rows + lane * width + i, &m[lane], kLanes);
      else
        std::memcpy(rows + lane * width + i, &m[lane], n);
    }
  }
}

/// [height, in, 3] -> [height, out, 3]
void resize_columns(const uint8_t* in, int in_width, int height, const Axis& axis, uint8_t* out) {
  const int64_t in_row = int64_t{in_width} * kChannels, out_row = std::ssize(axis.taps()) * kChannels;
  std::vector<uint8_t> in_strip(static_cast<size_t>(in_row * kLanes)), out_strip(static_cast<size_t>(out_row * kLanes));
  for (int y = 0; y < height; y += kLanes) {
    const int rows = std::min(kLanes, height - y);
    load_strip(in + y * in_row, in_row, rows, in_strip.data());
    uint8_t* next = out_strip.data();
    for (const Taps& taps : axis.taps())
      for (int c = 0; c < kChannels; ++c, next += kLanes)
        weigh(next, in_strip.data() + c * kLanes, kChannels * kLanes, taps, axis.precision());
    store_strip(out_strip.data(), out_row, rows, out + y * out_row);
  }
}

/// [in, width, 3] -> [out, width, 3]. Lanes beyond a row's end are computed from a copy of its end.
void resize_rows(const uint8_t* in, int in_height, int width, const Axis& axis, uint8_t* out) {
  const int64_t row = int64_t{width} * kChannels, whole = row / kLanes * kLanes;
  const size_t rest = static_cast<size_t>(row - whole);
  std::vector<uint8_t> ends(rest > 0 ? static_cast<size_t>(in_height) * kLanes : 0);
  for (int y = 0; rest > 0 && y < in_height; ++y)
    std::memcpy(&ends[static_cast<size_t>(y) * kLanes], in + y * row + whole, rest);
  for (const Taps& taps : axis.taps()) {
    for (int64_t i = 0; i < whole; i += kLanes) weigh(out + i, in + i, row, taps, axis.precision());
    if (rest > 0) {
      uint8_t last[kLanes];
      weigh(last, ends.data(), kLanes, taps, axis.precision());
      std::memcpy(out + whole, last, rest);
    }
    out += row;
  }
}

}  // namespace

void resize_bicubic(const PictureView& source, int out_width, int out_height, std::span<uint8_t> out) {
  CARAT_CHECK(source.width > 0 && source.height > 0 && out_width > 0 && out_height > 0, "a picture has a pixel");
  CARAT_CHECK_EQ(std::ssize(source.pixels), int64_t{source.width} * source.height * kChannels);
  CARAT_CHECK_EQ(std::ssize(out), int64_t{out_width} * out_height * kChannels);
  if (out_width == source.width && out_height == source.height) {
    std::ranges::copy(source.pixels, out.begin());
    return;
  }
  if (out_height == source.height)
    return resize_columns(source.pixels.data(), source.width, source.height, Axis(source.width, out_width), out.data());
  const Axis rows(source.height, out_height);
  if (out_width == source.width) return resize_rows(source.pixels.data(), source.height, out_width, rows, out.data());
  std::vector<uint8_t> narrow(static_cast<size_t>(int64_t{out_width} * source.height * kChannels));
  resize_columns(source.pixels.data(), source.width, source.height, Axis(source.width, out_width), narrow.data());
  resize_rows(narrow.data(), source.height, out_width, rows, out.data());
}

}  // namespace carat
