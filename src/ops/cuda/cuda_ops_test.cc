// The CUDA kernels against ops::ref on random inputs, at sizes around every border: one token, odd counts, page and
// window edges, ragged tiles. Tolerances: sums of K products of bf16 in f32 differ by their order only, so results may
// fall on the neighbouring bf16 number.
#include "ops/cuda/cuda_ops.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/str.h"
#include "ops/ref/ref_ops.h"
#include "tensor/bf16.h"
#include "tensor/cuda/device.h"
#include "tensor/cuda/gpu_info.h"

namespace carat::cuda {
namespace {

using Values = std::vector<Bf16>;

class CudaOps : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto gpus = list_gpus();
    if (!gpus || gpus->empty()) GTEST_SKIP() << "no GPU on this machine";
    ASSERT_TRUE(use_device(0));
    auto stream = Stream::create();
    ASSERT_TRUE(stream);
    stream_ = std::move(*stream);
    launch_.stream = stream_.handle();
    launch_.num_sms = device_limits()->num_sms;
    workspace_ = allocate(workspace_bytes(launch_.num_sms));
    stream_.fill(workspace_.data(), 0, workspace_.size());
    launch_.workspace = workspace_.data();
  }
  static DeviceBuffer allocate(int64_t bytes) {
    auto b = DeviceBuffer::allocate(bytes);
    CARAT_CHECK(b.has_value(), "no GPU memory");
    return std::move(*b);
  }
  template <class T>
  DeviceBuffer upload(const std::vector<T>& v) {
    DeviceBuffer b = allocate(static_cast<int64_t>(v.size() * sizeof(T)) + 16);
    stream_.copy_to_device(b.data(), v.data(), static_cast<int64_t>(v.size() * sizeof(T)));
    stream_.synchronize();
    return b;
  }
  /// Device memory full of NaNs, so that what a kernel does not write shows.
  DeviceBuffer poisoned(int64_t bytes) {
    DeviceBuffer b = allocate(bytes);
    stream_.fill(b.data(), 0xff, bytes);
    return b;
  }
  template <class T>
  std::vector<T> download(const DeviceBuffer& b, size_t count) {
    std::vector<T> v(count);
    stream_.copy_to_host(v.data(), b.data(), static_cast<int64_t>(count * sizeof(T)));
    stream_.synchronize();
    return v;
  }
  Values random(size_t n, float scale = 1.0f, float mean = 0.0f) {
    std::normal_distribution<float> normal(mean, scale);
    Values v(n);
    for (auto& x : v) x = Bf16(normal(rng_));
    return v;
  }

  std::mt19937 rng_{7};
  Stream stream_;
  Launch launch_;
  DeviceBuffer workspace_;
  ops::Context ctx_{ops::Backend::kRef, nullptr};
};

ConstTensorView view(const Values& v, int64_t rows, int64_t cols) { return {v.data(), DType::kBf16, {rows, cols}}; }
TensorView view(Values& v, int64_t rows, int64_t cols) { return {v.data(), DType::kBf16, {rows, cols}}; }

/// Root mean square error relative to the reference's size, and no NaN.
void expect_close(const Values& got, const Values& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double g = static_cast<float>(got[i]), w = static_cast<float>(want[i]);
    ASSERT_TRUE(std::isfinite(g)) << what << ": element " << i << " is " << g << ", expected " << w;
    error += (g - w) * (g - w);
    size += w * w;
  }
  EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(size) + 1e-6) << what;
}

struct LinearShape {
  int t, n, k;
};

TEST_F(CudaOps, LinearMatchesReference) {
  for (const auto& s : {LinearShape{1, 64, 128},
                        {1, 1536, 2048},
                        {3, 200, 96},
                        {5, 2048, 64},
                        {8, 640, 2112},
                        {9, 64, 704},
                        {16, 1408, 2816},
                        {17, 333, 1536},
                        {32, 256, 16},
                        {33, 4096, 256},
                        {64, 512, 1536},
                        {65, 512, 1536},
                        {100, 768, 512},
                        {1, 12288, 1536},
                        {130, 2560, 256}}) {
    const auto x = random(static_cast<size_t>(s.t) * s.k),
               w = random(static_cast<size_t>(s.n) * s.k, 1.0f / std::sqrt(static_cast<float>(s.k)));
    Values want(static_cast<size_t>(s.t) * s.n);
    ops::ref::linear(ctx_, view(want, s.t, s.n), view(x, s.t, s.k), view(w, s.n, s.k));
    const auto dx = upload(x), dw = upload(w);
    const auto dy = poisoned(2 * static_cast<int64_t>(want.size()));
    for (int repeat = 0; repeat < 2; ++repeat) {
      linear(launch_, dy.data(), s.n, dx.data(), s.k, dw.data(), s.t, s.n, s.k, Epilogue::kBf16);
      expect_close(download<Bf16>(dy, want.size()), want, 3e-3, str_cat("linear T ", s.t, " N ", s.n, " K ", s.k));
    }
  }
}

TEST_F(CudaOps, LinearRowsDoNotDependOnTheirNumber) {
  const int n = 1600, k = 1536;
  const auto x = random(64 * k), w = random(static_cast<size_t>(n) * k, 0.03f);
  const auto dx = upload(x), dw = upload(w);
  const auto all = poisoned(2 * 64 * n), one = poisoned(2 * 64 * n);
  linear_skinny(launch_, all.data(), n, dx.data(), k, dw.data(), 64, n, k, Epilogue::kBf16);
  const auto want = download<Bf16>(all, 64 * n);
  for (const int t : {1, 2, 7, 8, 9, 20, 40}) {
    linear_skinny(launch_, one.data(), n, dx.data(), k, dw.data(), t, n, k, Epilogue::kBf16);
    const auto got = download<Bf16>(one, static_cast<size_t>(t) * n);
    ASSERT_EQ(0, std::memcmp(got.data(), want.data(), got.size() * 2)) << t;
  }
}

TEST_F(CudaOps, GegluEpilogueMatchesReference) {
  for (const auto& s : {LinearShape{1, 128, 64}, {4, 6144, 1536}, {64, 704, 256}, {70, 704, 256}}) {
    const int f = s.n;
    const auto x = random(static_cast<size_t>(s.t) * s.k);
    const auto gate = random(static_cast<size_t>(f) * s.k, 1.0f / std::sqrt(static_cast<float>(s.k)));
    const auto up = random(static_cast<size_t>(f) * s.k, 1.0f / std::sqrt(static_cast<float>(s.k)));
    Values g(static_cast<size_t>(s.t) * f), u(g.size()), want(g.size());
    ops::ref::linear(ctx_, view(g, s.t, f), view(x, s.t, s.k), view(gate, f, s.k));
    ops::ref::linear(ctx_, view(u, s.t, f), view(x, s.t, s.k), view(up, f, s.k));
    ops::ref::gelu_mul(ctx_, view(want, s.t, f), view(g, s.t, f), view(u, s.t, f));
    Values both(2 * gate.size());
    for (int r = 0; r < f; ++r) {
      std::copy_n(gate.begin() + static_cast<int64_t>(r) * s.k, s.k,
                  both.begin() + static_cast<int64_t>(r / 8 * 16 + r % 8) * s.k);
      std::copy_n(up.begin() + static_cast<int64_t>(r) * s.k, s.k,
                  both.begin() + static_cast<int64_t>(r / 8 * 16 + 8 + r % 8) * s.k);
    }
    const auto dx = upload(x), dw = upload(both);
    const auto dy = poisoned(2 * static_cast<int64_t>(want.size())),
               dgu = poisoned(4 * static_cast<int64_t>(want.size()));
    linear(launch_, dy.data(), f, dx.data(), s.k, dw.data(), s.t, 2 * f, s.k, Epilogue::kGeglu);
    expect_close(download<Bf16>(dy, want.size()), want, 5e-3, str_cat("fused T ", s.t, " F ", f));
    linear(launch_, dgu.data(), 2 * f, dx.data(), s.k, dw.data(), s.t, 2 * f, s.k, Epilogue::kBf16);
    geglu_interleaved(launch_, dy.data(), dgu.data(), s.t, f);
    expect_close(download<Bf16>(dy, want.size()), want, 5e-3, str_cat("two steps T ", s.t, " F ", f));
  }
}

TEST_F(CudaOps, NormsMatchReference) {
  for (const auto& [t, c] : {std::pair{1, 64}, {3, 1536}, {7, 2816}, {2, 5376}}) {
    const auto n = static_cast<size_t>(t) * c;
    const auto h = random(n), y = random(n), e = random(n), w1 = random(c, 0.1f, 1.0f), w2 = random(c, 0.1f, 1.0f),
               w3 = random(c, 0.1f, 1.0f), w4 = random(c, 0.1f, 1.0f);
    const float scalar = static_cast<float>(Bf16(0.9f));
    Values a(n), b(n), want_h(n), want_x(n);
    const auto v = [&](const Values& x) { return view(x, t, c); };
    const auto wv = [&](const Values& x) { return ConstTensorView(x.data(), DType::kBf16, {c}); };
    ops::ref::rms_norm(ctx_, view(a, t, c), v(y), wv(w1), 1e-6f);
    ops::ref::add(ctx_, view(want_h, t, c), v(h), v(a));
    ops::ref::scale(ctx_, view(want_h, t, c), v(want_h), scalar);
    ops::ref::rms_norm(ctx_, view(want_x, t, c), v(want_h), wv(w2), 1e-6f);
    auto dh = upload(h);
    const auto dy = upload(y), de = upload(e), d1 = upload(w1), d2 = upload(w2), d3 = upload(w3), d4 = upload(w4);
    const auto dx = poisoned(2 * static_cast<int64_t>(n));
    add_norm(launch_, dh.data(), dx.data(), dy.data(), d1.data(), d2.data(), scalar, t, c, 1e-6f);
    expect_close(download<Bf16>(dh, n), want_h, 1e-3, "add_norm h");
    expect_close(download<Bf16>(dx, n), want_x, 1e-3, "add_norm x");

    ops::ref::rms_norm(ctx_, view(a, t, c), v(y), wv(w1), 1e-6f);
    ops::ref::rms_norm(ctx_, view(b, t, c), v(e), wv(w2), 1e-6f);
    ops::ref::add(ctx_, view(a, t, c), v(a), v(b));
    ops::ref::rms_norm(ctx_, view(a, t, c), v(a), wv(w3), 1e-6f);
    ops::ref::add(ctx_, view(want_h, t, c), v(h), v(a));
    ops::ref::rms_norm(ctx_, view(want_x, t, c), v(want_h), wv(w4), 1e-6f);
    dh = upload(h);
    moe_add_norm(launch_, dh.data(), dx.data(), dy.data(), de.data(), d1.data(), d2.data(), d3.data(), d4.data(), 1.0f,
                 t, c, 1e-6f);
    expect_close(download<Bf16>(dh, n), want_h, 1e-3, "moe_add_norm h");
    expect_close(download<Bf16>(dx, n), want_x, 1e-3, "moe_add_norm x");
  }
}

struct AttentionCase {
  int d, heads, kv_heads, window, position, tokens, columns, splits;
};

TEST_F(CudaOps, AttentionMatchesReference) {
  for (const auto& s : {AttentionCase{256, 8, 1, 512, 0, 1, 8, 1},
                        {256, 8, 1, 512, 700, 1, 8, 4},
                        {256, 8, 2, 64, 63, 1, 8, 2},
                        {256, 16, 8, 64, 200, 1, 8, 3},
                        {512, 8, 1, 0, 0, 1, 8, 1},
                        {512, 8, 1, 0, 1000, 1, 8, 7},
                        {512, 16, 1, 0, 333, 1, 16, 5},
                        {512, 8, 2, 0, 64, 1, 8, 64},
                        {256, 8, 1, 64, 0, 150, 64, 1},
                        {256, 8, 1, 64, 100, 77, 64, 2},
                        {256, 16, 8, 64, 31, 65, 64, 1},
                        {512, 8, 1, 0, 5, 90, 32, 1},
                        {512, 16, 1, 0, 130, 40, 32, 3},
                        {512, 16, 2, 0, 0, 33, 32, 1}}) {
    const int length = s.position + s.tokens, pages = (length + 63) / 64, group = s.heads / s.kv_heads;
    const int64_t page_elements = int64_t{2} * s.kv_heads * 64 * s.d;
    const auto q = random(static_cast<size_t>(s.tokens) * s.heads * s.d, 0.1f);
    auto kv = random(static_cast<size_t>(pages) * page_elements, 1.0f);
    std::vector<int32_t> table(static_cast<size_t>(pages));
    for (int i = 0; i < pages; ++i) table[static_cast<size_t>(i)] = pages - 1 - i;
    // The reference.
    ops::KvStore store{reinterpret_cast<uint16_t*>(kv.data()), page_elements, int64_t{s.kv_heads} * 64 * s.d,
                       s.kv_heads, s.d};
    std::vector<int32_t> positions, indptr{0, s.tokens};
    for (int i = 0; i < s.tokens; ++i) positions.push_back(s.position + i);
    const int32_t* tables[] = {table.data()};
    const ops::AttentionBatch batch{indptr, positions, tables, 64};
    Values want(q.size());
    ops::ref::attention(ctx_, view(want, s.tokens, s.heads * s.d), view(q, s.tokens, s.heads * s.d), store, batch,
                        s.window);

    std::vector<AttentionTile> tiles;
    const int per = s.columns / group;
    for (int at = 0; at < s.tokens; at += per) tiles.push_back({0, at, std::min(per, s.tokens - at), s.position + at});
    tiles.push_back({0, 0, 0, 0});
    const auto dq = upload(q), dkv = upload(kv), dtable = upload(table);
    const auto dtiles = upload(tiles);
    const auto d_o = poisoned(2 * static_cast<int64_t>(want.size()));
    const int num = static_cast<int>(tiles.size());
    auto scratch = poisoned(int64_t{4} * num * s.kv_heads * s.splits * s.columns * (s.d + 2));
    auto counters = allocate(int64_t{4} * num * s.kv_heads);
    stream_.fill(counters.data(), 0, counters.size());
    AttentionParams p{};
    p.q = dq.data();
    p.o = d_o.data();
    p.tiles = dtiles.as<AttentionTile>();
    p.num_tiles = num;
    p.splits = s.splits;
    p.kv = dkv.data();
    p.page_stride = page_elements;
    p.v_offset = store.v_offset;
    p.table = dtable.as<int32_t>();
    p.table_stride = p.ring = pages;
    p.num_heads = s.heads;
    p.num_kv_heads = s.kv_heads;
    p.head_dim = s.d;
    p.page_tokens = 64;
    p.window = s.window;
    p.columns = s.columns;
    p.scratch = scratch.as<float>();
    p.counters = counters.as<int32_t>();
    for (int repeat = 0; repeat < 2; ++repeat) {
      attention(launch_, p);
      expect_close(download<Bf16>(d_o, want.size()), want, 8e-3,
                   str_cat("attention D ", s.d, " heads ", s.heads, "/", s.kv_heads, " window ", s.window, " at ",
                           s.position, " T ", s.tokens, " splits ", s.splits));
    }
  }
}

TEST_F(CudaOps, QkvNormRopeStoreMatchesReference) {
  struct Case {
    int d, heads, kv_heads, rotated;
    bool k_is_v;
  };
  for (const auto& s : {Case{256, 8, 1, 128, false},
                        {512, 8, 1, 64, false},
                        {512, 16, 2, 64, true},
                        {256, 8, 0, 128, false},
                        {512, 8, 0, 64, false}}) {
    const int t = 5, kv_rows = s.kv_heads * (s.k_is_v ? 1 : 2), width = (s.heads + kv_rows) * s.d;
    const auto qkv = random(static_cast<size_t>(t) * width), qn = random(s.d, 0.1f, 1.0f), kn = random(s.d, 0.1f, 1.0f);
    std::vector<int32_t> positions{0, 1, 63, 64, 130}, slots{1, 1, 1, 1, 1}, table{9, 9, 9, 2, 0, 1};
    std::vector<float> freq(static_cast<size_t>(s.rotated));
    for (int j = 0; j < s.rotated; ++j)
      freq[static_cast<size_t>(j)] = 1.0f / static_cast<float>(std::pow(10000.0, 2.0 * j / s.d));
    Values q(static_cast<size_t>(t) * s.heads * s.d), k(static_cast<size_t>(t) * s.kv_heads * s.d), v(k.size());
    for (int i = 0; i < t; ++i) {
      const auto row = qkv.begin() + static_cast<int64_t>(i) * width;
      std::copy_n(row, s.heads * s.d, q.begin() + static_cast<int64_t>(i) * s.heads * s.d);
      std::copy_n(row + s.heads * s.d, s.kv_heads * s.d, k.begin() + static_cast<int64_t>(i) * s.kv_heads * s.d);
      std::copy_n(row + (s.heads + (s.k_is_v ? 0 : s.kv_heads)) * s.d, s.kv_heads * s.d,
                  v.begin() + static_cast<int64_t>(i) * s.kv_heads * s.d);
    }
    const auto norm = [&](Values& x, int heads, const Values* w) {
      if (heads == 0) return;
      ops::ref::rms_norm(ctx_, view(x, static_cast<int64_t>(t) * heads, s.d),
                         view(x, static_cast<int64_t>(t) * heads, s.d),
                         w ? ConstTensorView(w->data(), DType::kBf16, {s.d}) : ConstTensorView(), 1e-6f);
    };
    norm(q, s.heads, &qn);
    norm(k, s.kv_heads, &kn);
    norm(v, s.kv_heads, nullptr);
    ops::ref::rope(ctx_, view(q, t, s.heads * s.d), s.d, positions, freq);
    if (s.kv_heads) ops::ref::rope(ctx_, view(k, t, s.kv_heads * s.d), s.d, positions, freq);
    const int64_t page_elements = std::max<int64_t>(8, int64_t{2} * s.kv_heads * 64 * s.d);
    const auto dqkv = upload(qkv), dqn = upload(qn), dkn = upload(kn);
    const auto dpos = upload(positions), dslots = upload(slots), dtable = upload(table);
    const auto dfreq = upload(freq);
    const auto dq = poisoned(2 * static_cast<int64_t>(q.size())), dkv = poisoned(2 * 3 * page_elements);
    QkvParams p{};
    p.qkv = dqkv.data();
    p.q = dq.data();
    p.q_norm = dqn.data();
    p.k_norm = dkn.data();
    p.positions = dpos.as<int32_t>();
    p.slots = dslots.as<int32_t>();
    p.inv_freq = dfreq.as<float>();
    p.num_rotated = s.rotated;
    p.kv = dkv.data();
    p.page_stride = page_elements;
    p.v_offset = int64_t{s.kv_heads} * 64 * s.d;
    p.table = dtable.as<int32_t>();
    p.table_stride = p.ring = 3;
    p.num_tokens = t;
    p.num_heads = s.heads;
    p.num_kv_heads = s.kv_heads;
    p.head_dim = s.d;
    p.page_tokens = 64;
    p.k_is_v = s.k_is_v;
    p.eps = 1e-6f;
    qk_norm_rope_store(launch_, p);
    expect_close(download<Bf16>(dq, q.size()), q, 1e-3, "q");
    const auto pages = download<Bf16>(dkv, static_cast<size_t>(3 * page_elements));
    Values got_k, got_v;
    for (int i = 0; i < t; ++i)
      for (int head = 0; head < s.kv_heads; ++head) {
        const int64_t at = table[static_cast<size_t>(3 + positions[static_cast<size_t>(i)] / 64)] * page_elements +
                           (static_cast<int64_t>(head) * 64 + positions[static_cast<size_t>(i)] % 64) * s.d;
        got_k.insert(got_k.end(), pages.begin() + at, pages.begin() + at + s.d);
        got_v.insert(got_v.end(), pages.begin() + at + p.v_offset, pages.begin() + at + p.v_offset + s.d);
      }
    expect_close(got_k, k, 1e-3, "k");
    expect_close(got_v, v, 1e-3, "v");
  }
}

TEST_F(CudaOps, RouterAndExpertsMatchReference) {
  struct Case {
    int t, e, k, c, f;
  };
  for (const auto& s : {Case{1, 16, 4, 64, 32}, {3, 128, 8, 256, 704}, {40, 128, 8, 128, 64}, {200, 16, 4, 64, 48}}) {
    const auto x = random(static_cast<size_t>(s.t) * s.c), logits = random(static_cast<size_t>(s.t) * s.e),
               per = random(static_cast<size_t>(s.e), 0.1f, 1.0f);
    const auto gu = random(static_cast<size_t>(s.e) * 2 * s.f * s.c, 1.0f / std::sqrt(static_cast<float>(s.c)));
    const auto down = random(static_cast<size_t>(s.e) * s.c * s.f, 1.0f / std::sqrt(static_cast<float>(s.f)));
    std::vector<int32_t> ids(static_cast<size_t>(s.t) * s.k);
    std::vector<float> weights(ids.size());
    ops::ref::route(ctx_, ids, weights, view(logits, s.t, s.e), ConstTensorView(per.data(), DType::kBf16, {s.e}), s.k);
    Values want(static_cast<size_t>(s.t) * s.c);
    ops::ref::experts(ctx_, view(want, s.t, s.c), view(x, s.t, s.c),
                      ConstTensorView(gu.data(), DType::kBf16, {s.e, 2 * s.f, s.c}),
                      ConstTensorView(down.data(), DType::kBf16, {s.e, s.c, s.f}), ids, weights, s.k);
    Values both(gu.size());
    for (int e = 0; e < s.e; ++e)
      for (int r = 0; r < 2 * s.f; ++r) {
        const int row = r % s.f, target = row / 8 * 16 + row % 8 + (r < s.f ? 0 : 8);
        std::copy_n(gu.begin() + (static_cast<int64_t>(e) * 2 * s.f + r) * s.c, s.c,
                    both.begin() + (static_cast<int64_t>(e) * 2 * s.f + target) * s.c);
      }
    const auto dx = upload(x), dlogits = upload(logits), dper = upload(per), dgu = upload(both), ddown = upload(down);
    const auto dids = poisoned(4 * static_cast<int64_t>(ids.size())),
               dweights = poisoned(4 * static_cast<int64_t>(ids.size()));
    const auto counts = poisoned(4 * s.e), lists = poisoned(int64_t{4} * s.e * s.t),
               z = poisoned(int64_t{2} * s.t * s.c);
    const auto ones = upload(random(static_cast<size_t>(s.c), 0.0f, 1.0f));
    router_norm(launch_, z.data(), dx.data(), ones.data(), 1.0f, s.t, s.c, 1e-6f, counts.as<int32_t>(), s.e);
    route(launch_, dids.as<int32_t>(), dweights.as<float>(), counts.as<int32_t>(), lists.as<int32_t>(), s.t,
          dlogits.data(), dper.data(), nullptr, s.t, s.e, s.k);
    EXPECT_EQ(download<int32_t>(dids, ids.size()), ids);
    const auto got_weights = download<float>(dweights, weights.size());
    for (size_t i = 0; i < weights.size(); ++i) EXPECT_NEAR(got_weights[i], weights[i], 1e-5f);
    const auto pairs = static_cast<int64_t>(s.t) * s.k;
    const auto act = poisoned(2 * pairs * s.f), out = poisoned(2 * pairs * s.c), y = poisoned(int64_t{2} * s.t * s.c);
    ExpertsParams p{};
    p.x = dx.data();
    p.gate_up = dgu.data();
    p.down = ddown.data();
    p.counts = counts.as<int32_t>();
    p.lists = lists.as<int32_t>();
    p.weights = dweights.as<float>();
    p.capacity = s.t;
    p.act = act.data();
    p.out = out.data();
    p.y = y.data();
    p.num_tokens = s.t;
    p.num_experts = s.e;
    p.k = s.k;
    p.c = s.c;
    p.f = s.f;
    experts(launch_, p);
    expect_close(download<Bf16>(y, want.size()), want, 6e-3, str_cat("experts T ", s.t, " E ", s.e));
  }
}

TEST_F(CudaOps, SoftcapAndArgmaxMatchReference) {
  const int rows = 3, vocab = 4096;
  auto logits = random(static_cast<size_t>(rows) * vocab, 8.0f);
  logits[100] = logits[200] = Bf16(60.0f);  // a tie: the lower id
  logits[vocab + 7] = Bf16(80.0f);          // banned below
  std::vector<float> want(logits.size());
  ops::ref::softcap(ctx_, TensorView(want.data(), DType::kF32, {rows, vocab}), view(logits, rows, vocab), 30.0f);
  auto d = upload(logits);
  const auto banned = upload(std::vector<int32_t>{7, 9});
  const auto best = poisoned(4 * rows), scratch = poisoned(softcap_argmax_scratch_bytes(rows));
  softcap_argmax(launch_, best.as<int32_t>(), d.data(), rows, vocab, 30.0f, banned.as<int32_t>(), 2,
                 scratch.as<float>());
  const auto got = download<Bf16>(d, logits.size());
  const auto ids = download<int32_t>(best, rows);
  for (int r = 0; r < rows; ++r) {
    int expected = -1;
    for (int i = 0; i < vocab; ++i) {
      const auto at = static_cast<size_t>(r) * vocab + i;
      if (i == 7 || i == 9) continue;
      EXPECT_NEAR(static_cast<float>(got[at]), want[at], 0.13f);
      if (expected < 0 ||
          static_cast<float>(got[at]) > static_cast<float>(got[static_cast<size_t>(r) * vocab + expected]))
        expected = i;
    }
    EXPECT_EQ(ids[static_cast<size_t>(r)], expected);
  }
  EXPECT_EQ(ids[0], 100);
}

TEST_F(CudaOps, PerLayerEmbeddings) {
  const int t = 3, layers = 4, p = 16, first = 1, count = 2, total = layers * p;
  const auto c = random(static_cast<size_t>(t) * count * p), norm = random(p, 0.1f, 1.0f),
             table = random(static_cast<size_t>(10) * total);
  const std::vector<int32_t> ids{4, 0, 9};
  const auto dc = upload(c), dn = upload(norm), dt = upload(table);
  const auto di = upload(ids);
  const auto out = poisoned(int64_t{2} * t * count * p);
  ple_combine(launch_, out.data(), dc.data(), dn.data(), dt.data(), total, first, di.as<int32_t>(), t, count, p, 0.125f,
              4.0f, 1e-6f);
  Values scaled(c.size()), a(c.size()), want(c.size());
  const int64_t rows = static_cast<int64_t>(t) * count;
  ops::ref::scale(ctx_, view(scaled, rows, p), view(c, rows, p), 0.125f);
  ops::ref::rms_norm(ctx_, view(scaled, rows, p), view(scaled, rows, p),
                     ConstTensorView(norm.data(), DType::kBf16, {p}), 1e-6f);
  for (int i = 0; i < t; ++i)
    std::copy_n(table.begin() + ids[static_cast<size_t>(i)] * total + first * p, count * p, a.begin() + i * count * p);
  ops::ref::scale(ctx_, view(a, rows, p), view(a, rows, p), 4.0f);
  ops::ref::add(ctx_, view(want, rows, p), view(scaled, rows, p), view(a, rows, p));
  ops::ref::scale(ctx_, view(want, rows, p), view(want, rows, p), 0.70710678f);
  expect_close(download<Bf16>(out, want.size()), want, 1e-3, "ple");
}

}  // namespace
}  // namespace carat::cuda
