#include "model/audio/conformer_tables.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "model/arena.h"
#include "model/views.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

/// [N, C, 3, 3] as the weight of a linear for ops::unfold_3x3(): [N, 9 C].
void unfold_weight(Bf16* out, const ConstTensorView& w) {
  const auto* in = static_cast<const Bf16*>(w.data);
  const int64_t channels = w.dim(1);
  for (int64_t n = 0; n < w.dim(0); ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t place = 0; place < 9; ++place)
        out[(n * 9 + place) * channels + c] = in[(n * channels + c) * 9 + place];
}

/// [C, 1, K] as [K, C].
void transpose_taps(Bf16* out, const ConstTensorView& w) {
  const auto* in = static_cast<const Bf16*>(w.data);
  const int64_t channels = w.dim(0), taps = w.dim(2);
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t j = 0; j < taps; ++j) out[j * channels + c] = in[c * taps + j];
}

/// Row D: sines, then cosines of D times each of C / 2 frequencies from 1 down to 1 / 10000. The frequencies stay in
/// f32, which is what the reference means; loaded in bf16 it rounds them. Source: audio.md section 5.
void sinusoids(Bf16* out, int64_t distances, int64_t width) {
  const int64_t half = width / 2;
  const float step = static_cast<float>(-std::log(10000.0) / static_cast<double>(std::max<int64_t>(half - 1, 1)));
  for (int64_t d = 0; d < distances; ++d)
    for (int64_t m = 0; m < half; ++m) {
      const float angle = static_cast<float>(d) * std::exp(static_cast<float>(m) * step);
      out[d * width + m] = Bf16(std::sin(angle));
      out[d * width + half + m] = Bf16(std::cos(angle));
    }
}

/// ln(1 + e^x), rounded to bf16 as the reference's.
float softplus(Bf16 x) { return round_to_bf16(std::log1p(std::exp(static_cast<float>(x)))); }

struct Pieces {
  struct Layer {
    Bf16 *relative_keys, *taps;
    float* dim_scale;
  };
  Bf16 *conv0, *conv1, *sinusoids;
  std::vector<Layer> layers;

  Pieces(Arena& arena, const ConformerConfig& c) {
    const int64_t width = c.hidden_size;
    conv0 = arena.take<Bf16>(9 * c.conv_channels[0]);
    conv1 = arena.take<Bf16>(int64_t{9} * c.conv_channels[0] * c.conv_channels[1]);
    sinusoids = arena.take<Bf16>(c.attention_window * width);
    for (int j = 0; j < c.num_layers; ++j) {
      Layer layer;
      layer.relative_keys = arena.take<Bf16>(c.attention_window * width);
      layer.taps = arena.take<Bf16>(c.conv_kernel_size * width);
      layer.dim_scale = arena.take<float>(c.head_dim());
      layers.push_back(layer);
    }
  }
};

}  // namespace

int64_t ConformerTables::memory_bytes(const ConformerConfig& config) {
  Arena arena;
  Pieces pieces(arena, config);
  return arena.peak();
}

Result<ConformerTables> ConformerTables::create(const ConformerConfig& c, const AudioWeights& weights) {
  CARAT_CHECK_EQ(weights.layers.size(), static_cast<size_t>(c.num_layers));
  ConformerTables tables;
  CARAT_TRY(tables.memory, Buffer::allocate(memory_bytes(c)));
  Arena arena(tables.memory.data());
  const Pieces pieces(arena, c);
  const int64_t window = c.attention_window, width = c.hidden_size;
  unfold_weight(pieces.conv0, weights.conv0);
  unfold_weight(pieces.conv1, weights.conv1);
  tables.conv0 = view(pieces.conv0, c.conv_channels[0], 9);
  tables.conv1 = view(pieces.conv1, c.conv_channels[1], int64_t{9} * c.conv_channels[0]);
  tables.q_scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.head_dim())) / std::log(2.0));

  const TensorView distances = view(pieces.sinusoids, window, width);
  sinusoids(pieces.sinusoids, window, width);
  ops::Context ctx;
  for (size_t j = 0; j < weights.layers.size(); ++j) {
    const ConformerLayerWeights& w = weights.layers[j];
    const Pieces::Layer& p = pieces.layers[j];
    const TensorView relative_keys = view(p.relative_keys, window, width);
    ops::linear(ctx, relative_keys, distances, w.relative_k_proj);
    transpose_taps(p.taps, w.depthwise_conv);
    const auto* const scale = static_cast<const Bf16*>(w.per_dim_scale.data);
    std::transform(scale, scale + c.head_dim(), p.dim_scale, softplus);
    tables.layers.push_back(
        {relative_keys, view(p.taps, c.conv_kernel_size, width), {p.dim_scale, static_cast<size_t>(c.head_dim())}});
  }
  return tables;
}

}  // namespace carat
