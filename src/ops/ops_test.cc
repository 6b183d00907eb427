// One table of cases per op. Every level of the CPU backend that this machine has runs them, with one, two and three
// threads, against ops::ref. What needs no sum must be equal bit for bit; sums get the tolerance that follows from
// their length. Beyond that, a row's result must not depend on its batch or on threads: bit for bit, at every level.

#include "ops/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/str.h"
#include "base/worker_pool.h"
#include "ops/cpu/level.h"
#include "tensor/bf16.h"

namespace carat::ops {
namespace {

using Bits = std::vector<uint16_t>;

/// A bf16 or f32 matrix with its own memory, rows `pad` elements apart; the padding is filled with a mark.
struct Matrix {
  static constexpr uint16_t kMark = 0x7fc1;  // a NaN: reading it shows in the results
  int64_t rows, cols, stride;
  DType dtype;
  Bits bf16;
  std::vector<float> f32;

  Matrix(int64_t r, int64_t c, int64_t pad = 0, DType type = DType::kBf16)
      : rows(r), cols(c), stride(c + pad), dtype(type) {
    const size_t n = static_cast<size_t>(r * stride + 1);
    if (type == DType::kBf16)
      bf16.assign(n, kMark);
    else
      f32.assign(n, -12345.0f);
  }
  void* data() { return dtype == DType::kBf16 ? static_cast<void*>(bf16.data()) : static_cast<void*>(f32.data()); }
  TensorView view() { return {data(), dtype, {rows, cols}, stride}; }
  TensorView vector() { return {data(), dtype, {cols}}; }
  uint16_t& bits(int64_t r, int64_t c) { return bf16[static_cast<size_t>(r * stride + c)]; }
  float at(int64_t r, int64_t c) const {
    const size_t i = static_cast<size_t>(r * stride + c);
    return dtype == DType::kBf16 ? static_cast<float>(Bf16::from_bits(bf16[i])) : f32[i];
  }
  bool padding_untouched() const {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = cols; c < stride; ++c) {
        const size_t i = static_cast<size_t>(r * stride + c);
        if (dtype == DType::kBf16 ? bf16[i] != kMark : f32[i] != -12345.0f) return false;
      }
    return dtype == DType::kBf16 ? bf16.back() == kMark : f32.back() == -12345.0f;
  }
  bool operator==(const Matrix& other) const {
    return bf16 == other.bf16 && f32.size() == other.f32.size() &&
           (f32.empty() || std::memcmp(f32.data(), other.f32.data(), f32.size() * sizeof(float)) == 0);
  }
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  float normal(float deviation) { return std::normal_distribution<float>(0, deviation)(engine_); }
  int32_t below(int32_t n) { return std::uniform_int_distribution<int32_t>(0, n - 1)(engine_); }
  Matrix matrix(int64_t rows, int64_t cols, float deviation = 1.0f, int64_t pad = 0) {
    Matrix m(rows, cols, pad);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) m.bits(r, c) = Bf16(normal(deviation)).bits;
    return m;
  }
  std::mt19937& engine() { return engine_; }

 private:
  std::mt19937 engine_;
};

/// All bf16 numbers in one row.
Matrix all_numbers() {
  Matrix m(1, 65536);
  for (int64_t i = 0; i < 65536; ++i) m.bits(0, i) = static_cast<uint16_t>(i);
  return m;
}

bool is_nan(uint16_t bits) { return (bits & 0x7fff) > 0x7f80; }

/// Equal bit for bit, any NaN being as good as another.
void expect_same(const Matrix& got, const Matrix& want, const std::string& what) {
  ASSERT_EQ(got.bf16.size(), want.bf16.size()) << what;
  for (size_t i = 0; i < got.bf16.size(); ++i) {
    if (is_nan(got.bf16[i]) && is_nan(want.bf16[i])) continue;
    ASSERT_EQ(got.bf16[i], want.bf16[i]) << what << ": element " << i;
  }
  ASSERT_EQ(got.f32.size(), want.f32.size()) << what;
  for (size_t i = 0; i < got.f32.size(); ++i) {
    if (std::isnan(got.f32[i]) && std::isnan(want.f32[i])) continue;
    ASSERT_EQ(got.f32[i], want.f32[i]) << what << ": element " << i;
  }
}

/// |got - want| <= slack(r, c) + the distance of two neighbours where the result is bf16.
template <class Slack>
void expect_near(const Matrix& got, const Matrix& want, Slack&& slack, const std::string& what) {
  for (int64_t r = 0; r < got.rows; ++r)
    for (int64_t c = 0; c < got.cols; ++c) {
      const double a = static_cast<double>(got.at(r, c)), b = static_cast<double>(want.at(r, c));
      const double rounding = got.dtype == DType::kBf16 ? std::abs(b) / 128 : 0;
      ASSERT_LE(std::abs(a - b), static_cast<double>(slack(r, c)) + rounding)
          << what << ": [" << r << ", " << c << "] is " << a << ", expected " << b;
    }
  EXPECT_TRUE(got.padding_untouched()) << what << " wrote between rows";
}

class Ops : public testing::TestWithParam<cpu::Level> {
 protected:
  void SetUp() override { cpu::set_active_level(GetParam()); }

  /// Runs fn with one, two and three threads.
  template <class Fn>
  void for_each_context(Fn&& fn) {
    for (WorkerPool* pool : {static_cast<WorkerPool*>(nullptr), &two_, &three_}) {
      Context ctx{Backend::kCpu, pool};
      fn(ctx, str_cat(" (", pool ? pool->num_threads() : 1, " threads)"));
    }
  }
  Context ref_{Backend::kRef, nullptr};

 private:
  WorkerPool two_{2}, three_{3};
};

INSTANTIATE_TEST_SUITE_P(Cpu, Ops, testing::ValuesIn(cpu::available_levels()),
                         [](const auto& level) { return std::string(cpu::to_string(level.param)); });

// ---- Linear

struct LinearCase {
  int64_t tokens, outputs, depth, pad;
  DType out;
};

const LinearCase kLinearCases[] = {
    {0, 64, 64, 0, DType::kBf16},    {1, 1, 1, 0, DType::kF32},        {1, 64, 64, 0, DType::kBf16},
    {1, 33, 100, 3, DType::kBf16},   {2, 5, 7, 1, DType::kF32},        {3, 48, 512, 0, DType::kF32},
    {5, 96, 1536, 8, DType::kBf16},  {7, 31, 33, 5, DType::kBf16},     {16, 128, 544, 0, DType::kBf16},
    {17, 65, 1000, 2, DType::kF32},  {31, 160, 704, 0, DType::kBf16},  {32, 64, 256, 0, DType::kF32},
    {33, 64, 96, 0, DType::kBf16},   {64, 200, 1100, 4, DType::kBf16}, {100, 129, 513, 0, DType::kF32},
    {513, 40, 600, 0, DType::kBf16}, {545, 36, 64, 2, DType::kF32},    {4, 1, 3000, 0, DType::kBf16},
};

TEST_P(Ops, Linear) {
  for (const LinearCase& c : kLinearCases) {
    Random random(7);
    Matrix x = random.matrix(c.tokens, c.depth, 1.0f, c.pad), w = random.matrix(c.outputs, c.depth, 0.05f, c.pad);
    Matrix want(c.tokens, c.outputs, c.pad, c.out);
    linear(ref_, want.view(), x.view(), w.view());
    Matrix magnitude(c.tokens, c.outputs, 0, DType::kF32);
    for (int64_t t = 0; t < c.tokens; ++t)
      for (int64_t n = 0; n < c.outputs; ++n) {
        float sum = 0;
        for (int64_t k = 0; k < c.depth; ++k) sum += std::abs(x.at(t, k) * w.at(n, k));
        magnitude.f32[static_cast<size_t>(t * c.outputs + n)] = sum;
      }
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(c.tokens, c.outputs, c.pad, c.out);
      linear(ctx, got.view(), x.view(), w.view());
      // Rounding errors of a sum of K numbers grow like sqrt(K) units of its magnitude; four of those for luck.
      const float unit = std::ldexp(4 * std::sqrt(static_cast<float>(c.depth)), -24);
      expect_near(
          got, want, [&](int64_t t, int64_t n) { return unit * magnitude.at(t, n); },
          str_cat("linear T ", c.tokens, " N ", c.outputs, " K ", c.depth, threads));
    });
  }
}

TEST_P(Ops, LinearRowsDoNotDependOnTheirBatch) {
  for (const int64_t depth : {96, 1000, 1536}) {
    constexpr int64_t kTokens = 600, kOutputs = 160;
    Random random(11);
    Matrix x = random.matrix(kTokens, depth), w = random.matrix(kOutputs, depth, 0.05f);
    Matrix alone(kTokens, kOutputs, 0, DType::kF32);
    Context one{Backend::kCpu, nullptr};
    const auto rows = [](Matrix& m, int64_t begin, int64_t count) {
      TensorView v = m.view();
      v.data = static_cast<std::byte*>(v.data) + begin * m.stride * size_of(m.dtype);
      v.shape = Shape{count, m.cols};
      return v;
    };
    for (int64_t t = 0; t < kTokens; ++t) linear(one, rows(alone, t, 1), rows(x, t, 1), w.view());
    std::vector<int64_t> sizes(64);
    std::iota(sizes.begin(), sizes.end(), 1);
    for (const int64_t more : {100, 511, 512, 513, 600}) sizes.push_back(more);
    for_each_context([&](Context& ctx, const std::string& threads) {
      for (const int64_t size : sizes) {
        const int64_t begin = size % 3;  // so that a row is at different places
        if (begin + size > kTokens) continue;
        Matrix together(kTokens, kOutputs, 0, DType::kF32);
        linear(ctx, rows(together, begin, size), rows(x, begin, size), w.view());
        ASSERT_EQ(std::memcmp(rows(together, begin, size).data, rows(alone, begin, size).data,
                              static_cast<size_t>(size * kOutputs) * sizeof(float)),
                  0)
            << "T " << size << " K " << depth << threads;
      }
    });
  }
}

TEST_P(Ops, LinearPassesOnWhatIsNotFinite) {
  Random random(5);
  Matrix x = random.matrix(3, 64), w = random.matrix(40, 64);
  x.bits(1, 5) = 0x7fc0;
  w.bits(7, 9) = 0x7f80;
  for_each_context([&](Context& ctx, const std::string&) {
    Matrix y(3, 40);
    linear(ctx, y.view(), x.view(), w.view());
    for (int64_t n = 0; n < 40; ++n) {
      EXPECT_TRUE(std::isnan(y.at(1, n)));
      EXPECT_EQ(std::isfinite(y.at(0, n)), n != 7);
    }
  });
}

// ---- Element by element

TEST_P(Ops, RmsNorm) {
  for (const auto& shape :
       {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 7, 2}, {5, 256, 0}, {2, 1536, 8}, {70, 515, 1}, {1, 5376, 0}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Random random(3);
    Matrix x = random.matrix(rows, cols, 2.0f, pad), w = random.matrix(1, cols);
    if (rows > 1) std::fill_n(&x.bits(1, 0), cols, uint16_t{0});
    for (const bool weighted : {false, true}) {
      const ConstTensorView weight = weighted ? ConstTensorView(w.vector()) : ConstTensorView();
      Matrix want(rows, cols, pad);
      rms_norm(ref_, want.view(), x.view(), weight, 1e-6f);
      for_each_context([&](Context& ctx, const std::string& threads) {
        const std::string what = str_cat("rms_norm [", rows, ", ", cols, "]", threads);
        Matrix got(rows, cols, pad), in_place = x;
        rms_norm(ctx, got.view(), x.view(), weight, 1e-6f);
        expect_same(got, want, what);
        rms_norm(ctx, in_place.view(), in_place.view(), weight, 1e-6f);
        expect_same(in_place, want, what + " in place");
      });
    }
  }
}

TEST_P(Ops, RmsNormOfHeadsInsideRows) {
  Random random(4);
  Matrix x = random.matrix(6, 48), w = random.matrix(1, 16);
  const auto heads = [](Matrix& m) { return TensorView(m.data(), DType::kBf16, {6, 3, 16}); };
  Matrix want = x;
  want.stride = 48;
  TensorView v = heads(want);
  v.row_stride = 16;
  rms_norm(ref_, v, v, w.vector(), 1e-6f);
  for_each_context([&](Context& ctx, const std::string& threads) {
    Matrix got = x;
    TensorView g = heads(got);
    rms_norm(ctx, g, g, w.vector(), 1e-6f);
    expect_same(got, want, "rms_norm of heads" + threads);
  });
}

TEST_P(Ops, AddMulScale) {
  for (const auto& shape :
       {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 7, 2}, {2, 1536, 8}, {1, 40000, 0}, {67, 515, 1}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Random random(9);
    Matrix a = random.matrix(rows, cols, 3.0f, pad), b = random.matrix(rows, cols, 0.1f, pad);
    Matrix broadcast = random.matrix(1, cols);
    const auto check = [&](const char* name, auto&& op) {
      Matrix want(rows, cols, pad);
      op(ref_, want.view(), a.view());
      for_each_context([&](Context& ctx, const std::string& threads) {
        Matrix got(rows, cols, pad), in_place = a;
        op(ctx, got.view(), a.view());
        expect_same(got, want, name + threads);
        op(ctx, in_place.view(), in_place.view());
        expect_same(in_place, want, str_cat(name, " in place", threads));
      });
    };
    check("add", [&](Context& c, TensorView y, ConstTensorView x) { add(c, y, x, b.view()); });
    check("add to itself", [&](Context& c, TensorView y, ConstTensorView x) { add(c, y, x, x); });
    check("mul", [&](Context& c, TensorView y, ConstTensorView x) { mul(c, y, x, b.view()); });
    check("mul by one row", [&](Context& c, TensorView y, ConstTensorView x) { mul(c, y, x, broadcast.vector()); });
    check("scale", [&](Context& c, TensorView y, ConstTensorView x) { scale(c, y, x, 0.025515518f); });
    check("gelu_mul", [&](Context& c, TensorView y, ConstTensorView x) { gelu_mul(c, y, x, b.view()); });
  }
}

TEST_P(Ops, ClampAndAddBias) {
  for (const auto& shape :
       {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 7, 2}, {2, 1536, 8}, {1, 40000, 0}, {67, 515, 1}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Random random(10);
    Matrix x = random.matrix(rows, cols, 2.0f, pad), b = random.matrix(1, cols), sums(rows, cols, pad, DType::kF32);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) sums.f32[static_cast<size_t>(r * sums.stride + c)] = random.normal(3);
    Matrix want(rows, cols, pad), want_biased(rows, cols, pad);
    clamp(ref_, want.view(), x.view(), -1.5f, 2.25f);
    add_bias(ref_, want_biased.view(), sums.view(), b.vector());
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(rows, cols, pad), in_place = x, biased(rows, cols, pad);
      clamp(ctx, got.view(), x.view(), -1.5f, 2.25f);
      expect_same(got, want, "clamp" + threads);
      clamp(ctx, in_place.view(), in_place.view(), -1.5f, 2.25f);
      expect_same(in_place, want, "clamp in place" + threads);
      add_bias(ctx, biased.view(), sums.view(), b.vector());
      expect_same(biased, want_biased, "add_bias" + threads);
    });
  }
}

TEST_P(Ops, ClampOfEveryNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  Matrix x = all_numbers();
  for (const auto& [lowest, highest] : {std::pair{-2.0f, 3.0f}, {0.0f, 0.0f}, {-infinity, 1.0f}, {-infinity, infinity}})
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(1, 65536), want(1, 65536);
      clamp(ctx, got.view(), x.view(), lowest, highest);
      clamp(ref_, want.view(), x.view(), lowest, highest);
      expect_same(got, want, str_cat("clamp to ", lowest, " .. ", highest, threads));
      for (int64_t i = 0; i < 65536; ++i) {
        const float value = x.at(0, i);
        const float limited = std::min(std::max(value, lowest), highest);
        ASSERT_TRUE(std::isnan(value) ? std::isnan(got.at(0, i)) : got.at(0, i) == limited) << value;
      }
    });
}

TEST_P(Ops, LayerNorm) {
  for (const auto& shape :
       {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 7, 2}, {5, 128, 0}, {2, 1536, 8}, {70, 515, 1}, {2, 6912, 0}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Random random(6);
    Matrix x = random.matrix(rows, cols, 2.0f, pad), w = random.matrix(1, cols), b = random.matrix(1, cols);
    if (rows > 1) std::fill_n(&x.bits(1, 0), cols, Bf16(7.0f).bits);  // no variance
    if (rows > 2)
      for (int64_t c = 0; c < cols; ++c) x.bits(2, c) = Bf16(200.0f + random.normal(1)).bits;  // a large mean
    for (const bool biased : {false, true}) {
      const ConstTensorView bias = biased ? ConstTensorView(b.vector()) : ConstTensorView();
      Matrix want(rows, cols, pad);
      layer_norm(ref_, want.view(), x.view(), w.vector(), bias, 1e-5f);
      for (int64_t c = 0; rows > 1 && c < cols; ++c) ASSERT_EQ(want.at(1, c), biased ? b.at(0, c) : 0);
      for_each_context([&](Context& ctx, const std::string& threads) {
        const std::string what = str_cat("layer_norm [", rows, ", ", cols, "]", threads);
        Matrix got(rows, cols, pad), in_place = x;
        layer_norm(ctx, got.view(), x.view(), w.vector(), bias, 1e-5f);
        expect_same(got, want, what);
        layer_norm(ctx, in_place.view(), in_place.view(), w.vector(), bias, 1e-5f);
        expect_same(in_place, want, what + " in place");
      });
    }
  }
}

TEST_P(Ops, LookupBytes) {
  Random random(8);
  Matrix table = random.matrix(1, 256);
  for (const auto& shape : {std::array<int64_t, 2>{0, 8}, {1, 1}, {3, 257}, {2, 40000}}) {
    std::vector<uint8_t> bytes(static_cast<size_t>(shape[0] * shape[1]));
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 256);
    const ConstTensorView x(bytes.data(), DType::kU8, {shape[0], shape[1]});
    Matrix want(shape[0], shape[1], 3);
    lookup_bytes(ref_, want.view(), x, table.vector());
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(shape[0], shape[1], 3);
      lookup_bytes(ctx, got.view(), x, table.vector());
      expect_same(got, want, "lookup_bytes" + threads);
    });
  }
}

TEST_P(Ops, PoolPatches) {
  struct Case {
    int width, height, k;
    int64_t channels, pad;
  };
  for (const Case& c : {Case{3, 3, 3, 1, 0}, Case{6, 3, 3, 7, 2}, Case{3, 9, 3, 64, 0}, Case{30, 21, 3, 145, 1},
                        Case{4, 6, 2, 16, 0}, Case{5, 2, 1, 33, 0}}) {
    Random random(12);
    Matrix x = random.matrix(int64_t{c.width} * c.height, c.channels, 2.0f, c.pad);
    Matrix bias = random.matrix(1, c.channels), factor = random.matrix(1, c.channels, 0.1f);
    const int64_t groups = int64_t{c.width} * c.height / (c.k * c.k);
    for (const bool standard : {false, true}) {
      const ConstTensorView b = standard ? ConstTensorView(bias.vector()) : ConstTensorView();
      const ConstTensorView f = standard ? ConstTensorView(factor.vector()) : ConstTensorView();
      Matrix want(groups, c.channels, c.pad);
      pool_patches(ref_, want.view(), x.view(), c.width, c.k, 27.712813f, b, f);
      for_each_context([&](Context& ctx, const std::string& threads) {
        Matrix got(groups, c.channels, c.pad);
        pool_patches(ctx, got.view(), x.view(), c.width, c.k, 27.712813f, b, f);
        expect_same(got, want, str_cat("pool_patches ", c.width, " x ", c.height, threads));
      });
    }
  }
}

// Ninths of small whole numbers: what an exact average would be, within the rounding of f32(1/9).
TEST_P(Ops, PoolPatchesTakesTheAverageOfItsGroup) {
  Matrix x(6 * 3, 2);
  for (int64_t patch = 0; patch < 18; ++patch) {
    x.bits(patch, 0) = Bf16(static_cast<float>(patch % 6 / 3)).bits;    // the number of its group
    x.bits(patch, 1) = Bf16(static_cast<float>(9 * (patch / 6))).bits;  // 9 times its row
  }
  for_each_context([&](Context& ctx, const std::string&) {
    Matrix y(2, 2);
    pool_patches(ctx, y.view(), x.view(), 6, 3, 1.0f, {}, {});
    EXPECT_EQ(y.at(0, 0), 0);
    EXPECT_EQ(y.at(1, 0), 1);
    EXPECT_EQ(y.at(0, 1), 9);
    EXPECT_EQ(y.at(1, 1), 9);
  });
}

TEST_P(Ops, GeluMulAndSoftcapOfEveryNumber) {
  Matrix x = all_numbers(), one(1, 65536);
  std::ranges::fill(one.bf16, Bf16(1.0f).bits);
  Matrix gelu(1, 65536);
  gelu_mul(ref_, gelu.view(), x.view(), one.view());
  for_each_context([&](Context& ctx, const std::string& threads) {
    Matrix got(1, 65536);
    gelu_mul(ctx, got.view(), x.view(), one.view());
    expect_same(got, gelu, "gelu_mul" + threads);
    for (const float cap : {0.0f, 30.0f, 50.0f}) {
      Matrix want_capped(1, 65536, 0, DType::kF32), got_capped(1, 65536, 0, DType::kF32);
      softcap(ref_, want_capped.view(), x.view(), cap);
      softcap(ctx, got_capped.view(), x.view(), cap);
      expect_same(got_capped, want_capped, str_cat("softcap ", cap, threads));
    }
  });
}

TEST_P(Ops, SoftcapOfRows) {
  Random random(21);
  for (const auto& shape : {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 33001, 3}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Matrix x = random.matrix(rows, cols, 20.0f, pad), want(rows, cols, pad, DType::kF32);
    softcap(ref_, want.view(), x.view(), 30.0f);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(rows, cols, pad, DType::kF32);
      softcap(ctx, got.view(), x.view(), 30.0f);
      expect_same(got, want, "softcap" + threads);
    });
  }
}

TEST_P(Ops, Embed) {
  Random random(13);
  Matrix table = random.matrix(50, 77, 0.02f, 3);
  for (const size_t tokens : {0, 1, 5, 300}) {
    std::vector<TokenId> ids(tokens);
    for (TokenId& id : ids) id = random.below(50);
    Matrix want(static_cast<int64_t>(tokens), 77, 1);
    embed(ref_, want.view(), table.view(), ids, 39.25f);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(static_cast<int64_t>(tokens), 77, 1);
      embed(ctx, got.view(), table.view(), ids, 39.25f);
      expect_same(got, want, "embed" + threads);
    });
  }
}

TEST_P(Ops, Rope) {
  Random random(17);
  struct Case {
    int64_t tokens, heads;
    int head_dim, rotated;
    double theta;
  };
  for (const Case& c : {Case{0, 1, 8, 4, 1e4}, Case{1, 1, 2, 1, 1e4}, Case{3, 3, 20, 10, 1e4},
                        Case{9, 8, 256, 128, 1e4}, Case{130, 2, 512, 64, 1e6}, Case{4, 1, 64, 0, 1e4}}) {
    Matrix x = random.matrix(c.tokens, c.heads * c.head_dim, 1.0f, 4);
    std::vector<int32_t> positions(static_cast<size_t>(c.tokens));
    for (int32_t& p : positions) p = random.below(262144);
    std::vector<float> inv_freq;
    for (int j = 0; j < c.rotated; ++j)
      inv_freq.push_back(static_cast<float>(std::pow(c.theta, -2.0 * j / c.head_dim)));
    Matrix want = x;
    rope(ref_, want.view(), c.head_dim, positions, inv_freq);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got = x;
      rope(ctx, got.view(), c.head_dim, positions, inv_freq);
      expect_same(got, want, str_cat("rope D ", c.head_dim, threads));
    });
  }
}

TEST_P(Ops, Rope2d) {
  struct Case {
    int64_t width, height, heads;
    int head_dim;
  };
  for (const Case& c : {Case{0, 0, 1, 8}, Case{1, 1, 1, 4}, Case{7, 3, 3, 64}, Case{60, 42, 2, 72}}) {
    Random random(18);
    const int64_t tokens = c.width * c.height;
    Matrix x = random.matrix(tokens, c.heads * c.head_dim, 1.0f, 4);
    std::vector<int32_t> columns, rows;
    for (int64_t t = 0; t < tokens; ++t) {
      columns.push_back(static_cast<int32_t>(t % c.width));
      rows.push_back(static_cast<int32_t>(t / c.width));
    }
    std::vector<float> inv_freq;
    for (int j = 0; j < c.head_dim / 4; ++j)
      inv_freq.push_back(static_cast<float>(std::pow(100.0, -4.0 * j / c.head_dim)));
    Matrix want = x;
    rope_2d(ref_, want.view(), c.head_dim, columns, rows, inv_freq);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got = x;
      rope_2d(ctx, got.view(), c.head_dim, columns, rows, inv_freq);
      expect_same(got, want, str_cat("rope_2d D ", c.head_dim, threads));
    });
    // Each half of a head is a head of half the size under rope().
    for (const bool second : {false, true}) {
      Matrix half(tokens, c.heads * c.head_dim / 2);
      const auto copy = [&](Matrix& from, Matrix& to, bool into_half) {
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t i = 0; i < half.cols; ++i) {
            const int64_t at = i / (c.head_dim / 2) * c.head_dim + (second ? c.head_dim / 2 : 0) + i % (c.head_dim / 2);
            (into_half ? to.bits(t, i) : to.bits(t, at)) = into_half ? from.bits(t, at) : from.bits(t, i);
          }
      };
      copy(x, half, true);
      rope(ref_, half.view(), c.head_dim / 2, second ? rows : columns, inv_freq);
      Matrix back = want;
      copy(half, back, false);
      expect_same(back, want, "rope_2d against rope");
    }
  }
}

// ---- Attention

/// Sequences with K/V in pages that lie in no order; places that nothing was written to hold NaN.
struct Cache {
  int kv_heads, head_dim, page_tokens;
  std::vector<int> lengths;
  std::vector<std::vector<int32_t>> tables;
  std::vector<const int32_t*> table_pointers;
  Bits memory;
  KvStore store;

  Cache(Random& random, std::vector<int> sequence_lengths, int num_kv_heads, int dim, int page)
      : kv_heads(num_kv_heads), head_dim(dim), page_tokens(page), lengths(std::move(sequence_lengths)) {
    int32_t num_pages = 1;  // page 0 is nobody's
    for (const int length : lengths) num_pages += (length + page - 1) / page;
    std::vector<int32_t> order(static_cast<size_t>(num_pages) - 1);
    std::iota(order.begin(), order.end(), 1);
    std::shuffle(order.begin(), order.end(), random.engine());
    auto next = order.begin();
    for (const int length : lengths) {
      tables.emplace_back(next, next + (length + page - 1) / page);
      next += (length + page - 1) / page;
    }
    for (const auto& table : tables) table_pointers.push_back(table.data());
    const int64_t half = int64_t{kv_heads} * page * dim;
    constexpr int64_t kOtherStores = 24;
    store = KvStore{nullptr, 2 * half + kOtherStores, half, kv_heads, dim};
    memory.assign(static_cast<size_t>(num_pages * store.page_stride), Matrix::kMark);
    store.data = memory.data();
  }

  /// Random K and V for the first `length` positions of each sequence, through kv_write.
  void fill(Context& ctx, Random& random) {
    std::vector<int32_t> positions, indptr{0};
    for (const int length : lengths) {
      for (int32_t p = 0; p < length; ++p) positions.push_back(p);
      indptr.push_back(static_cast<int32_t>(positions.size()));
    }
    const int64_t tokens = indptr.back(), width = int64_t{kv_heads} * head_dim;
    Matrix k = random.matrix(tokens, width, 0.3f, 2), v = random.matrix(tokens, width, 1.0f, 2);
    kv_write(ctx, store, k.view(), v.view(), AttentionBatch{indptr, positions, table_pointers, page_tokens});
  }
};

/// The last `counts[b]` tokens of each sequence as one step. `block` 0: all are text. Else every second run of so many
/// positions is an image whose tokens see each other.
struct Step {
  std::vector<int32_t> indptr{0}, positions, last_keys;
  Step(const Cache& cache, const std::vector<int>& counts, int block = 0) {
    for (size_t b = 0; b < counts.size(); ++b) {
      for (int i = cache.lengths[b] - counts[b]; i < cache.lengths[b]; ++i) {
        positions.push_back(i);
        if (block > 0)
          last_keys.push_back(i / block % 2 == 0 ? i : std::min(i / block * block + block, cache.lengths[b]) - 1);
      }
      indptr.push_back(static_cast<int32_t>(positions.size()));
    }
  }
  AttentionBatch batch(const Cache& cache) const {
    return {indptr, positions, cache.table_pointers, cache.page_tokens, last_keys};
  }
  int64_t tokens() const { return static_cast<int64_t>(positions.size()); }
};

struct AttentionCase {
  std::vector<int> lengths, counts;
  int heads, kv_heads, head_dim, page, window, block = 0;
};

const AttentionCase kAttentionCases[] = {
    {{1}, {1}, 1, 1, 8, 4, 0},
    {{5, 1, 9}, {5, 0, 3}, 4, 2, 16, 4, 0},
    {{40}, {40}, 2, 1, 33, 16, 7},
    {{130, 3, 64}, {1, 3, 64}, 8, 1, 64, 64, 0},
    {{65, 64, 63, 128}, {1, 1, 1, 1}, 4, 4, 32, 64, 16},
    {{200}, {70}, 16, 2, 48, 16, 33},
    {{700}, {1}, 8, 1, 256, 64, 512},
    {{700, 20}, {90, 20}, 8, 1, 256, 64, 512},
    {{1300}, {2}, 8, 1, 512, 64, 0},
    {{1100, 90}, {1, 1}, 4, 2, 24, 128, 0},
    {{600}, {600}, 2, 2, 16, 48, 0},
    {{200}, {70}, 4, 2, 16, 16, 33, 21},
    {{130, 64, 9}, {130, 1, 9}, 2, 1, 64, 64, 16, 40},
    {{1300, 5}, {700, 5}, 8, 1, 256, 64, 512, 280},
    {{90}, {40}, 2, 1, 24, 16, 0, 64},
};

std::string describe(const AttentionCase& c) {
  return str_cat("attention length ", c.lengths[0], " heads ", c.heads, "/", c.kv_heads, " D ", c.head_dim, " page ",
                 c.page, " window ", c.window, " block ", c.block);
}

TEST_P(Ops, Attention) {
  for (const AttentionCase& c : kAttentionCases) {
    Random random(23);
    Cache cache(random, c.lengths, c.kv_heads, c.head_dim, c.page);
    cache.fill(ref_, random);
    const Step step(cache, c.counts, c.block);
    Matrix q = random.matrix(step.tokens(), int64_t{c.heads} * c.head_dim, 0.3f, 6);
    Matrix want(q.rows, q.cols, 2);
    attention(ref_, want.view(), q.view(), cache.store, step.batch(cache), c.window);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(q.rows, q.cols, 2);
      attention(ctx, got.view(), q.view(), cache.store, step.batch(cache), c.window);
      expect_near(
          got, want, [](int64_t, int64_t) { return 2e-5f; }, describe(c) + threads);
      int64_t different = 0;
      for (size_t i = 0; i < got.bf16.size(); ++i) different += got.bf16[i] != want.bf16[i];
      EXPECT_LE(different, 2 + static_cast<int64_t>(got.bf16.size()) / 200) << describe(c) << threads;
    });
  }
}

TEST_P(Ops, AttentionRowsDoNotDependOnChunking) {
  for (const AttentionCase& c : kAttentionCases) {
    Random random(29);
    Cache cache(random, c.lengths, c.kv_heads, c.head_dim, c.page);
    cache.fill(ref_, random);
    const Step step(cache, c.counts, c.block);
    Matrix q = random.matrix(step.tokens(), int64_t{c.heads} * c.head_dim, 1.0f);
    Matrix alone(q.rows, q.cols);
    Context one{Backend::kCpu, nullptr};
    for (size_t b = 0; b < c.counts.size(); ++b) {
      const int32_t* const table = cache.table_pointers[b];
      for (int32_t t = step.indptr[b]; t < step.indptr[b + 1]; ++t) {
        const int32_t indptr[] = {0, 1};
        const int32_t last_key = step.batch(cache).last_key(t);
        const AttentionBatch batch{
            indptr, {&step.positions[static_cast<size_t>(t)], 1}, {&table, 1}, c.page, {&last_key, 1}};
        attention(one, TensorView(&alone.bits(t, 0), DType::kBf16, {1, q.cols}),
                  TensorView(&q.bits(t, 0), DType::kBf16, {1, q.cols}), cache.store, batch, c.window);
      }
    }
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix together(q.rows, q.cols);
      attention(ctx, together.view(), q.view(), cache.store, step.batch(cache), c.window);
      expect_same(together, alone, describe(c) + threads);
    });
  }
}

TEST_P(Ops, AttentionOfExtremeScores) {
  Random random(31);
  Cache cache(random, {150}, 1, 64, 64);
  cache.fill(ref_, random);
  const Step step(cache, {3});
  Matrix q = random.matrix(3, 128, 200.0f);  // scores in the hundreds: one key takes all
  Matrix want(3, 128);
  attention(ref_, want.view(), q.view(), cache.store, step.batch(cache), 0);
  for_each_context([&](Context& ctx, const std::string& threads) {
    Matrix got(3, 128);
    attention(ctx, got.view(), q.view(), cache.store, step.batch(cache), 0);
    expect_near(
        got, want, [](int64_t, int64_t) { return 1e-3f; }, "attention of extreme scores" + threads);
  });
}

struct BidirectionalCase {
  std::vector<int32_t> indptr;
  int heads, head_dim;
};

const BidirectionalCase kBidirectionalCases[] = {
    {{0, 0}, 2, 64},        {{0, 1}, 1, 8},   {{0, 9, 9, 13}, 3, 72},      {{0, 64, 65, 200}, 2, 64},
    {{0, 700, 850}, 2, 72}, {{0, 63}, 4, 24}, {{0, 520, 530, 1060}, 1, 64}};

TEST_P(Ops, BidirectionalAttention) {
  for (const BidirectionalCase& c : kBidirectionalCases) {
    Random random(25);
    const int64_t tokens = c.indptr.back(), width = int64_t{c.heads} * c.head_dim;
    const std::string what = str_cat("bidirectional attention of ", tokens, " D ", c.head_dim);
    Matrix q = random.matrix(tokens, width, 0.3f, 4), k = random.matrix(tokens, width, 0.3f, 2),
           v = random.matrix(tokens, width, 1.0f);
    Matrix want(tokens, width, 6);
    bidirectional_attention(ref_, want.view(), q.view(), k.view(), v.view(), c.head_dim, c.indptr);

    Matrix alone(tokens, width, 6);
    Context one{Backend::kCpu, nullptr};
    const auto rows = [](Matrix& m, int32_t begin, int32_t end) {
      return TensorView(m.bf16.data() + begin * m.stride, DType::kBf16, {end - begin, m.cols}, m.stride);
    };
    for (size_t b = 0; b + 1 < c.indptr.size(); ++b) {
      const int32_t begin = c.indptr[b], end = c.indptr[b + 1], whole[] = {0, end - begin};
      bidirectional_attention(one, rows(alone, begin, end), rows(q, begin, end), rows(k, begin, end),
                              rows(v, begin, end), c.head_dim, whole);
    }
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(tokens, width, 6);
      bidirectional_attention(ctx, got.view(), q.view(), k.view(), v.view(), c.head_dim, c.indptr);
      expect_near(
          got, want, [](int64_t, int64_t) { return 2e-5f; }, what + threads);
      expect_same(got, alone, what + " alone and together" + threads);
    });
  }
}

// ---- Audio

TEST_P(Ops, SiluAndGlu) {
  for (const auto& shape : {std::array<int64_t, 3>{0, 8, 0}, {1, 1, 0}, {3, 7, 2}, {2, 1536, 8}, {67, 515, 1}}) {
    const int64_t rows = shape[0], cols = shape[1], pad = shape[2];
    Random random(14);
    Matrix x = random.matrix(rows, cols, 3.0f, pad), both = random.matrix(rows, 2 * cols, 3.0f, pad);
    Matrix want(rows, cols, pad), want_gated(rows, cols, pad);
    silu(ref_, want.view(), x.view());
    glu(ref_, want_gated.view(), both.view());
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(rows, cols, pad), in_place = x, gated(rows, cols, pad), gated_in_place = both;
      silu(ctx, got.view(), x.view());
      expect_same(got, want, "silu" + threads);
      silu(ctx, in_place.view(), in_place.view());
      expect_same(in_place, want, "silu in place" + threads);
      glu(ctx, gated.view(), both.view());
      expect_same(gated, want_gated, "glu" + threads);
      const TensorView half(gated_in_place.data(), DType::kBf16, {rows, cols}, gated_in_place.stride);
      glu(ctx, half, gated_in_place.view());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) ASSERT_EQ(gated_in_place.bits(r, c), want_gated.bits(r, c)) << threads;
    });
  }
}

TEST_P(Ops, SiluOfEveryNumber) {
  Matrix x = all_numbers(), want(1, 65536);
  silu(ref_, want.view(), x.view());
  for_each_context([&](Context& ctx, const std::string& threads) {
    Matrix got(1, 65536);
    silu(ctx, got.view(), x.view());
    expect_same(got, want, "silu" + threads);
  });
  for (const float value : {0.0f, 1.0f, -1.0f, 4.0f, -87.0f}) {
    const double exact = static_cast<double>(value) / (1 + std::exp(-static_cast<double>(value)));
    EXPECT_NEAR(want.at(0, Bf16(value).bits), exact, std::abs(exact) / 256);
  }
}

struct ConvCase {
  int64_t height, width, channels, outputs;
};
const ConvCase kConvCases[] = {{0, 8, 4, 3}, {1, 1, 1, 1},     {1, 4, 3, 2},   {2, 5, 1, 4},
                               {7, 6, 5, 3}, {40, 128, 1, 16}, {33, 16, 24, 8}};

/// x [T * F, C] as [T, F, C].
TensorView grid(Matrix& x, const ConvCase& c) {
  return {x.data(), DType::kBf16, {c.height, c.width, c.channels}, x.stride};
}

TEST_P(Ops, Unfold3x3) {
  for (const ConvCase& c : kConvCases) {
    Random random(16);
    Matrix x = random.matrix(c.height * c.width, c.channels, 1.0f, 2);
    const int64_t out_height = (c.height + 1) / 2, out_width = (c.width + 1) / 2;
    Matrix want(out_height * out_width, 9 * c.channels, 1);
    unfold_3x3(ref_, want.view(), grid(x, c), 0);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(out_height * out_width, 9 * c.channels, 1);
      unfold_3x3(ctx, got.view(), grid(x, c), 0);
      expect_same(got, want, "unfold_3x3" + threads);
      Matrix part(out_width, 9 * c.channels, 1);
      for (int64_t first = 0; first < out_height; ++first) {
        unfold_3x3(ctx, part.view(), grid(x, c), first);
        for (int64_t f = 0; f < out_width; ++f)
          for (int64_t i = 0; i < part.cols; ++i)
            ASSERT_EQ(part.bits(f, i), want.bits(first * out_width + f, i)) << threads;
      }
    });
  }
}

/// The convolution by its definition: stride 2, padding 1.
TEST_P(Ops, Unfold3x3MakesAConvolutionOfALinear) {
  for (const ConvCase& c : kConvCases) {
    Random random(18);
    Matrix x = random.matrix(c.height * c.width, c.channels), w = random.matrix(c.outputs, 9 * c.channels, 0.3f);
    const int64_t out_height = (c.height + 1) / 2, out_width = (c.width + 1) / 2;
    Matrix unfolded(out_height * out_width, 9 * c.channels), got(unfolded.rows, c.outputs, 0, DType::kF32);
    Context ctx{Backend::kCpu, nullptr};
    unfold_3x3(ctx, unfolded.view(), grid(x, c), 0);
    linear(ctx, got.view(), unfolded.view(), w.view());
    for (int64_t t = 0; t < out_height; ++t)
      for (int64_t f = 0; f < out_width; ++f)
        for (int64_t o = 0; o < c.outputs; ++o) {
          double sum = 0;
          for (int64_t i = 0; i < 3; ++i)
            for (int64_t j = 0; j < 3; ++j)
              for (int64_t channel = 0; channel < c.channels; ++channel) {
                const int64_t from_t = 2 * t + i - 1, from_f = 2 * f + j - 1;
                if (from_t < 0 || from_t >= c.height || from_f < 0 || from_f >= c.width) continue;
                sum += static_cast<double>(x.at(from_t * c.width + from_f, channel)) *
                       static_cast<double>(w.at(o, (3 * i + j) * c.channels + channel));
              }
          ASSERT_NEAR(got.at(t * out_width + f, o), sum, 1e-4);
        }
  }
}

TEST_P(Ops, CausalConv) {
  for (const auto& shape : {std::array<int64_t, 3>{0, 8, 5}, {1, 1, 1}, {3, 7, 5}, {40, 515, 5}, {9, 64, 12}}) {
    const int64_t rows = shape[0], cols = shape[1], taps = shape[2];
    Random random(20);
    Matrix x = random.matrix(rows, cols, 2.0f, 3), w = random.matrix(taps, cols, 0.5f, 1), want(rows, cols, 2);
    causal_conv(ref_, want.view(), x.view(), w.view());
    for (int64_t c = 0; rows > 0 && c < cols; ++c)  // the first row hears itself alone, by the last tap
      ASSERT_EQ(want.bits(0, c), Bf16(w.at(taps - 1, c) * x.at(0, c)).bits);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(rows, cols, 2);
      causal_conv(ctx, got.view(), x.view(), w.view());
      expect_same(got, want, str_cat("causal_conv T ", rows, " C ", cols, threads));
    });
  }
}

struct RelativeCase {
  int64_t tokens;
  int heads, head_dim, window;
  float deviation;
};
const RelativeCase kRelativeCases[] = {{0, 2, 8, 3, 1.0f},   {1, 1, 8, 12, 1.0f},    {5, 3, 16, 12, 1.0f},
                                       {40, 2, 24, 1, 1.0f}, {70, 8, 128, 12, 1.0f}, {30, 2, 32, 12, 30.0f},
                                       {13, 2, 20, 13, 2.0f}};

TEST_P(Ops, RelativeAttention) {
  for (const RelativeCase& c : kRelativeCases) {
    Random random(22);
    const int64_t width = int64_t{c.heads} * c.head_dim;
    Matrix q = random.matrix(c.tokens, width, c.deviation, 4), k = random.matrix(c.tokens, width, c.deviation, 2),
           v = random.matrix(c.tokens, width), r = random.matrix(c.window, width);
    std::vector<float> dim_scale(static_cast<size_t>(c.head_dim));
    for (float& scale : dim_scale) scale = 0.7f + std::abs(random.normal(0.1f));
    const RelativeScores scores{.q_scale = 1.44f / std::sqrt(static_cast<float>(c.head_dim)),
                                .k_scale = 1.9f,
                                .cap = 50,
                                .dim_scale = dim_scale};
    const std::string what = str_cat("relative attention of ", c.tokens, " D ", c.head_dim, " window ", c.window);
    Matrix want(c.tokens, width, 6);
    relative_attention(ref_, want.view(), q.view(), k.view(), v.view(), r.view(), scores);
    for (int64_t i = 0; c.tokens > 0 && i < width; ++i) ASSERT_EQ(want.bits(0, i), v.bits(0, i)) << what;
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(c.tokens, width, 6);
      relative_attention(ctx, got.view(), q.view(), k.view(), v.view(), r.view(), scores);
      // Scores up to the cap are known to 1e-5, and their softmax with them.
      expect_near(
          got, want, [&](int64_t, int64_t) { return 5e-5f; }, what + threads);
      // A row hears itself and the window - 1 before: the last row alone with those is the same.
      const int64_t begin = std::max<int64_t>(c.tokens - c.window, 0), count = c.tokens - begin;
      Matrix tail(count, width);
      const auto last = [&](Matrix& m) {
        return TensorView(&m.bits(begin, 0), DType::kBf16, {count, width}, m.stride);
      };
      relative_attention(ctx, tail.view(), last(q), last(k), last(v), r.view(), scores);
      for (int64_t i = 0; count > 0 && i < width; ++i)
        ASSERT_EQ(tail.bits(count - 1, i), got.bits(c.tokens - 1, i)) << what << threads;
    });
  }
}

TEST_P(Ops, RelativeAttentionCapsItsScores) {
  // One head of one dimension: scores of 40 and 400 before the cap of 50.
  Matrix q(2, 1), k(2, 1), v(2, 1), r(2, 1);
  q.bits(0, 0) = q.bits(1, 0) = Bf16(1.0f).bits;
  k.bits(0, 0) = Bf16(400.0f).bits;
  k.bits(1, 0) = Bf16(40.0f).bits;
  v.bits(0, 0) = Bf16(1.0f).bits;
  v.bits(1, 0) = r.bits(0, 0) = r.bits(1, 0) = Bf16(0.0f).bits;
  const float one = 1.0f;
  const double difference = 50 * (std::tanh(8.0) - std::tanh(0.8));
  for_each_context([&](Context& ctx, const std::string&) {
    Matrix got(2, 1);
    relative_attention(ctx, got.view(), q.view(), k.view(), v.view(), r.view(), {1, 1, 50, {&one, 1}});
    EXPECT_NEAR(got.at(1, 0), 1 / (1 + std::exp(-difference)), 0.004);
  });
}

TEST_P(Ops, KvWrite) {
  for_each_context([&](Context& ctx, const std::string& threads) {
    Random random(37), same(37);
    Cache want(random, {70, 3, 0, 500}, 2, 24, 16), got(same, {70, 3, 0, 500}, 2, 24, 16);
    want.fill(ref_, random);
    got.fill(ctx, same);
    EXPECT_EQ(got.memory, want.memory) << threads;
  });
}

// ---- Experts

TEST_P(Ops, Route) {
  for (const auto& shape : {std::array<int, 3>{0, 4, 2}, {1, 1, 1}, {3, 8, 8}, {200, 128, 8}}) {
    const int tokens = shape[0], num_experts = shape[1], k = shape[2];
    Random random(41);
    Matrix logits = random.matrix(tokens, num_experts, 1.5f, 2), scales = random.matrix(1, num_experts);
    if (tokens > 2) std::fill_n(&logits.bits(2, 0), num_experts, Bf16(0.5f).bits);  // all equal: the lowest win
    const size_t n = static_cast<size_t>(tokens * k);
    std::vector<int32_t> want_ids(n), got_ids(n);
    std::vector<float> want_weights(n), got_weights(n);
    route(ref_, want_ids, want_weights, logits.view(), scales.vector(), k);
    for_each_context([&](Context& ctx, const std::string& threads) {
      route(ctx, got_ids, got_weights, logits.view(), scales.vector(), k);
      EXPECT_EQ(got_ids, want_ids) << threads;
      EXPECT_EQ(got_weights, want_weights) << threads;
    });
  }
}

struct ExpertsCase {
  int64_t tokens, num_experts, hidden, width;
  int k;
};

const ExpertsCase kExpertsCases[] = {
    {0, 4, 32, 16, 2}, {1, 8, 96, 48, 3}, {5, 4, 33, 17, 2}, {40, 16, 128, 64, 4}, {90, 3, 64, 40, 1}};

TEST_P(Ops, Experts) {
  for (const ExpertsCase& c : kExpertsCases) {
    Random random(43);
    Matrix x = random.matrix(c.tokens, c.hidden, 1.0f, 4);
    Matrix gate_up = random.matrix(c.num_experts * 2 * c.width, c.hidden, 0.1f);
    Matrix down = random.matrix(c.num_experts * c.hidden, c.width, 0.1f);
    const TensorView gate_up_view(gate_up.data(), DType::kBf16, {c.num_experts, 2 * c.width, c.hidden});
    const TensorView down_view(down.data(), DType::kBf16, {c.num_experts, c.hidden, c.width});
    std::vector<int32_t> ids, order(static_cast<size_t>(c.num_experts));
    std::vector<float> weights;
    std::iota(order.begin(), order.end(), 0);
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::shuffle(order.begin(), order.end(), random.engine());
      ids.insert(ids.end(), order.begin(), order.begin() + c.k);
      for (int j = 0; j < c.k; ++j) weights.push_back(0.1f + 0.1f * static_cast<float>(j));
    }
    Matrix want(c.tokens, c.hidden, 4);
    experts(ref_, want.view(), x.view(), gate_up_view, down_view, ids, weights, c.k);
    const std::string what = str_cat("experts T ", c.tokens, " C ", c.hidden);

    Matrix alone(c.tokens, c.hidden, 4);
    Context one{Backend::kCpu, nullptr};
    for (int64_t t = 0; t < c.tokens; ++t)
      experts(one, TensorView(&alone.bits(t, 0), DType::kBf16, {1, c.hidden}),
              TensorView(&x.bits(t, 0), DType::kBf16, {1, c.hidden}), gate_up_view, down_view,
              std::span(ids).subspan(static_cast<size_t>(t * c.k), static_cast<size_t>(c.k)),
              std::span(weights).subspan(static_cast<size_t>(t * c.k), static_cast<size_t>(c.k)), c.k);
    for_each_context([&](Context& ctx, const std::string& threads) {
      Matrix got(c.tokens, c.hidden, 4);
      experts(ctx, got.view(), x.view(), gate_up_view, down_view, ids, weights, c.k);
      // A rounding of an inner value that falls the other way moves the sum by a bf16 step of one term.
      expect_near(
          got, want, [](int64_t, int64_t) { return 0.02f; }, what + threads);
      expect_same(got, alone, what + " alone and together" + threads);
    });
  }
}

// ---- Levels

TEST(CpuLevel, NamesAreParsed) {
  for (const cpu::Level level : cpu::available_levels()) EXPECT_EQ(cpu::parse_level(cpu::to_string(level)), level);
  EXPECT_EQ(cpu::parse_level("sse9"), std::nullopt);
}

TEST(CpuLevel, GenericIsAlwaysThere) { EXPECT_EQ(cpu::available_levels().front(), cpu::Level::kGeneric); }

}  // namespace
}  // namespace carat::ops
