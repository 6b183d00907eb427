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
