// The audio encoders' kernels against the operations of ops/ref that they stand for, step by step with the same
// roundings, clip by clip. Tolerances as in cuda_ops_test.cc: a sum's order moves a result to the neighbouring bf16
// number.
#include "ops/cuda/audio_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/cuda/cuda_testing.h"
#include "ops/ref/ref_ops.h"

namespace carat::cuda {
namespace {

using namespace carat::cuda::testing;

constexpr float kEps = 1e-6f;
constexpr Bounds kNarrow{-0.75f, 0.8125f}, kWide{-2.5f, 2.0f};

Values limited(Values v, Bounds b) {
  for (Bf16& x : v) x = Bf16(std::clamp(static_cast<float>(x), b.lowest, b.highest));
  return v;
}
ConstTensorView row_view(const Values& v) { return {v.data(), DType::kBf16, {static_cast<int64_t>(v.size())}}; }

class CudaAudio : public CudaOpsTest {
 protected:
  Values download_values(const DeviceBuffer& b, size_t n) { return download<Bf16>(b, n); }
  std::vector<float> random_floats(size_t n) {
    std::vector<float> v(n);
    std::normal_distribution<float> normal(-3.0f, 2.0f);
    for (float& x : v) x = normal(rng_);
    return v;
  }
  /// x = max(layer_norm(x, w), 0), as ops::ref.
  Values norm_relu_of(Values x, const Values& w, int64_t n, int c) {
    ops::ref::layer_norm(ctx_, view(x, n, c), view(x, n, c), row_view(w), {}, kEps);
    ops::ref::clamp(ctx_, view(x, n, c), view(x, n, c), 0, std::numeric_limits<float>::infinity());
    return x;
  }
};

/// Clips of these lengths, one behind the other.
struct Clips {
  std::vector<int> lengths;
  std::vector<int32_t> begin;  // by row
  explicit Clips(std::vector<int> n) : lengths(std::move(n)) {
    for (const int length : lengths) begin.insert(begin.end(), static_cast<size_t>(length), rows());
  }
  int rows() const { return static_cast<int>(begin.size()); }
  /// fn(first row, number of rows) for each.
  template <class Fn>
  void each(Fn&& fn) const {
    int first = 0;
    for (const int length : lengths) {
      fn(first, length);
      first += length;
    }
  }
};

TEST_F(CudaAudio, FirstConvolution) {
  for (const int c : {8, 128, 256})
    for (const int frames : {1, 2, 7, 50}) {
      const int bins = 128, rows = (frames + 1) / 2 * (bins / 2);
      const auto x = random_floats(static_cast<size_t>(frames) * bins);
      const auto weight = random(static_cast<size_t>(c) * 9, 0.33f), norm = random(c, 0.25f, 1.0f);
      Values rounded(x.begin(), x.end()), windows(static_cast<size_t>(rows) * 9), want(static_cast<size_t>(rows) * c);
      ops::ref::unfold_3x3(ctx_, view(windows, rows, 9), {rounded.data(), DType::kBf16, {frames, bins, 1}}, 0);
      ops::ref::linear(ctx_, view(want, rows, c), view(windows, rows, 9), view(weight, c, 9));
      want = norm_relu_of(std::move(want), norm, rows, c);
      const auto device_x = upload(x), device_weight = upload(weight), device_norm = upload(norm);
      auto y = poisoned(static_cast<int64_t>(want.size()) * 2);
      audio_conv0(launch_, y.data(), device_x.as<float>(), device_weight.data(), device_norm.data(), frames, bins, c,
                  kEps);
      expect_close(download_values(y, want.size()), want, 2e-3, str_cat("C ", c, ", ", frames, " frames"));
    }
}

TEST_F(CudaAudio, UnfoldsWindows) {
  for (const int height : {1, 2, 9, 32}) {
    const int width = 64, c = 16, out = (height + 1) / 2;
    const auto x = random(static_cast<size_t>(height) * width * c);
    for (int first = 0; first < out; first += 3) {
      const int count = std::min(3, out - first), rows = count * width / 2;
      Values want(static_cast<size_t>(rows) * 9 * c);
      ops::ref::unfold_3x3(ctx_, view(want, rows, 9 * c), {x.data(), DType::kBf16, {height, width, c}}, first);
      const auto device_x = upload(x);
      auto y = poisoned(static_cast<int64_t>(want.size()) * 2);
      unfold_3x3(launch_, y.data(), device_x.data(), height, width, c, first, count);
      const auto got = download_values(y, want.size());
      for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(got[i].bits, want[i].bits) << height << ", " << first;
    }
  }
}

TEST_F(CudaAudio, NormsChannels) {
  for (const int c : {2, 32, 100, 256}) {
    const int n = 77;
    const auto x = random(static_cast<size_t>(n) * c, 2.0f, 0.5f), w = random(c, 0.25f, 1.0f);
    const auto device_x = upload(x), device_w = upload(w);
    norm_relu(launch_, device_x.data(), device_w.data(), n, c, kEps);
    expect_close(download_values(device_x, x.size()), norm_relu_of(x, w, n, c), 2e-3, str_cat("C ", c));
  }
}

TEST_F(CudaAudio, NormsTheResidualStream) {
  for (const int c : {64, 1024, 1280})
    for (const bool has_y : {false, true})
      for (const bool has_post : {false, true})
        for (const bool has_out : {false, true})
          for (const int num_x : {0, 1, 3}) {
            const int n = 19;
            const size_t size = static_cast<size_t>(n) * c;
            const auto h = random(size, 2.0f), y = random(size), w_post = random(c, 0.25f, 1.0f),
                       w_out = random(c, 0.25f, 1.0f), w_next = random(c, 0.25f, 1.0f);
            const Bounds x_bounds[3] = {kWide, kNarrow, {}};
            Values want = h;
            const auto all = [&](Values& v) { return view(v, n, c); };
            if (has_y) {
              Values z = limited(y, kWide);
              if (has_post) {
                ops::ref::rms_norm(ctx_, all(z), all(z), row_view(w_post), kEps);
                ops::ref::scale(ctx_, all(z), all(z), 0.5f);
              }
              ops::ref::add(ctx_, all(want), all(want), all(z));
            }
            if (has_out) ops::ref::rms_norm(ctx_, all(want), all(want), row_view(w_out), kEps);
            Values normed(size);
            ops::ref::rms_norm(ctx_, all(normed), all(want), row_view(w_next), kEps);

            const auto device_h = upload(h), device_y = upload(y), device_post = upload(w_post),
                       device_out = upload(w_out), device_next = upload(w_next);
            DeviceBuffer x[3];
            AudioNormParams p{};
            p.h = device_h.data();
            p.y = has_y ? device_y.data() : nullptr;
            p.w_post = has_post ? device_post.data() : nullptr;
            p.w_out = has_out ? device_out.data() : nullptr;
            p.w_next = device_next.data();
            p.y_bounds = kWide;
            p.y_scale = 0.5f;
            p.num_x = num_x;
            p.num_rows = n;
            p.c = c;
            p.eps = kEps;
            for (int i = 0; i < num_x; ++i) {
              x[i] = poisoned(static_cast<int64_t>(size) * 2);
              p.x[i] = x[i].data();
              p.x_bounds[i] = x_bounds[i];
            }
            audio_norm(launch_, p);
            const std::string what =
                str_cat("C ", c, has_y ? " y" : "", has_post ? " post" : "", has_out ? " out" : "");
            expect_close(download_values(device_h, size), want, 2e-3, what + ": h");
            for (int i = 0; i < num_x; ++i)
              expect_close(download_values(x[i], size), limited(normed, x_bounds[i]), 4e-3, str_cat(what, ": x ", i));
          }
}

TEST_F(CudaAudio, Silu) {
  const int n = 33, c = 4096;
  const size_t size = static_cast<size_t>(n) * c;
  const auto x = random(size, 2.0f);
  Values want = limited(x, kWide);
  ops::ref::silu(ctx_, view(want, n, c), view(want, n, c));
  const auto device_x = upload(x);
  audio_silu(launch_, device_x.data(), kWide, kNarrow, static_cast<int64_t>(size));
  expect_close(download_values(device_x, size), limited(want, kNarrow), 2e-3, "silu");
}

TEST_F(CudaAudio, ConvolvesClipByClip) {
  const Clips clips({1, 3, 20, 6});
  for (const int c : {64, 1024, 1280}) {
    const int n = clips.rows(), taps = 5;
    const auto x = random(static_cast<size_t>(n) * 2 * c, 2.0f), w = random(static_cast<size_t>(taps) * c, 0.45f),
               norm = random(c, 0.25f, 1.0f);
    Values in = limited(x, kWide), want(static_cast<size_t>(n) * c);
    clips.each([&](int first, int count) {
      Values gated(static_cast<size_t>(count) * c), out(gated.size());
      const ConstTensorView mine(in.data() + int64_t{first} * 2 * c, DType::kBf16, {count, 2 * c});
      ops::ref::glu(ctx_, view(gated, count, c), mine);
      ops::ref::causal_conv(ctx_, view(out, count, c), view(gated, count, c), view(w, taps, c));
      ops::ref::rms_norm(ctx_, view(out, count, c), view(out, count, c), row_view(norm), kEps);
      ops::ref::silu(ctx_, view(out, count, c), view(out, count, c));
      std::ranges::copy(out, want.begin() + int64_t{first} * c);
    });
    const auto device_x = upload(x), device_w = upload(w), device_norm = upload(norm),
               device_begin = upload(clips.begin);
    auto y = poisoned(static_cast<int64_t>(want.size()) * 2);
    AudioConvParams p{};
    p.y = y.data();
    p.x = device_x.data();
    p.taps = device_w.data();
    p.norm = device_norm.data();
    p.in = kWide;
    p.out = kNarrow;
    p.clip_begin = device_begin.as<int32_t>();
    p.num_rows = n;
    p.c = c;
    p.num_taps = taps;
    p.eps = kEps;
    audio_conv(launch_, p);
    expect_close(download_values(y, want.size()), limited(want, kNarrow), 4e-3, str_cat("C ", c));
  }
}

TEST_F(CudaAudio, AttendsClipByClip) {
  const Clips clips({1, 3, 40, 13});
  struct Case {
    int heads, head_dim, window;
  };
  for (const Case& c : {Case{8, 128, 12}, Case{3, 16, 12}, Case{2, 40, 1}, Case{1, 64, 32}}) {
    const int n = clips.rows(), width = c.heads * c.head_dim;
    const auto q = random(static_cast<size_t>(n) * width, 3.0f), k = random(static_cast<size_t>(n) * width, 3.0f),
               v = random(static_cast<size_t>(n) * width), r = random(static_cast<size_t>(c.window) * width);
    std::vector<float> dim_scale(static_cast<size_t>(c.head_dim));
    for (float& s : dim_scale) s = 0.7f + 0.1f * std::abs(static_cast<float>(random(1)[0]));
    const float q_scale = 1.44f / std::sqrt(static_cast<float>(c.head_dim)), k_scale = 1.9f, cap = 50.0f;
    const Values lq = limited(q, kWide), lk = limited(k, kWide), lv = limited(v, kNarrow);
    Values want(q.size());
    clips.each([&](int first, int count) {
      const auto part = [&](const Values& all) {
        return ConstTensorView(all.data() + int64_t{first} * width, DType::kBf16, {count, width});
      };
      ops::ref::relative_attention(ctx_, {want.data() + int64_t{first} * width, DType::kBf16, {count, width}}, part(lq),
                                   part(lk), part(lv), view(r, c.window, width), {q_scale, k_scale, cap, dim_scale});
    });
    const auto device_q = upload(q), device_k = upload(k), device_v = upload(v), device_r = upload(r),
               device_scale = upload(dim_scale), device_begin = upload(clips.begin);
    auto o = poisoned(static_cast<int64_t>(want.size()) * 2);
    AudioAttentionParams p{};
    p.q = device_q.data();
    p.k = device_k.data();
    p.v = device_v.data();
    p.r = device_r.data();
    p.o = o.data();
    p.q_bounds = p.k_bounds = kWide;
    p.v_bounds = kNarrow;
    p.o_bounds = {-0.5f, 0.625f};
    p.dim_scale = device_scale.as<float>();
    p.clip_begin = device_begin.as<int32_t>();
    p.q_scale = q_scale;
    p.k_scale = k_scale;
    p.cap = cap;
    p.num_rows = n;
    p.num_heads = c.heads;
    p.head_dim = c.head_dim;
    p.window = c.window;
    audio_attention(launch_, p);
    expect_close(download_values(o, want.size()), limited(want, p.o_bounds), 2e-3,
                 str_cat("D ", c.head_dim, " window ", c.window));
  }
}

TEST_F(CudaAudio, NormsOutputs) {
  for (const int c : {640, 1536, 3840})
    for (const bool biased : {false, true}) {
      const int n = 9;
      const size_t size = static_cast<size_t>(n) * c;
      std::vector<float> x = random_floats(size);
      const Values bias = biased ? random(c) : Values(c);
      Values want(size);
      ops::ref::add_bias(ctx_, view(want, n, c), {x.data(), DType::kF32, {n, c}}, row_view(bias));
      ops::ref::rms_norm(ctx_, view(want, n, c), view(want, n, c), {}, kEps);
      const auto device_x = upload(x), device_bias = upload(bias);
      auto y = poisoned(static_cast<int64_t>(size) * 2);
      bias_norm(launch_, y.data(), device_x.as<float>(), biased ? device_bias.data() : nullptr, n, c, kEps);
      expect_close(download_values(y, size), want, 2e-3, str_cat("C ", c));
    }
}

}  // namespace
}  // namespace carat::cuda
