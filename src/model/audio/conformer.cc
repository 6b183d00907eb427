#include "model/audio/conformer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "model/arena.h"
#include "model/clipped_linear.h"
#include "model/views.h"
#include "ops/ops.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

constexpr int64_t kMelBins = ConformerConfig::kMelBins;
constexpr int64_t kBins0 = kMelBins / 2, kBins1 = kMelBins / 4;  // after the first and the second convolution
/// Rows of time that the second convolution's windows are laid out for at once: they take nine times their input.
constexpr int64_t kConvRows = 32;

}  // namespace

/// What subsampling needs is overlaid by what the layers need.
struct ConformerEncoder::Workspace {
  Bf16 *hidden, *normed, *branch;  // [tokens, C]
  Bf16* inner;                     // [tokens, 4C]; in attention q, k, v and the heads' output
  Bf16 *features, *windows, *grid0, *grid1;
  float* sums;  // [tokens, O]
  Bf16* tower;  // [tokens, O]

  Workspace(Arena& arena, const ConformerConfig& c) {
    hidden = arena.take<Bf16>(kMaxTokens * c.hidden_size);
    const int64_t mark = arena.mark();
    features = arena.take<Bf16>(kMaxFrames * kMelBins);
    grid0 = arena.take<Bf16>(kMaxFrames / 2 * kBins0 * c.conv_channels[0]);
    grid1 = arena.take<Bf16>(kMaxTokens * kBins1 * c.conv_channels[1]);
    windows = arena.take<Bf16>(std::max(kMaxFrames / 2 * kBins0 * 9, kConvRows * kBins1 * 9 * c.conv_channels[0]));

    arena.rewind(mark);
    normed = arena.take<Bf16>(kMaxTokens * c.hidden_size);
    branch = arena.take<Bf16>(kMaxTokens * c.hidden_size);
    inner = arena.take<Bf16>(kMaxTokens * 4 * c.hidden_size);

    arena.rewind(mark);
    sums = arena.take<float>(kMaxTokens * c.output_size);
    tower = arena.take<Bf16>(kMaxTokens * c.output_size);
  }
};

ConformerEncoder::ConformerEncoder(const ConformerConfig& config, std::shared_ptr<const AudioWeights> weights,
                                   ConformerTables tables, Buffer memory, AudioObserver observer)
    : config_(config),
      weights_(std::move(weights)),
      tables_(std::move(tables)),
      memory_(std::move(memory)),
      observer_(std::move(observer)) {
  Arena arena(memory_.data());
  ws_ = std::make_unique<const Workspace>(arena, config_);
}

int64_t ConformerEncoder::memory_bytes(const ConformerConfig& config) {
  Arena arena;
  Workspace workspace(arena, config);
  return arena.peak() + ConformerTables::memory_bytes(config);
}

Result<std::unique_ptr<MediaEncoder>> ConformerEncoder::create(const ModelConfig& config,
                                                               std::shared_ptr<const AudioWeights> weights,
                                                               AudioObserver observer) {
  const auto& conformer = std::get<ConformerConfig>(*config.audio);
  CARAT_TRY(ConformerTables tables, ConformerTables::create(conformer, *weights));
  Arena arena;
  Workspace measured(arena, conformer);
  CARAT_TRY(Buffer memory, Buffer::allocate(arena.peak()));
  return std::unique_ptr<MediaEncoder>(
      new ConformerEncoder(conformer, std::move(weights), std::move(tables), std::move(memory), std::move(observer)));
}

void ConformerEncoder::encode(ops::Context& ctx, const EncoderInput& input, TensorView soft_tokens) {
  const int64_t count = input.num_tokens;
  CARAT_CHECK(input.kind == EncoderInput::Kind::kAudio && input.num_frames > 0 && input.num_frames <= kMaxFrames,
              "a clip of a length that the tower was made for");
  CARAT_CHECK_EQ(input.features.size(), static_cast<size_t>(input.num_frames) * kMelBins);
  CARAT_CHECK_EQ(count, (input.num_frames + 3) / 4);
  CARAT_CHECK_EQ(soft_tokens.dim(0), count);
  subsample(ctx, input);
  for (int j = 0; j < config_.num_layers; ++j) layer(ctx, j, count);

  const TensorView sums(ws_->sums, DType::kF32, {count, config_.output_size});
  const TensorView tower = view(ws_->tower, count, config_.output_size);
  ops::linear(ctx, sums, view(ws_->hidden, count, config_.hidden_size), weights_->output_proj);
  ops::add_bias(ctx, tower, sums, weights_->output_proj_bias);
  observe("tower", -1, tower);
  ops::rms_norm(ctx, tower, tower, {}, static_cast<float>(config_.rms_norm_eps));
  ops::linear(ctx, soft_tokens, tower, weights_->embedding_projection);
}

/// hidden [tokens, C] from features: two convolutions that halve time and frequency, each with a norm over its channels
/// and a rectifier, then a projection of all channels and frequencies. Source: audio.md section 3.
void ConformerEncoder::subsample(ops::Context& ctx, const EncoderInput& input) {
  const int64_t frames = input.num_frames, half = (frames + 1) / 2, count = input.num_tokens;
  const int64_t channels0 = config_.conv_channels[0], channels1 = config_.conv_channels[1];
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const auto finish = [&](TensorView grid, ConstTensorView norm) {
    ops::layer_norm(ctx, grid, grid, norm, {}, eps);
    ops::clamp(ctx, grid, grid, 0, std::numeric_limits<float>::infinity());
  };
  std::transform(input.features.begin(), input.features.end(), ws_->features, [](float x) { return Bf16(x); });

  const TensorView grid0 = view(ws_->grid0, half * kBins0, channels0);
  const TensorView windows0 = view(ws_->windows, half * kBins0, 9);
  ops::unfold_3x3(ctx, windows0, TensorView(ws_->features, DType::kBf16, {frames, kMelBins, 1}), 0);
  ops::linear(ctx, grid0, windows0, tables_.conv0);
  finish(grid0, weights_->conv0_norm);

  const TensorView grid1 = view(ws_->grid1, count * kBins1, channels1);
  for (int64_t first = 0; first < count; first += kConvRows) {
    const int64_t places = std::min(kConvRows, count - first) * kBins1;
    const TensorView windows1 = view(ws_->windows, places, 9 * channels0);
    ops::unfold_3x3(ctx, windows1, TensorView(ws_->grid0, DType::kBf16, {half, kBins0, channels0}), first);
    ops::linear(ctx, rows(grid1, first * kBins1, places), windows1, tables_.conv1);
  }
  finish(grid1, weights_->conv1_norm);

  // A row of the grid's time is one row of 32 C1 numbers, the channel fastest.
  const TensorView hidden = view(ws_->hidden, count, config_.hidden_size);
  observe("subsampled", -1, view(ws_->grid1, count, kBins1 * channels1));
  ops::linear(ctx, hidden, view(ws_->grid1, count, kBins1 * channels1), weights_->input_proj);
  observe("input_proj", -1, hidden);
}

/// The reference also limits activations to 1e10 here and there; linears' bounds keep them far below.
void ConformerEncoder::layer(ops::Context& ctx, int j, int64_t count) {
  const ConformerLayerWeights& w = weights_->layers[static_cast<size_t>(j)];
  const TensorView hidden = view(ws_->hidden, count, config_.hidden_size);
  feed_forward(ctx, w.feed_forward1, count);
  attend(ctx, j, count);
  convolve(ctx, j, count);
  feed_forward(ctx, w.feed_forward2, count);
  ops::rms_norm(ctx, hidden, hidden, w.norm_out, static_cast<float>(config_.rms_norm_eps));
  observe("out", j, hidden);
}

/// hidden += weight * RMS(W2 silu(W1 RMS(hidden))).
void ConformerEncoder::feed_forward(ops::Context& ctx, const ConformerFeedForward& w, int64_t count) {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const int64_t width = config_.hidden_size;
  const TensorView hidden = view(ws_->hidden, count, width), normed = view(ws_->normed, count, width),
                   branch = view(ws_->branch, count, width), inner = view(ws_->inner, count, 4 * width);
  ops::rms_norm(ctx, normed, hidden, w.pre_layer_norm, eps);
  clipped_linear(ctx, inner, normed, w.ffw_layer_1, normed);
  ops::silu(ctx, inner, inner);
  clipped_linear(ctx, branch, inner, w.ffw_layer_2, inner);
  ops::rms_norm(ctx, branch, branch, w.post_layer_norm, eps);
  ops::scale(ctx, branch, branch, static_cast<float>(config_.residual_weight));
  ops::add(ctx, hidden, hidden, branch);
}

/// hidden += RMS(Attention(RMS(hidden))). Source: audio.md section 5.
void ConformerEncoder::attend(ops::Context& ctx, int j, int64_t count) {
  const ConformerLayerWeights& w = weights_->layers[static_cast<size_t>(j)];
  const ConformerTables::Layer& tables = tables_.layers[static_cast<size_t>(j)];
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const int64_t width = config_.hidden_size;
  const TensorView hidden = view(ws_->hidden, count, width), normed = view(ws_->normed, count, width),
                   branch = view(ws_->branch, count, width);
  const auto part = [&](int64_t i) { return view(ws_->inner + i * count * width, count, width); };
  const TensorView q = part(0), k = part(1), v = part(2), heads = part(3);
  ops::rms_norm(ctx, normed, hidden, w.norm_pre_attn, eps);
  clipped_linear(ctx, q, normed, w.q_proj, branch);
  clipped_linear(ctx, k, normed, w.k_proj, branch);
  clipped_linear(ctx, v, normed, w.v_proj, branch);
  ops::relative_attention(ctx, heads, q, k, v, tables.relative_keys,
                          {.q_scale = tables_.q_scale,
                           .k_scale = ConformerTables::kKeyScale,
                           .cap = static_cast<float>(config_.attention_logit_cap),
                           .dim_scale = tables.dim_scale});
  clipped_linear(ctx, branch, heads, w.post, heads);
  observe("attn", j, branch);
  ops::rms_norm(ctx, branch, branch, w.norm_post_attn, eps);
  ops::add(ctx, hidden, hidden, branch);
}

/// hidden += W2 silu(RMS(conv(GLU(W1 RMS(hidden))))). Source: audio.md section 4.
void ConformerEncoder::convolve(ops::Context& ctx, int j, int64_t count) {
  const ConformerLayerWeights& w = weights_->layers[static_cast<size_t>(j)];
  const float eps = static_cast<float>(config_.rms_norm_eps);
  const int64_t width = config_.hidden_size;
  const TensorView hidden = view(ws_->hidden, count, width), normed = view(ws_->normed, count, width),
                   branch = view(ws_->branch, count, width), doubled = view(ws_->inner, count, 2 * width);
  ops::rms_norm(ctx, normed, hidden, w.conv_pre_norm, eps);
  clipped_linear(ctx, doubled, normed, w.linear_start, normed);
  ops::glu(ctx, normed, doubled);
  ops::causal_conv(ctx, branch, normed, tables_.layers[static_cast<size_t>(j)].taps);
  ops::rms_norm(ctx, branch, branch, w.conv_norm, eps);
  ops::silu(ctx, branch, branch);
  clipped_linear(ctx, normed, branch, w.linear_end, branch);
  ops::add(ctx, hidden, hidden, normed);
}

}  // namespace carat
