#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

void rms_norm(Context&, TensorView y, ConstTensorView x, ConstTensorView w, float eps) {
  for (int64_t t = 0; t < x.num_rows(); ++t) {
    const auto in = row(x, t);
    const auto out = row(y, t);
    double squares = 0;
    for (const Bf16 value : in) squares += static_cast<double>(f32(value)) * static_cast<double>(f32(value));
    const float mean = static_cast<float>(squares / static_cast<double>(in.size())) + eps;
    const float inverse_root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(mean)));
    for (size_t i = 0; i < in.size(); ++i) {
      const float normed = f32(in[i]) * inverse_root;
      out[i] = Bf16(w ? normed * f32(row(w, 0)[i]) : normed);
    }
  }
}

void add(Context&, TensorView y, ConstTensorView a, ConstTensorView b) {
  for (int64_t t = 0; t < a.num_rows(); ++t)
    for (size_t i = 0; i < row(a, t).size(); ++i) row(y, t)[i] = Bf16(f32(row(a, t)[i]) + f32(row(b, t)[i]));
}

void mul(Context&, TensorView y, ConstTensorView a, ConstTensorView b) {
  const bool broadcast = b.shape.rank() == 1;
  for (int64_t t = 0; t < a.num_rows(); ++t) {
    const auto factor = row(b, broadcast ? 0 : t);
    for (size_t i = 0; i < factor.size(); ++i) row(y, t)[i] = Bf16(f32(row(a, t)[i]) * f32(factor[i]));
  }
}

void scale(Context&, TensorView y, ConstTensorView x, float s) {
  for (int64_t t = 0; t < x.num_rows(); ++t)
    for (size_t i = 0; i < row(x, t).size(); ++i) row(y, t)[i] = Bf16(f32(row(x, t)[i]) * s);
}

void clamp(Context&, TensorView y, ConstTensorView x, float lowest, float highest) {
  for (int64_t t = 0; t < x.num_rows(); ++t)
    for (size_t i = 0; i < row(x, t).size(); ++i) {
      const float value = f32(row(x, t)[i]);
      row(y, t)[i] = value < lowest ? Bf16(lowest) : value > highest ? Bf16(highest) : row(x, t)[i];
    }
}

void add_bias(Context&, TensorView y, ConstTensorView x, ConstTensorView b) {
  for (int64_t t = 0; t < x.num_rows(); ++t)
    for (size_t i = 0; i < row(b, 0).size(); ++i) row(y, t)[i] = Bf16(row_f32(x, t)[i] + f32(row(b, 0)[i]));
}

void layer_norm(Context&, TensorView y, ConstTensorView x, ConstTensorView w, ConstTensorView b, float eps) {
  for (int64_t t = 0; t < x.num_rows(); ++t) {
    const auto in = row(x, t);
    const auto out = row(y, t);
    double sum = 0, squares = 0;
    for (const Bf16 value : in) sum += static_cast<double>(f32(value));
    const double mean = sum / static_cast<double>(in.size());
    for (const Bf16 value : in) squares += std::pow(static_cast<double>(f32(value)) - mean, 2);
    const float shifted = static_cast<float>(squares / static_cast<double>(in.size())) + eps;
    const float inverse_root = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shifted)));
    for (size_t i = 0; i < in.size(); ++i) {
      const float normed = (f32(in[i]) - static_cast<float>(mean)) * inverse_root * f32(row(w, 0)[i]);
      out[i] = Bf16(b ? normed + f32(row(b, 0)[i]) : normed);
    }
  }
}

void lookup_bytes(Context&, TensorView y, ConstTensorView x, ConstTensorView table) {
  for (int64_t t = 0; t < x.num_rows(); ++t) {
    const uint8_t* const in = static_cast<const uint8_t*>(x.data) + t * x.row_stride;
    for (size_t i = 0; i < row(y, t).size(); ++i) row(y, t)[i] = row(table, 0)[in[i]];
  }
}

void pool_patches(Context&, TensorView y, ConstTensorView x, int grid_width, int k, float s, ConstTensorView bias,
                  ConstTensorView factor) {
  const int64_t groups = grid_width / k;
  const float share = 1.0f / static_cast<float>(k * k);
  for (int64_t g = 0; g < y.dim(0); ++g) {
    const int64_t first = g / groups * k * grid_width + g % groups * k;  // the group's first patch
    for (size_t i = 0; i < row(y, g).size(); ++i) {
      float sum = 0;
      for (int patch_y = 0; patch_y < k; ++patch_y)
        for (int patch_x = 0; patch_x < k; ++patch_x)
          sum = std::fma(f32(row(x, first + patch_y * grid_width + patch_x)[i]), share, sum);
      const float scaled = r(sum) * s;
      row(y, g)[i] = Bf16(bias ? (scaled - f32(row(bias, 0)[i])) * f32(row(factor, 0)[i]) : scaled);
    }
  }
}

void gelu_mul(Context&, TensorView y, ConstTensorView gate, ConstTensorView up) {
  for (int64_t t = 0; t < gate.num_rows(); ++t)
    for (size_t i = 0; i < row(gate, t).size(); ++i)
      row(y, t)[i] = Bf16(r(gelu_tanh(f32(row(gate, t)[i]))) * f32(row(up, t)[i]));
}

void embed(Context&, TensorView y, ConstTensorView table, std::span<const TokenId> ids, float s) {
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto in = row(table, ids[t]);
    const auto out = row(y, static_cast<int64_t>(t));
    for (size_t i = 0; i < in.size(); ++i) out[i] = Bf16(f32(in[i]) * s);
  }
}

void softcap(Context&, TensorView y, ConstTensorView x, float cap) {
  for (int64_t t = 0; t < x.num_rows(); ++t) {
    const auto in = row(x, t);
    const auto out = row_f32(y, t);
    for (size_t i = 0; i < in.size(); ++i)
      out[i] = cap == 0 ? f32(in[i]) : r(r(std::tanh(r(f32(in[i]) * (1.0f / cap)))) * cap);
  }
}

}  // namespace carat::ops::ref
