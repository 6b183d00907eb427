#include <algorithm>
#include <vector>

#include "ops/ref/ref_ops.h"
#include "ops/ref/rows.h"

namespace carat::ops::ref {

void silu(Context&, TensorView y, ConstTensorView x) {
  for (int64_t t = 0; t < x.num_rows(); ++t)
    for (size_t i = 0; i < row(x, t).size(); ++i) {
      const float value = f32(row(x, t)[i]);
      row(y, t)[i] = Bf16(value / (1.0f + std::exp(-value)));
    }
}

void glu(Context&, TensorView y, ConstTensorView x) {
  for (int64_t t = 0; t < y.dim(0); ++t) {
    const auto in = row(x, t);
    const auto out = row(y, t);
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = Bf16(f32(in[i]) * (1.0f / (1.0f + std::exp(-f32(in[out.size() + i])))));
  }
}

void unfold_3x3(Context&, TensorView y, ConstTensorView x, int64_t first) {
  const int64_t height = x.dim(0), width = x.dim(1), channels = x.dim(2), out_width = (width + 1) / 2;
  for (int64_t n = 0; n < y.dim(0); ++n)
    for (int64_t at = 0; at < 9 * channels; ++at) {
      const int64_t t = 2 * (first + n / out_width) + at / (3 * channels) - 1;
      const int64_t f = 2 * (n % out_width) + at / channels % 3 - 1;
      const bool inside = t >= 0 && t < height && f >= 0 && f < width;
      row(y, n)[static_cast<size_t>(at)] =
          inside ? row(x, t * width + f)[static_cast<size_t>(at % channels)] : Bf16(0.0f);
    }
}

void causal_conv(Context&, TensorView y, ConstTensorView x, ConstTensorView w) {
  const int64_t taps = w.dim(0);
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (size_t c = 0; c < row(y, t).size(); ++c) {
      float sum = 0;
      for (int64_t j = std::max<int64_t>(taps - 1 - t, 0); j < taps; ++j)
        sum += f32(row(w, j)[c]) * f32(row(x, t - taps + 1 + j)[c]);
      row(y, t)[c] = Bf16(sum);
    }
}

void relative_attention(Context&, TensorView o, ConstTensorView q, ConstTensorView k, ConstTensorView v,
                        ConstTensorView r, const RelativeScores& s) {
  const size_t head_dim = s.dim_scale.size();
  for (int64_t t = 0; t < q.dim(0); ++t)
    for (size_t head = 0; head < row(q, t).size(); head += head_dim) {
      std::vector<double> p(static_cast<size_t>(std::min(r.dim(0), t + 1)));
      for (size_t d = 0; d < p.size(); ++d) {
        double score = 0;
        for (size_t i = head; i < head + head_dim; ++i) {
          const double query = static_cast<double>(f32(row(q, t)[i]) * s.q_scale * s.dim_scale[i - head]);
          const double key = static_cast<double>(f32(row(k, t - static_cast<int64_t>(d))[i]) * s.k_scale);
          score += query * (key + static_cast<double>(f32(row(r, static_cast<int64_t>(d))[i])));
        }
        const double cap = static_cast<double>(s.cap);
        p[d] = cap * std::tanh(score / cap);
      }
      const double highest = *std::ranges::max_element(p);
      double total = 0;
      for (double& value : p) total += value = std::exp(value - highest);
      for (size_t i = head; i < head + head_dim; ++i) {
        double sum = 0;
        for (size_t d = 0; d < p.size(); ++d)
          sum += p[d] / total * static_cast<double>(f32(row(v, t - static_cast<int64_t>(d))[i]));
        row(o, t)[i] = Bf16(static_cast<float>(sum));
      }
    }
}

}  // namespace carat::ops::ref
