// The vision encoders' kernels against the operations of ops/ref that they stand for, step by step with the same
// roundings. Tolerances as in cuda_ops_test.cc: a sum's order moves a result to the neighbouring bf16 number.
#include "ops/cuda/vision_ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "ops/cuda/cuda_testing.h"
#include "ops/ref/ref_ops.h"

namespace carat::cuda {
namespace {

using namespace carat::cuda::testing;

class CudaVision : public CudaOpsTest {
 protected:
  std::vector<uint8_t> random_bytes(size_t n) {
    std::vector<uint8_t> v(n);
    for (auto& x : v) x = static_cast<uint8_t>(rng_());
    return v;
  }
  std::vector<PatchPosition> random_positions(int n, int most) {
    std::vector<PatchPosition> v(static_cast<size_t>(n));
    for (auto& p : v) p = {static_cast<int16_t>(rng_() % most), static_cast<int16_t>(rng_() % most)};
    return v;
  }
  Values download_values(const DeviceBuffer& b, size_t n) { return download<Bf16>(b, n); }
};

Values limited(Values v, Bounds b) {
  for (Bf16& x : v) x = Bf16(std::clamp(static_cast<float>(x), b.lowest, b.highest));
  return v;
}
ConstTensorView row_view(const Values& v) { return {v.data(), DType::kBf16, {static_cast<int64_t>(v.size())}}; }
constexpr Bounds kNarrow{-0.75f, 0.8125f};

TEST_F(CudaVision, LooksUpBytes) {
  const auto table = random(256);
  const auto x = random_bytes(16 * 77);
  auto y = poisoned(static_cast<int64_t>(x.size()) * 2);
  const auto device_x = upload(x), device_table = upload(table);
  lookup_bytes(launch_, y.data(), device_x.as<uint8_t>(), device_table.data(), static_cast<int64_t>(x.size()));
  const auto got = download_values(y, x.size());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(static_cast<float>(got[i]), static_cast<float>(table[x[i]])) << i;
}

TEST_F(CudaVision, AddsPositions) {
  for (const int c : {64, 768, 1152}) {
    const int n = 37, rows = 50;
    const auto h = random(static_cast<size_t>(n) * c), table = random(size_t{2} * rows * c);
    const auto positions = random_positions(n, rows);
    Values want = h;
    for (int t = 0; t < n; ++t)
      for (int i = 0; i < c; ++i) {
        const auto at = [&](int axis, int row) {
          return static_cast<float>(table[(size_t(axis) * rows + row) * c + i]);
        };
        const Bf16 sum(at(0, positions[t].column) + at(1, positions[t].row));
        Bf16& v = want[static_cast<size_t>(t) * c + i];
        v = Bf16(static_cast<float>(v) + static_cast<float>(sum));
      }
    const auto device_h = upload(h), device_table = upload(table), device_positions = upload(positions);
    add_positions(launch_, device_h.data(), device_table.data(), rows, device_positions.as<PatchPosition>(), n, c);
    const auto got = download_values(device_h, h.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(static_cast<float>(got[i]), static_cast<float>(want[i])) << "C " << c << ", element " << i;
  }
}

TEST_F(CudaVision, NormsWithBounds) {
  const float eps = 1e-6f;
  for (const int c : {64, 768, 1152, 1280}) {
    for (const bool change : {false, true}) {
      const int n = 21;
      const size_t size = static_cast<size_t>(n) * c;
      const auto h = random(size), y = random(size), w_post = random(c), w_next = random(c);
      Values new_h = h;
      if (change) {
        Values normed(size);
        ops::ref::rms_norm(ctx_, view(normed, n, c), view(limited(y, kNarrow), n, c), row_view(w_post), eps);
        ops::ref::add(ctx_, view(new_h, n, c), view(h, n, c), view(normed, n, c));
      }
      Values x(size);
      ops::ref::rms_norm(ctx_, view(x, n, c), view(new_h, n, c), row_view(w_next), eps);
      const auto device_h = upload(h), device_y = upload(y), device_post = upload(w_post), device_next = upload(w_next);
      std::vector<DeviceBuffer> out;
      VisionNormParams p{};
      p.h = device_h.data();
      p.y = change ? device_y.data() : nullptr;
      p.w_post = device_post.data();
      p.w_next = device_next.data();
      p.y_bounds = kNarrow;
      p.x_bounds[1] = {-0.5f, 2.0f};
      p.x_bounds[2] = {-1.5f, 0.25f};
      for (int i = 0; i < 3; ++i) {
        out.push_back(poisoned(static_cast<int64_t>(size) * 2));
        p.x[i] = out.back().data();
      }
      p.num_x = 3;
      p.num_patches = n;
      p.c = c;
      p.eps = eps;
      vision_norm(launch_, p);
      expect_close(download_values(device_h, size), new_h, 2e-3, str_cat("h, C ", c));
      for (int i = 0; i < 3; ++i)
        expect_close(download_values(out[static_cast<size_t>(i)], size), limited(x, p.x_bounds[i]), 3e-3,
                     str_cat("x ", i, ", C ", c, change ? ", with a change" : ""));
    }
  }
}

TEST_F(CudaVision, NormsAndRotatesHeads) {
  const float eps = 1e-6f;
  for (const int d : {64, 72}) {
    const int n = 45, heads = 3, c = heads * d, grid = 40;
    const size_t size = static_cast<size_t>(n) * c;
    const auto q = random(size), k = random(size), v = random(size), q_norm = random(d), k_norm = random(d);
    const auto positions = random_positions(n, grid);
    std::vector<float> inv_freq(static_cast<size_t>(d) / 4), rotations;
    for (size_t j = 0; j < inv_freq.size(); ++j)
      inv_freq[j] = 1.0f / std::pow(100.0f, 2.0f * static_cast<float>(j) / static_cast<float>(d / 2));
    for (int at = 0; at < grid; ++at)
      for (const float f : inv_freq) {
        rotations.push_back(round_to_bf16(std::cos(static_cast<float>(at) * f)));
        rotations.push_back(round_to_bf16(std::sin(static_cast<float>(at) * f)));
      }
    std::vector<int32_t> columns, rows;
    for (const auto& p : positions) {
      columns.push_back(p.column);
      rows.push_back(p.row);
    }
    const Bounds wide{-1.25f, 1.5f};
    const auto want = [&](const Values& x, Bounds bounds, const Values& norm, bool rotate) {
      Values y(size);
      ops::ref::rms_norm(ctx_, view(y, n * heads, d), view(limited(x, bounds), n * heads, d), row_view(norm), eps);
      if (rotate) ops::ref::rope_2d(ctx_, view(y, n, c), d, columns, rows, inv_freq);
      return y;
    };
    const auto device_q = upload(q), device_k = upload(k), device_v = upload(v), device_qn = upload(q_norm),
               device_kn = upload(k_norm), device_positions = upload(positions), device_rotations = upload(rotations);
    VisionQkvParams p{};
    p.q = device_q.data();
    p.k = device_k.data();
    p.v = device_v.data();
    p.q_bounds = kNarrow;
    p.v_bounds = wide;
    p.q_norm = device_qn.data();
    p.k_norm = device_kn.data();
    p.positions = device_positions.as<PatchPosition>();
    p.rotations = device_rotations.as<float>();
    p.num_patches = n;
    p.num_heads = heads;
    p.head_dim = d;
    p.eps = eps;
    vision_qkv(launch_, p);
    expect_close(download_values(device_q, size), want(q, kNarrow, q_norm, true), 3e-3, str_cat("q, D ", d));
    expect_close(download_values(device_k, size), want(k, {}, k_norm, true), 3e-3, str_cat("k, D ", d));
    expect_close(download_values(device_v, size), want(v, wide, {}, false), 3e-3, str_cat("v, D ", d));
  }
}

/// Images of all border sizes behind each other: a tile, a stage of keys, one less and one more.
TEST_F(CudaVision, AttendsWithinAnImage) {
  for (const int d : {64, 72}) {
    const std::vector<int> sizes = {9, 64, 63, 65, 128, 127, 129, 1, 300};
    const int heads = 2, c = heads * d;
    std::vector<int32_t> indptr = {0};
    std::vector<VisionTile> tiles;
    for (const int size : sizes) {
      const int begin = indptr.back(), end = begin + size;
      for (int first = begin; first < end; first += kVisionTileRows) tiles.push_back({first, begin, end, 0});
      indptr.push_back(end);
    }
    const int n = indptr.back();
    const size_t size = static_cast<size_t>(n) * c;
    // Scores of a deviation of 2: a few keys count, none alone.
    const auto q = random(size, std::sqrt(2.0f)), k = random(size, std::sqrt(2.0f) / std::sqrt(static_cast<float>(d))),
               v = random(size);
    Values want(size);
    ops::ref::bidirectional_attention(ctx_, view(want, n, c), view(q, n, c), view(k, n, c), view(v, n, c), d, indptr);
    const auto device_q = upload(q), device_k = upload(k), device_v = upload(v), device_tiles = upload(tiles);
    auto o = poisoned(static_cast<int64_t>(size) * 2);
    VisionAttentionParams p{};
    p.q = device_q.data();
    p.k = device_k.data();
    p.v = device_v.data();
    p.o = o.data();
    p.o_bounds = {-0.5f, 0.625f};
    p.tiles = device_tiles.as<VisionTile>();
    p.num_tiles = static_cast<int>(tiles.size());
    p.num_heads = heads;
    p.head_dim = d;
    vision_attention(launch_, p);
    expect_close(download_values(o, size), limited(want, p.o_bounds), 4e-3, str_cat("D ", d));
  }
}

TEST_F(CudaVision, MultipliesWithBounds) {
  const int n = 33, f = 3072;
  const size_t size = static_cast<size_t>(n) * f;
  const auto gate = random(size), up = random(size);
  const Bounds gate_bounds{-1.0f, 1.5f}, up_bounds{-2.0f, 0.5f}, bounds{-0.125f, 0.25f};
  Values want(size);
  ops::ref::gelu_mul(ctx_, view(want, n, f), view(limited(gate, gate_bounds), n, f),
                     view(limited(up, up_bounds), n, f));
  const auto device_gate = upload(gate), device_up = upload(up);
  vision_geglu(launch_, device_gate.data(), device_up.data(), gate_bounds, up_bounds, bounds,
               static_cast<int64_t>(size));
  expect_close(download_values(device_gate, size), limited(want, bounds), 2e-3, "geglu");
}

TEST_F(CudaVision, Pools) {
  const float eps = 1e-6f;
  for (const int c : {64, 768, 1152}) {
    for (const bool standardise : {false, true}) {
      const int k = 3;
      const std::vector<std::array<int, 2>> grids = {{3, 3}, {12, 6}, {3, 9}};  // width, height
      int n = 0;
      for (const auto& g : grids) n += g[0] * g[1];
      const auto h = random(static_cast<size_t>(n) * c), bias = random(c), factor = random(c, 0.2f, 1.0f);
      const float s = std::sqrt(static_cast<float>(c));
      std::vector<PoolGroup> groups;
      Values want;
      int first = 0;
      for (const auto& g : grids) {
        for (int y = 0; y < g[1]; y += k)
          for (int x = 0; x < g[0]; x += k) groups.push_back({first + y * g[0] + x, g[0]});
        const int tokens = g[0] * g[1] / (k * k);
        const Values image(h.begin() + int64_t{first} * c, h.begin() + (first + int64_t{g[0]} * g[1]) * c);
        Values pooled(static_cast<size_t>(tokens) * c), normed(pooled.size());
        const ConstTensorView none{};
        ops::ref::pool_patches(ctx_, view(pooled, tokens, c), view(image, g[0] * g[1], c), g[0], k, s,
                               standardise ? row_view(bias) : none, standardise ? row_view(factor) : none);
        ops::ref::rms_norm(ctx_, view(normed, tokens, c), view(pooled, tokens, c), {}, eps);
        want.insert(want.end(), normed.begin(), normed.end());
        first += g[0] * g[1];
      }
      const auto device_h = upload(h), device_groups = upload(groups), device_bias = upload(bias),
                 device_factor = upload(factor);
      auto x = poisoned(static_cast<int64_t>(want.size()) * 2);
      vision_pool(launch_, x.data(), device_h.data(), device_groups.as<PoolGroup>(), static_cast<int>(groups.size()), k,
                  s, standardise ? device_bias.data() : nullptr, standardise ? device_factor.data() : nullptr, c, eps);
      expect_close(download_values(x, want.size()), want, 2e-3, str_cat("C ", c, standardise ? ", standardised" : ""));
    }
  }
}

TEST_F(CudaVision, EmbedsTiles) {
  const int n = 5, wide = 6912, c = 3840, table_rows = 20;
  const float layer_eps = 1e-5f, rms_eps = 1e-6f;
  const auto bytes = random_bytes(static_cast<size_t>(n) * wide);
  const auto table = random(256, 0.3f, 0.5f), w1 = random(wide, 0.2f, 1.0f), b1 = random(wide, 0.2f),
             bias = random(c, 0.2f), w2 = random(c, 0.2f, 1.0f), b2 = random(c, 0.2f), w3 = random(c, 0.2f, 1.0f),
             b3 = random(c, 0.2f), positions_table = random(size_t{2} * table_rows * c);
  const auto positions = random_positions(n, table_rows);

  Values pixels(bytes.size()), normed(bytes.size());
  ops::ref::lookup_bytes(ctx_, view(pixels, n, wide), {bytes.data(), DType::kU8, {n, wide}}, row_view(table));
  ops::ref::layer_norm(ctx_, view(normed, n, wide), view(pixels, n, wide), row_view(w1), row_view(b1), layer_eps);
  const auto device_bytes = upload(bytes), device_table = upload(table), device_w1 = upload(w1), device_b1 = upload(b1);
  auto y = poisoned(static_cast<int64_t>(bytes.size()) * 2);
  tile_norm(launch_, y.data(), device_bytes.as<uint8_t>(), device_table.data(), device_w1.data(), device_b1.data(), n,
            wide, layer_eps);
  expect_close(download_values(y, bytes.size()), normed, 2e-3, "tile_norm");

  const size_t size = static_cast<size_t>(n) * c;
  std::vector<float> sums(size);
  for (float& v : sums) v = static_cast<float>(random(1)[0]) * 1.001f;
  Values want(size), at(size);
  ops::ref::add_bias(ctx_, view(want, n, c), {sums.data(), DType::kF32, {n, c}}, row_view(bias));
  ops::ref::layer_norm(ctx_, view(want, n, c), view(want, n, c), row_view(w2), row_view(b2), layer_eps);
  for (int t = 0; t < n; ++t)
    for (int i = 0; i < c; ++i) {
      const auto entry = [&](int row, int axis) {
        return static_cast<float>(positions_table[(static_cast<size_t>(row) * 2 + axis) * c + i]);
      };
      at[static_cast<size_t>(t) * c + i] = Bf16(entry(positions[t].column, 0) + entry(positions[t].row, 1));
    }
  ops::ref::add(ctx_, view(want, n, c), view(want, n, c), view(at, n, c));
  ops::ref::layer_norm(ctx_, view(want, n, c), view(want, n, c), row_view(w3), row_view(b3), layer_eps);
  ops::ref::rms_norm(ctx_, view(want, n, c), view(want, n, c), {}, rms_eps);
  const auto device_sums = upload(sums), device_bias = upload(bias), device_w2 = upload(w2), device_b2 = upload(b2),
             device_w3 = upload(w3), device_b3 = upload(b3), device_table2 = upload(positions_table),
             device_positions = upload(positions);
  auto out = poisoned(static_cast<int64_t>(size) * 2);
  TileEmbedParams p{};
  p.y = out.data();
  p.x = device_sums.as<float>();
  p.bias = device_bias.data();
  p.w2 = device_w2.data();
  p.b2 = device_b2.data();
  p.positions_table = device_table2.data();
  p.w3 = device_w3.data();
  p.b3 = device_b3.data();
  p.positions = device_positions.as<PatchPosition>();
  p.num_tiles = n;
  p.c = c;
  p.layer_eps = layer_eps;
  p.rms_eps = rms_eps;
  tile_embed(launch_, p);
  expect_close(download_values(out, size), want, 4e-3, "tile_embed");
}

}  // namespace
}  // namespace carat::cuda
