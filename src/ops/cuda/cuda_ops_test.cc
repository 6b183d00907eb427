// The CUDA kernels against ops::ref on random inputs, at sizes around every border: one token, odd counts, page and
// window edges, ragged tiles. Tolerances: sums of K products of bf16 in f32 differ by their order only, so results may
// fall on the neighbouring bf16 number.
#include "ops/cuda/cuda_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/str.h"
#include "ops/cuda/cuda_testing.h"
#include "ops/ref/ref_ops.h"

namespace carat::cuda {
namespace {

using namespace carat::cuda::testing;

class CudaOps : public CudaOpsTest {};

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

/// What a Residual says, by the reference's operations: the new stream and the next product's input.
struct SettledRows {
  Values h, x;
};
SettledRows settle(ops::Context& ctx, const Values& h, const Values* y, const Values& w_post, const Values* w_next,
                   float scalar, int t, int c) {
  SettledRows r{h, h};
  if (y) {
    Values f(h.size());
    ops::ref::rms_norm(ctx, view(f, t, c), view(*y, t, c), {w_post.data(), DType::kBf16, {c}}, 1e-6f);
    for (size_t i = 0; i < h.size(); ++i) {
      float v = round_to_bf16(static_cast<float>(h[i]) + static_cast<float>(f[i]));
      if (scalar != 1.0f) v = round_to_bf16(v * scalar);
      r.h[i] = Bf16(v);
    }
  }
  r.x = r.h;
  if (w_next) ops::ref::rms_norm(ctx, view(r.x, t, c), view(r.h, t, c), {w_next->data(), DType::kBf16, {c}}, 1e-6f);
  return r;
}

TEST_F(CudaOps, LinearFewMatchesReference) {
  // Every K of the family (hidden sizes, heads, MLP widths), rows that do not divide by 8 or by the number of SMs.
  for (const auto& s : {LinearShape{1, 2560, 1536},
                        {1, 1536, 12288},
                        {2, 1536, 6144},
                        {8, 256, 1536},
                        {3, 1536, 256},
                        {5, 200, 2048},
                        {1, 2560, 10240},
                        {4, 2816, 2112},
                        {7, 128, 2816},
                        {1, 3840, 15360},
                        {2, 77, 3840},
                        {1, 640, 21504},
                        {8, 333, 5376},
                        {6, 9, 704},
                        {1, 12000, 64}}) {
    ASSERT_TRUE(linear_few_fits(s.t, s.k));
    const auto x = random(static_cast<size_t>(s.t) * s.k),
               w = random(static_cast<size_t>(s.n) * s.k, 1.0f / std::sqrt(static_cast<float>(s.k)));
    Values want(static_cast<size_t>(s.t) * s.n);
    ops::ref::linear(ctx_, view(want, s.t, s.n), view(x, s.t, s.k), view(w, s.n, s.k));
    const auto dx = upload(x), dw = upload(w);
    const auto dy = poisoned(2 * static_cast<int64_t>(want.size()));
    FewParams p;
    p.x = dx.data();
    p.x_stride = s.k;
    p.w = dw.data();
    p.num_tokens = s.t;
    p.n = s.n;
    p.k = s.k;
    p.out = dy.data();
    p.out_stride = s.n;
    for (int repeat = 0; repeat < 2; ++repeat) {
      linear_few(launch_, p);
      expect_close(download<Bf16>(dy, want.size()), want, 3e-3, str_cat("T ", s.t, " N ", s.n, " K ", s.k));
    }
  }
  EXPECT_FALSE(linear_few_fits(9, 1536));
  EXPECT_FALSE(linear_few_fits(1, 1500));
  EXPECT_FALSE(linear_few_fits(8, 21504));
}

TEST_F(CudaOps, LinearFewRowsDoNotDependOnTheirNumber) {
  const int n = 1000, k = 1536;
  const auto x = random(8 * k), w = random(static_cast<size_t>(n) * k, 0.03f);
  const auto dx = upload(x), dw = upload(w);
  const auto all = poisoned(2 * 8 * n), some = poisoned(2 * 8 * n);
  FewParams p;
  p.x = dx.data();
  p.x_stride = k;
  p.w = dw.data();
  p.n = n;
  p.k = k;
  p.out = all.data();
  p.out_stride = n;
  p.num_tokens = 8;
  linear_few(launch_, p);
  const auto want = download<Bf16>(all, 8 * n);
  p.out = some.data();
  for (const int t : {1, 2, 5, 7}) {
    p.num_tokens = t;
    linear_few(launch_, p);
    const auto got = download<Bf16>(some, static_cast<size_t>(t) * n);
    ASSERT_EQ(0, std::memcmp(got.data(), want.data(), got.size() * 2)) << t;
  }
}

TEST_F(CudaOps, LinearFewAppliesTheResidualAndTheActivation) {
  for (const auto& s : {LinearShape{1, 2048, 1536}, {1, 512, 2560}, {1, 4224, 2816}, {1, 160, 3840}, {1, 64, 5376}})
    for (const bool has_y : {true, false})
      for (const bool normed : {true, false})
        for (const auto epilogue : {Epilogue::kBf16, Epilogue::kGeglu, Epilogue::kGeluMul}) {
          const auto h = random(static_cast<size_t>(s.t) * s.k), y = random(h.size(), 2.0f);
          const auto w_post = random(static_cast<size_t>(s.k), 0.2f, 1.0f),
                     w_next = random(static_cast<size_t>(s.k), 0.2f, 1.0f);
          const auto w = random(static_cast<size_t>(s.n) * s.k, 1.0f / std::sqrt(static_cast<float>(s.k)));
          const auto factor = random(static_cast<size_t>(s.t) * s.n);
          const float scalar = s.k % 512 == 0 ? 0.75f : 1.0f;
          const auto settled =
              settle(ctx_, h, has_y ? &y : nullptr, w_post, normed ? &w_next : nullptr, scalar, s.t, s.k);
          Values raw(static_cast<size_t>(s.t) * s.n);
          ops::ref::linear(ctx_, view(raw, s.t, s.n), view(settled.x, s.t, s.k), view(w, s.n, s.k));
          const int columns = epilogue == Epilogue::kGeglu ? s.n / 2 : s.n;
          Values want(static_cast<size_t>(s.t) * columns), gate(want.size()), up(want.size());
          for (int t = 0; t < s.t; ++t)
            for (int i = 0; i < columns; ++i) {
              const size_t at = static_cast<size_t>(t) * columns + i;
              const size_t row = static_cast<size_t>(t) * s.n;
              gate[at] = epilogue == Epilogue::kGeglu ? raw[row + i / 8 * 16 + i % 8] : raw[row + i];
              up[at] = epilogue == Epilogue::kGeglu ? raw[row + i / 8 * 16 + 8 + i % 8] : factor[row + i];
            }
          if (epilogue == Epilogue::kBf16)
            want = gate;
          else
            ops::ref::gelu_mul(ctx_, view(want, s.t, columns), view(gate, s.t, columns), view(up, s.t, columns));

          const auto dh = upload(h), dy = upload(y), dpost = upload(w_post), dnext = upload(w_next), dw = upload(w),
                     dfactor = upload(factor);
          const auto out = poisoned(2 * static_cast<int64_t>(want.size())),
                     h_out = poisoned(2 * static_cast<int64_t>(h.size()));
          FewParams p;
          p.input = {dh.data(),
                     has_y ? dy.data() : nullptr,
                     has_y ? dpost.data() : nullptr,
                     normed ? dnext.data() : nullptr,
                     scalar,
                     1e-6f,
                     h_out.data()};
          p.w = dw.data();
          p.num_tokens = s.t;
          p.n = s.n;
          p.k = s.k;
          p.epilogue = epilogue;
          p.factor = dfactor.data();
          p.factor_stride = s.n;
          p.out = out.data();
          p.out_stride = columns;
          linear_few(launch_, p);
          const auto what = str_cat("T ", s.t, " N ", s.n, " K ", s.k, " y ", has_y, " normed ", normed, " epilogue ",
                                    static_cast<int>(epilogue));
          expect_close(download<Bf16>(out, want.size()), want, 6e-3, what);
          if (has_y) expect_close(download<Bf16>(h_out, h.size()), settled.h, 1e-3, what + " stream");
        }
}

TEST_F(CudaOps, MoeInputsMatchReference) {
  for (const int c : {2816, 264})
    for (const int t : {1, 3, 40}) {
      const auto h = random(static_cast<size_t>(t) * c), y = random(h.size(), 2.0f);
      const auto w_post = random(static_cast<size_t>(c), 0.2f, 1.0f),
                 w_next = random(static_cast<size_t>(c), 0.2f, 1.0f),
                 experts = random(static_cast<size_t>(c), 0.2f, 1.0f),
                 scale = random(static_cast<size_t>(c), 0.2f, 1.0f), ones = random(static_cast<size_t>(c), 0.0f, 1.0f);
      const float root = 1.0f / std::sqrt(static_cast<float>(c));
      const auto dense = settle(ctx_, h, &y, w_post, &w_next, 1.0f, t, c);
      const auto expert_rows = settle(ctx_, h, &y, w_post, &experts, 1.0f, t, c);
      auto router = settle(ctx_, h, &y, w_post, &ones, 1.0f, t, c).x;
      for (size_t i = 0; i < router.size(); ++i)
        router[i] =
            Bf16(round_to_bf16(static_cast<float>(router[i]) * static_cast<float>(scale[i % static_cast<size_t>(c)])) *
                 root);
      const auto dh = upload(h), dy = upload(y), dpost = upload(w_post), dnext = upload(w_next),
                 dexperts = upload(experts), dscale = upload(scale);
      const auto bytes = 2 * static_cast<int64_t>(h.size());
      const auto x = poisoned(bytes), z = poisoned(bytes), e = poisoned(bytes), counts = poisoned(4 * 128);
      MoeInputsParams p{};
      p.change = {dh.data(), dy.data(), dpost.data(), dnext.data(), 1.0f, 1e-6f, dh.data()};
      p.x = x.data();
      p.router_x = z.data();
      p.experts_x = e.data();
      p.router_scale = dscale.data();
      p.experts_norm = dexperts.data();
      p.root = root;
      p.counts = counts.as<int32_t>();
      p.num_experts = 128;
      p.num_tokens = t;
      p.c = c;
      moe_inputs(launch_, p);
      expect_close(download<Bf16>(x, h.size()), dense.x, 3e-3, "dense input");
      expect_close(download<Bf16>(e, h.size()), expert_rows.x, 3e-3, "experts' input");
      expect_close(download<Bf16>(z, h.size()), router, 3e-3, "router's input");
      expect_close(download<Bf16>(dh, h.size()), dense.h, 1e-3, "stream");
      EXPECT_EQ(download<int32_t>(counts, 128), std::vector<int32_t>(128, 0));
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
  int block = 0;  ///< every second run of so many positions is an image whose tokens see each other
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
                        {512, 16, 2, 0, 0, 33, 32, 1},
                        {256, 8, 1, 64, 0, 150, 64, 1, 20},
                        {256, 8, 1, 64, 100, 77, 64, 2, 50},
                        {256, 16, 8, 512, 300, 400, 64, 3, 140},
                        {256, 16, 8, 64, 31, 300, 64, 1, 100},
                        {256, 8, 2, 1024, 0, 1200, 64, 4, 1120}}) {
    const int length = s.position + s.tokens, pages = (length + 63) / 64, group = s.heads / s.kv_heads;
    const int64_t page_elements = int64_t{2} * s.kv_heads * 64 * s.d;
    const auto q = random(static_cast<size_t>(s.tokens) * s.heads * s.d, 0.1f);
    auto kv = random(static_cast<size_t>(pages) * page_elements, 1.0f);
    std::vector<int32_t> table(static_cast<size_t>(pages));
    for (int i = 0; i < pages; ++i) table[static_cast<size_t>(i)] = pages - 1 - i;
    // The reference.
    ops::KvStore store{reinterpret_cast<uint16_t*>(kv.data()), page_elements, int64_t{s.kv_heads} * 64 * s.d,
                       s.kv_heads, s.d};
    std::vector<int32_t> positions, last_keys, indptr{0, s.tokens};
    for (int i = s.position; i < length; ++i) {
      positions.push_back(i);
      const bool text = s.block == 0 || i / s.block % 2 == (s.block > s.tokens / 2 ? 1 : 0);
      last_keys.push_back(text ? i : std::min(i / s.block * s.block + s.block, length) - 1);
    }
    const int32_t* tables[] = {table.data()};
    const ops::AttentionBatch batch{indptr, positions, tables, 64, last_keys};
    Values want(q.size());
    ops::ref::attention(ctx_, view(want, s.tokens, s.heads * s.d), view(q, s.tokens, s.heads * s.d), store, batch,
                        s.window);

    std::vector<AttentionTile> tiles;
    const int per = s.columns / group;
    for (int at = 0; at < s.tokens; at += per) tiles.push_back({0, at, std::min(per, s.tokens - at), s.position + at});
    tiles.push_back({0, 0, 0, 0});
    const auto dq = upload(q), dkv = upload(kv), dtable = upload(table), dlast = upload(last_keys);
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
    p.last_keys = s.block > 0 ? dlast.as<int32_t>() : nullptr;
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
                           s.position, " T ", s.tokens, " splits ", s.splits, " block ", s.block));
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

TEST_F(CudaOps, FewAttentionEqualsItsParts) {
  // One launch against qk_norm_rope_store and attention, which are tested above: rows of several slots at page, window
  // and tile borders, with and without K/V of their own, short contexts (one cluster) and long ones (several).
  struct Case {
    int d, heads, kv_heads, rotated, window;
    bool own, k_is_v;
    std::vector<int32_t> positions;
  };
  for (const auto& s : {Case{256, 8, 1, 128, 512, true, false, {700}},
                        {256, 8, 1, 128, 512, false, false, {0, 511, 512, 575, 576, 1000, 63, 64}},
                        {256, 8, 2, 128, 512, true, false, {0, 1, 63, 64, 65, 511, 512, 513}},
                        {256, 16, 8, 128, 1024, true, false, {1023, 1024, 3000}},
                        {256, 32, 16, 128, 1024, true, false, {2047, 5}},
                        {512, 8, 1, 64, 0, true, false, {900}},
                        {512, 8, 1, 64, 0, false, false, {31, 32, 33, 1500}},
                        {512, 16, 1, 64, 0, true, true, {0, 31, 32, 255, 256, 1023, 1024, 4100}},
                        {512, 16, 2, 64, 0, true, true, {12000}},
                        {512, 32, 4, 64, 0, true, true, {129, 7000, 64}}}) {
    const int t = static_cast<int>(s.positions.size()), group = s.heads / s.kv_heads;
    const int own_heads = s.own ? s.kv_heads : 0;
    const int width = (s.heads + own_heads * (s.k_is_v ? 1 : 2)) * s.d;
    const auto qkv = random(static_cast<size_t>(t) * width), qn = random(s.d, 0.02f, 0.15f),
               kn = random(s.d, 0.1f, 1.0f);
    std::vector<float> freq(static_cast<size_t>(s.rotated));
    for (int j = 0; j < s.rotated; ++j)
      freq[static_cast<size_t>(j)] = 1.0f / static_cast<float>(std::pow(10000.0, 2.0 * j / s.d));
    // Slot t + 1 has pages in an order of its own; with windows the table is a ring.
    const int longest = *std::max_element(s.positions.begin(), s.positions.end()) + 1;
    const int pages = (longest + 63) / 64, ring = s.window > 0 ? std::min(pages, s.window / 64 + 2) : pages;
    std::vector<int32_t> slots, table(static_cast<size_t>(t + 1) * ring);
    for (int i = 0; i < t; ++i) {
      slots.push_back(i + 1);
      for (int page = 0; page < ring; ++page)
        table[static_cast<size_t>((i + 1) * ring + page)] = (ring - 1 - page) * t + i;
    }
    const int64_t page_elements = int64_t{2} * s.kv_heads * 64 * s.d;
    const auto kv = random(static_cast<size_t>(ring) * t * page_elements);
    const auto dqkv = upload(qkv), dqn = upload(qn), dkn = upload(kn), dkv = upload(kv), dkv_few = upload(kv);
    const auto dpos = upload(s.positions), dslots = upload(slots), dtable = upload(table);
    const auto dfreq = upload(freq);
    const auto size = static_cast<size_t>(t) * s.heads * s.d;
    const auto dq = poisoned(2 * static_cast<int64_t>(size)), want_o = poisoned(2 * static_cast<int64_t>(size)),
               got_o = poisoned(2 * static_cast<int64_t>(size));
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
    p.table_stride = p.ring = ring;
    p.num_tokens = t;
    p.num_heads = s.heads;
    p.num_kv_heads = own_heads;
    p.head_dim = s.d;
    p.page_tokens = 64;
    p.k_is_v = s.k_is_v;
    p.eps = 1e-6f;
    qk_norm_rope_store(launch_, p);
    std::vector<AttentionTile> tiles;
    for (int i = 0; i < t; ++i) tiles.push_back({i + 1, i, 1, s.positions[static_cast<size_t>(i)]});
    const auto dtiles = upload(tiles);
    const int columns = group <= 8 ? 8 : 16;
    const auto scratch = poisoned(int64_t{4} * t * s.kv_heads * 4 * columns * (s.d + 2));
    const auto counters = allocate(int64_t{4} * t * s.kv_heads);
    stream_.fill(counters.data(), 0, counters.size());
    AttentionParams a{};
    a.q = dq.data();
    a.o = want_o.data();
    a.tiles = dtiles.as<AttentionTile>();
    a.num_tiles = t;
    a.splits = 4;
    a.kv = dkv.data();
    a.page_stride = page_elements;
    a.v_offset = p.v_offset;
    a.table = dtable.as<int32_t>();
    a.table_stride = a.ring = ring;
    a.num_heads = s.heads;
    a.num_kv_heads = s.kv_heads;
    a.head_dim = s.d;
    a.page_tokens = 64;
    a.window = s.window;
    a.columns = columns;
    a.scratch = scratch.as<float>();
    a.counters = counters.as<int32_t>();
    attention(launch_, a);

    FewAttentionParams f{};
    f.in = p;
    f.in.q = nullptr;
    f.in.kv = dkv_few.data();
    f.o = got_o.data();
    f.num_kv_heads = s.kv_heads;
    f.window = s.window;
    const auto few_scratch = poisoned(4 * attention_few_scratch_floats(launch_, t, s.kv_heads, s.d));
    const auto few_counters = allocate(int64_t{4} * t * s.kv_heads * 8);
    stream_.fill(few_counters.data(), 0, few_counters.size());
    f.scratch = few_scratch.as<float>();
    f.counters = few_counters.as<int32_t>();
    const auto what =
        str_cat("D ", s.d, " heads ", s.heads, "/", s.kv_heads, " window ", s.window, " own ", s.own, " T ", t);
    for (int repeat = 0; repeat < 2; ++repeat) {
      attention_few(launch_, f);
      expect_close(download<Bf16>(got_o, size), download<Bf16>(want_o, size), 6e-3, what);
    }
    EXPECT_EQ(
        0, std::memcmp(download<Bf16>(dkv, kv.size()).data(), download<Bf16>(dkv_few, kv.size()).data(), kv.size() * 2))
        << what << ": the pages differ";
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
    stream_.fill(counts.data(), 0, counts.size());
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

TEST_F(CudaOps, EmbeddingsAndSoftTokens) {
  const int t = 5, c = 72, vocab = 9;
  const auto table = random(static_cast<size_t>(vocab) * c), values = random(static_cast<size_t>(4) * c);
  const std::vector<int32_t> ids{3, 0, 8, 0, 1}, rows{-1, 2, -1, 0, -1};
  const auto dt = upload(table), dv = upload(values), di = upload(ids), dr = upload(rows);
  Values want(static_cast<size_t>(t) * c);
  ops::ref::embed(ctx_, view(want, t, c), view(table, vocab, c), ids, 7.5f);
  const auto y = poisoned(int64_t{2} * t * c);
  embed(launch_, y.data(), dt.data(), di.as<int32_t>(), t, c, 7.5f);
  EXPECT_EQ(download<Bf16>(y, want.size()), want);
  for (int i = 0; i < t; ++i)
    if (rows[static_cast<size_t>(i)] >= 0)
      std::copy_n(values.begin() + rows[static_cast<size_t>(i)] * c, c, want.begin() + i * c);
  embed(launch_, y.data(), dt.data(), di.as<int32_t>(), t, c, 7.5f, {dv.data(), dr.as<int32_t>()});
  EXPECT_EQ(download<Bf16>(y, want.size()), want);
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
