#include <algorithm>
#include <array>
#include <cmath>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/slices.h"
#include "tensor/bf16.h"

namespace carat::ops::cpu {

namespace {

/// round(f(x)) for every bf16 number x, by its bits. A function of one bf16 number is best looked up: exact by
/// construction, and what is used of 128 KB stays in the cache.
constexpr uint32_t kNumbers = 65536;
using Table = std::array<uint16_t, kNumbers + 1>;  // one more: see look_up() in elementwise.inc

template <class Fn>
Table make_table(Fn&& fn) {
  Table table{};
  for (uint32_t bits = 0; bits < kNumbers; ++bits)
    table[bits] = Bf16(fn(static_cast<float>(Bf16::from_bits(static_cast<uint16_t>(bits))))).bits;
  return table;
}

const uint16_t* gelu_table() {
  static const Table table = make_table([](float x) {
    const float inner = 0.79788456f * (x + 0.044715f * (x * x * x));
    return 0.5f * x * (1.0f + std::tanh(inner));
  });
  return table.data();
}

const uint16_t* tanh_table() {
  static const Table table = make_table([](float x) { return std::tanh(x); });
  return table.data();
}

/// Slices of long rows for threads: decoding has one row of the vocabulary's size.
constexpr int64_t kSlice = 1 << 14;

/// fn(t, begin, count) over slices of all rows.
template <class Fn>
void parallel_slices(Context& ctx, int64_t rows, int64_t width, Fn&& fn) {
  const int64_t slices = (width + kSlice - 1) / kSlice;
  parallel_rows(ctx, rows * slices, width < kSlice ? width : kSlice, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % slices * kSlice;
      fn(i / slices, first, width - first < kSlice ? width - first : kSlice);
    }
  });
}

}  // namespace

void rms_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, float eps) {
  const Kernels& level = kernels();
  const int64_t width = x.last_dim();
  parallel_rows(ctx, x.num_rows(), width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double squares = level.sum_of_squares(row(x, t), width);
      const float mean = static_cast<float>(squares / static_cast<double>(width)) + eps;
      const float inverse_root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(mean)));
      level.scale_by(row(y, t), row(x, t), inverse_root, static_cast<const uint16_t*>(w.data), width);
    }
  });
}

void add(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b) {
  const Kernels& level = kernels();
  parallel_slices(ctx, a.num_rows(), a.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.add(row(y, t) + first, row(a, t) + first, row(b, t) + first, n);
  });
}

void mul(Context& ctx, TensorView y, ConstTensorView a, ConstTensorView b) {
  const Kernels& level = kernels();
  const bool broadcast = b.shape.rank() == 1;
  parallel_slices(ctx, a.num_rows(), a.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.mul(row(y, t) + first, row(a, t) + first, row(b, broadcast ? 0 : t) + first, n);
  });
}

void scale(Context& ctx, TensorView y, ConstTensorView x, float s) {
  const Kernels& level = kernels();
  parallel_slices(ctx, x.num_rows(), x.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.scale_by(row(y, t) + first, row(x, t) + first, s, nullptr, n);
  });
}

void clamp(Context& ctx, TensorView y, ConstTensorView x, float lowest, float highest) {
  const Kernels& level = kernels();
  parallel_slices(ctx, x.num_rows(), x.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.clamp(row(y, t) + first, row(x, t) + first, lowest, highest, n);
  });
}

void add_bias(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView b) {
  const Kernels& level = kernels();
  parallel_slices(ctx, x.num_rows(), x.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.add_bias(row(y, t) + first, static_cast<const float*>(x.data) + t * x.row_stride + first, row(b, 0) + first,
                   n);
  });
}

void layer_norm(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView w, ConstTensorView b, float eps) {
  const Kernels& level = kernels();
  const int64_t width = x.last_dim();
  const double count = static_cast<double>(width);
  parallel_rows(ctx, x.num_rows(), width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      // Sums in double of exact terms, so that the difference of squares costs nothing that a float would show.
      const double mean = level.sum(row(x, t), width) / count;
      const double variance = level.sum_of_squares(row(x, t), width) / count - mean * mean;
      const float shifted = static_cast<float>(variance > 0 ? variance : 0) + eps;
      const float inverse_root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shifted)));
      level.normalize(row(y, t), row(x, t), static_cast<float>(mean), inverse_root, row(w, 0), b ? row(b, 0) : nullptr,
                      width);
    }
  });
}

void lookup_bytes(Context& ctx, TensorView y, ConstTensorView x, ConstTensorView table) {
  const uint16_t* const values = row(table, 0);
  parallel_slices(ctx, x.num_rows(), x.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    const uint8_t* const in = static_cast<const uint8_t*>(x.data) + t * x.row_stride + first;
    uint16_t* const out = row(y, t) + first;
    for (int64_t i = 0; i < n; ++i) out[i] = values[in[i]];
  });
}

void pool_patches(Context& ctx, TensorView y, ConstTensorView x, int grid_width, int k, float s, ConstTensorView bias,
                  ConstTensorView factor) {
  const Kernels& level = kernels();
  const int64_t width = x.dim(1), groups = grid_width / k;
  const float share = 1.0f / static_cast<float>(k * k);
  parallel_rows(ctx, y.dim(0), k * k * width, [&](int64_t begin, int64_t end) {
    float* const sum =
        reinterpret_cast<float*>(thread_scratch(Scratch::kPool, width * static_cast<int64_t>(sizeof(float))));
    for (int64_t g = begin; g < end; ++g) {
      const int64_t first = g / groups * k * grid_width + g % groups * k;
      std::fill_n(sum, width, 0.0f);
      for (int patch_y = 0; patch_y < k; ++patch_y)
        for (int patch_x = 0; patch_x < k; ++patch_x)
          level.add_fused(sum, row(x, first + patch_y * grid_width + patch_x), share, width);
      level.standardize(row(y, g), sum, s, bias ? row(bias, 0) : nullptr, factor ? row(factor, 0) : nullptr, width);
    }
  });
}

void gelu_mul(Context& ctx, TensorView y, ConstTensorView gate, ConstTensorView up) {
  const Kernels& level = kernels();
  parallel_slices(ctx, gate.num_rows(), gate.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    level.lookup_mul(row(y, t) + first, row(gate, t) + first, row(up, t) + first, gelu_table(), n);
  });
}

void embed(Context& ctx, TensorView y, ConstTensorView table, std::span<const TokenId> ids, float s) {
  const Kernels& level = kernels();
  const int64_t width = table.dim(1);
  parallel_rows(ctx, static_cast<int64_t>(ids.size()), width, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      level.scale_by(row(y, t), row(table, ids[static_cast<size_t>(t)]), s, nullptr, width);
  });
}

void rope(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> positions,
          std::span<const float> inv_freq) {
  const Kernels& level = kernels();
  const int64_t pairs = static_cast<int64_t>(inv_freq.size()), width = x.last_dim();
  constexpr int64_t kAngleCost = 16;  // a sine and a cosine against an element's rotation
  parallel_rows(ctx, x.dim(0), width + kAngleCost * pairs, [&](int64_t begin, int64_t end) {
    float* const c =
        reinterpret_cast<float*>(thread_scratch(Scratch::kRope, 2 * pairs * static_cast<int64_t>(sizeof(float))));
    float* const s = c + pairs;
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t j = 0; j < pairs; ++j) {
        const float angle = static_cast<float>(positions[static_cast<size_t>(t)]) * inv_freq[static_cast<size_t>(j)];
        c[j] = round_to_bf16(std::cos(angle));
        s[j] = round_to_bf16(std::sin(angle));
      }
      for (uint16_t* head = row(x, t); head < row(x, t) + width; head += head_dim)
        level.rotate(head, head + head_dim / 2, c, s, pairs);
    }
  });
}

void rope_2d(Context& ctx, TensorView x, int head_dim, std::span<const int32_t> columns, std::span<const int32_t> rows,
             std::span<const float> inv_freq) {
  const Kernels& level = kernels();
  const int64_t pairs = static_cast<int64_t>(inv_freq.size()), width = x.last_dim();
  constexpr int64_t kAngleCost = 16;
  parallel_rows(ctx, x.dim(0), width + 2 * kAngleCost * pairs, [&](int64_t begin, int64_t end) {
    float* const angles =
        reinterpret_cast<float*>(thread_scratch(Scratch::kRope, 4 * pairs * static_cast<int64_t>(sizeof(float))));
    for (int64_t t = begin; t < end; ++t) {
      for (const bool second : {false, true}) {
        const int32_t* const position = (second ? rows : columns).data() + t;
        float* const c = angles + (second ? 2 * pairs : 0);
        float* const s = c + pairs;
        // Patches come row by row, so that the row's angles stay.
        if (t == begin || *position != position[-1]) {
          for (int64_t j = 0; j < pairs; ++j) {
            const float angle = static_cast<float>(*position) * inv_freq[static_cast<size_t>(j)];
            c[j] = round_to_bf16(std::cos(angle));
            s[j] = round_to_bf16(std::sin(angle));
          }
        }
        for (uint16_t* half = row(x, t) + (second ? head_dim / 2 : 0); half < row(x, t) + width; half += head_dim)
          level.rotate(half, half + pairs, c, s, pairs);
      }
    }
  });
}

void softcap(Context& ctx, TensorView y, ConstTensorView x, float cap) {
  const Kernels& level = kernels();
  parallel_slices(ctx, x.num_rows(), x.last_dim(), [&](int64_t t, int64_t first, int64_t n) {
    float* const out = static_cast<float*>(y.data) + t * y.row_stride + first;
    if (cap == 0)
      level.widen(out, row(x, t) + first, n);
    else
      level.scale_lookup_scale(out, row(x, t) + first, 1.0f / cap, tanh_table(), cap, n);
  });
}

}  // namespace carat::ops::cpu
