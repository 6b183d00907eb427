#include "model/audio/cuda_audio_model.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/arena.h"
#include "model/audio/conformer_tables.h"
#include "model/cuda_linear.h"
#include "model/device_tensors.h"
#include "ops/cuda/audio_ops.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

constexpr int kMelBins = ConformerConfig::kMelBins, kBins0 = kMelBins / 2, kBins1 = kMelBins / 4;
/// Rows of time that the second convolution's windows are laid out for at once, and what their number is padded to so
/// that few shapes of products occur.
constexpr int kConvRows = 256, kConvPadding = 32;

int width_of(const AudioConfig& config) {
  return std::holds_alternative<RawAudioConfig>(config) ? RawAudioConfig::kFrameSamples : kMelBins;
}

Result<void> check_shapes(const ConformerConfig& c) {
  if (c.hidden_size % 16 == 0 && c.hidden_size <= 1280 && c.head_dim() <= 128 && c.attention_window <= 32 &&
      c.conv_channels[0] % 16 == 0 && c.conv_channels[0] <= 256 && c.conv_channels[1] % 8 == 0 &&
      c.conv_channels[1] <= 256 && c.output_size % 16 == 0)
    return {};
  return Error{
      Errc::kUnsupported,
      str_cat("the GPU kernels of the audio tower need a hidden size up to 1280 and an output size that are "
              "multiples of 16, heads up to 128, a window up to 32 and 16 n and 8 n convolution channels up to "
              "256; hidden size ",
              c.hidden_size, ", output ", c.output_size, ", head size ", c.head_dim(), ", window ", c.attention_window,
              ", channels ", c.conv_channels[0], " and ", c.conv_channels[1])};
}

}  // namespace

struct CudaAudioModel::Impl {
  Impl(const ModelConfig& model_config, int tokens)
      : config(*model_config.audio), text_width(model_config.text.hidden_size), max_tokens(tokens) {}

  const AudioConfig config;
  const int text_width, max_tokens;
  AudioWeights weights;  ///< views of device memory; what the tables replace is empty
  /// ConformerTables on the device.
  struct Layer {
    const void *relative_keys, *taps, *dim_scale;
  };
  ConstTensorView conv0, conv1;
  std::vector<Layer> layers;
  float q_scale = 0;
  cuda::DeviceBuffer weight_memory, memory;
  cuda::PinnedBuffer staging;
  cuda::Event staged;  ///< the copies out of `staging` are done
  Observer observer;

  // Host, page-locked.
  float* host_features = nullptr;
  int32_t* host_begin = nullptr;
  // Device. T = max_tokens, padded.
  float* features = nullptr;      // [4 T, 128] or [T, 640]
  int32_t* clip_begin = nullptr;  // [T]
  Bf16* out = nullptr;            // [T, H]
  Bf16 *grid0 = nullptr, *windows = nullptr, *grid1 = nullptr;
  Bf16 *h = nullptr, *y = nullptr, *inner = nullptr;  // [T, C], [T, C], [T, 4C]
  Bf16* x[3] = {};                                    // [T, C]; with the raw form x[0] [T, 640]
  float* sums = nullptr;                              // [T, O]
  Bf16* tower = nullptr;                              // [T, O]

  int max_frames() const { return std::holds_alternative<RawAudioConfig>(config) ? max_tokens : 4 * max_tokens; }

  int64_t cut_staging(std::byte* base) {
    Arena arena(base);
    host_features = arena.take<float>(int64_t{max_frames()} * width_of(config));
    host_begin = arena.take<int32_t>(max_tokens);
    return arena.peak();
  }

  int64_t cut(std::byte* base) {
    Arena arena(base);
    const int64_t t = padded_rows(max_tokens);
    features = arena.take<float>(int64_t{max_frames()} * width_of(config));
    clip_begin = arena.take<int32_t>(t);
    out = arena.take<Bf16>(t * text_width);
    const auto* c = std::get_if<ConformerConfig>(&config);
    if (!c) {
      x[0] = arena.take<Bf16>(t * RawAudioConfig::kFrameSamples);
      return arena.peak();
    }
    h = arena.take<Bf16>(t * c->hidden_size);
    const int64_t mark = arena.mark();
    grid0 = arena.take<Bf16>(int64_t{2} * kMaxClipTokens * kBins0 * c->conv_channels[0]);
    windows = arena.take<Bf16>(int64_t{kConvRows} * kBins1 * 9 * c->conv_channels[0]);
    grid1 = arena.take<Bf16>((t + kConvPadding) * kBins1 * c->conv_channels[1]);
    arena.rewind(mark);
    for (Bf16*& input : x) input = arena.take<Bf16>(t * c->hidden_size);
    y = arena.take<Bf16>(t * c->hidden_size);
    inner = arena.take<Bf16>(t * 4 * c->hidden_size);
    arena.rewind(mark);
    sums = arena.take<float>(t * c->output_size);
    tower = arena.take<Bf16>(t * c->output_size);
    return arena.peak();
  }

  void observe(std::string_view name, int layer, const void* data, int rows, int columns) const {
    if (observer) observer(name, layer, data, rows, columns);
  }

  Result<void> upload(const AudioWeights& source, const cuda::Stream& stream);
  void stage(const cuda::Stream& stream, std::span<const float> values, int32_t num_begin);
  void product(const cuda::Launch& launch, void* result, const void* input, const ConstTensorView& w, int rows,
               cuda::Epilogue epilogue = cuda::Epilogue::kBf16) const;
  void encode_raw(const cuda::Launch& launch, const cuda::Stream& stream, const EncoderInput& clip, void* soft_tokens);
  void encode_conformer(const cuda::Launch& launch, const cuda::Stream& stream,
                        std::span<const EncoderInput* const> clips, void* soft_tokens);
  void subsample(const cuda::Launch& launch, const ConformerConfig& c, const float* frames, int num_frames, Bf16* grid);
  void layer(const cuda::Launch& launch, const ConformerConfig& c, int j, int rows);
  void feed_forward(const cuda::Launch& launch, const ConformerConfig& c, const ConformerFeedForward& w, int rows);
};

Result<void> CudaAudioModel::Impl::upload(const AudioWeights& source, const cuda::Stream& stream) {
  weights = source;
  weights.owner = nullptr;
  DeviceTensors tensors;
  ConformerTables tables;
  if (const auto* c = std::get_if<ConformerConfig>(&config)) {
    weights.conv0 = weights.conv1 = {};
    for (ConformerLayerWeights& l : weights.layers) l.relative_k_proj = l.per_dim_scale = l.depthwise_conv = {};
    CARAT_TRY(tables, ConformerTables::create(*c, source));
    q_scale = tables.q_scale;
    conv0 = tables.conv0;
    conv1 = tables.conv1;
    for (ConstTensorView* view : {&conv0, &conv1}) tensors.add(&view->data, view->size_bytes());
    for (const ConformerTables::Layer& l : tables.layers)
      layers.push_back({l.relative_keys.data, l.taps.data, l.dim_scale.data()});
    for (size_t j = 0; j < layers.size(); ++j) {
      tensors.add(&layers[j].relative_keys, tables.layers[j].relative_keys.size_bytes());
      tensors.add(&layers[j].taps, tables.layers[j].taps.size_bytes());
      tensors.add(&layers[j].dim_scale, static_cast<int64_t>(tables.layers[j].dim_scale.size_bytes()));
    }
  }
  tensors.add(audio_slots(weights));
  CARAT_TRY(weight_memory, tensors.copy(stream));
  return {};
}

/// result = input w^T, bf16 or f32.
void CudaAudioModel::Impl::product(const cuda::Launch& launch, void* result, const void* input,
                                   const ConstTensorView& w, int rows, cuda::Epilogue epilogue) const {
  const int n = static_cast<int>(w.dim(0)), k = static_cast<int>(w.dim(1));
  cuda::linear(launch, result, n, input, k, w.data, rows, n, k, epilogue);
}

/// Clips have no longest length here: max_tokens frames at a time.
void CudaAudioModel::Impl::encode_raw(const cuda::Launch& launch, const cuda::Stream& stream, const EncoderInput& clip,
                                      void* soft_tokens) {
  constexpr int kWidth = RawAudioConfig::kFrameSamples;
  const float eps = static_cast<float>(std::get<RawAudioConfig>(config).rms_norm_eps);
  for (int first = 0; first < clip.num_frames; first += max_tokens) {
    const int rows = std::min(max_tokens, clip.num_frames - first);
    const size_t size_bytes = static_cast<size_t>(rows) * kWidth * sizeof(float);
    staged.synchronize();
    std::memcpy(host_features, clip.features.data() + int64_t{first} * kWidth, size_bytes);
    stream.copy_to_device(features, host_features, static_cast<int64_t>(size_bytes));
    staged.record(stream);
    cuda::bias_norm(launch, x[0], features, nullptr, rows, kWidth, eps);
    product(launch, out, x[0], weights.embedding_projection, padded_rows(rows));
    stream.copy_on_device(static_cast<Bf16*>(soft_tokens) + int64_t{first} * text_width, out,
                          int64_t{rows} * text_width * static_cast<int64_t>(sizeof(Bf16)));
  }
}

void CudaAudioModel::Impl::encode_conformer(const cuda::Launch& launch, const cuda::Stream& stream,
                                            std::span<const EncoderInput* const> clips, void* soft_tokens) {
  const auto& c = std::get<ConformerConfig>(config);
  const float eps = static_cast<float>(c.rms_norm_eps);
  staged.synchronize();
  int rows = 0;
  int64_t num_values = 0;
  for (const EncoderInput* clip : clips) {
    CARAT_CHECK(clip->num_frames > 0 && clip->num_tokens <= kMaxClipTokens, "a clip that the tower was made for");
    CARAT_CHECK_EQ(clip->num_tokens, (clip->num_frames + 3) / 4);
    CARAT_CHECK_EQ(clip->features.size(), static_cast<size_t>(clip->num_frames) * kMelBins);
    CARAT_CHECK(rows + clip->num_tokens <= max_tokens, "no more clips than there is room for");
    std::ranges::copy(clip->features, host_features + num_values);
    std::fill_n(host_begin + rows, clip->num_tokens, rows);
    num_values += static_cast<int64_t>(clip->features.size());
    rows += clip->num_tokens;
  }
  stream.copy_to_device(features, host_features, num_values * static_cast<int64_t>(sizeof(float)));
  stream.copy_to_device(clip_begin, host_begin, rows * static_cast<int64_t>(sizeof(int32_t)));
  staged.record(stream);

  const float* frames = features;
  Bf16* grid = grid1;
  for (const EncoderInput* clip : clips) {
    subsample(launch, c, frames, clip->num_frames, grid);
    frames += int64_t{clip->num_frames} * kMelBins;
    grid += int64_t{clip->num_tokens} * kBins1 * c.conv_channels[1];
  }
  cuda::norm_relu(launch, grid1, weights.conv1_norm.data, int64_t{rows} * kBins1, c.conv_channels[1], eps);
  product(launch, h, grid1, weights.input_proj, padded_rows(rows));
  observe("input_proj", -1, h, rows, c.hidden_size);

  cuda::AudioNormParams first{};
  first.h = h;
  first.w_next = weights.layers[0].feed_forward1.pre_layer_norm.data;
  first.x[0] = x[0];
  first.x_bounds[0] = input_bounds(weights.layers[0].feed_forward1.ffw_layer_1);
  first.num_x = 1;
  first.num_rows = rows;
  first.c = c.hidden_size;
  first.eps = eps;
  cuda::audio_norm(launch, first);
  for (int j = 0; j < c.num_layers; ++j) layer(launch, c, j, rows);

  product(launch, sums, h, weights.output_proj, padded_rows(rows), cuda::Epilogue::kF32);
  cuda::bias_norm(launch, tower, sums, weights.output_proj_bias.data, rows, c.output_size, eps);
  product(launch, out, tower, weights.embedding_projection, padded_rows(rows));
  stream.copy_on_device(soft_tokens, out, int64_t{rows} * text_width * static_cast<int64_t>(sizeof(Bf16)));
}

/// One clip's part of grid1, before its norm. What lies up to kConvPadding rows of time behind it is overwritten.
void CudaAudioModel::Impl::subsample(const cuda::Launch& launch, const ConformerConfig& c, const float* frames,
                                     int num_frames, Bf16* grid) {
  const int half = (num_frames + 1) / 2, count = (half + 1) / 2, channels0 = c.conv_channels[0];
  cuda::audio_conv0(launch, grid0, frames, conv0.data, weights.conv0_norm.data, num_frames, kMelBins, channels0,
                    static_cast<float>(c.rms_norm_eps));
  for (int first = 0; first < count; first += kConvRows) {
    const int rows = std::min(kConvRows, count - first);
    cuda::unfold_3x3(launch, windows, grid0, half, kBins0, channels0, first, rows);
    product(launch, grid + int64_t{first} * kBins1 * c.conv_channels[1], windows, conv1,
            (rows + kConvPadding - 1) / kConvPadding * kConvPadding * kBins1);
  }
}

/// From x[0], the first block's input, to the next layer's, and h.
void CudaAudioModel::Impl::layer(const cuda::Launch& launch, const ConformerConfig& c, int j, int rows) {
  const ConformerLayerWeights& w = weights.layers[static_cast<size_t>(j)];
  const Layer& tables = layers[static_cast<size_t>(j)];
  const int padded = padded_rows(rows), width = c.hidden_size;
  const float eps = static_cast<float>(c.rms_norm_eps);
  const auto norm = [&](const void* change, const ClippedLinear& from, const void* w_post, float scale) {
    cuda::AudioNormParams p{};
    p.h = h;
    p.y = change;
    p.y_bounds = output_bounds(from);
    p.w_post = w_post;
    p.y_scale = scale;
    p.num_rows = rows;
    p.c = width;
    p.eps = eps;
    return p;
  };
  const auto read_by = [&](cuda::AudioNormParams p, const ConstTensorView& w_next,
                           std::initializer_list<const ClippedLinear*> readers) {
    p.w_next = w_next.data;
    for (const ClippedLinear* reader : readers) {
      p.x[p.num_x] = x[p.num_x];
      p.x_bounds[p.num_x++] = input_bounds(*reader);
    }
    cuda::audio_norm(launch, p);
  };
  const float residual = static_cast<float>(c.residual_weight);

  feed_forward(launch, c, w.feed_forward1, rows);
  read_by(norm(y, w.feed_forward1.ffw_layer_2, w.feed_forward1.post_layer_norm.data, residual), w.norm_pre_attn,
          {&w.q_proj, &w.k_proj, &w.v_proj});

  const int64_t part = int64_t{padded_rows(max_tokens)} * width;
  cuda::AudioAttentionParams a{};
  const ClippedLinear* const linears[3] = {&w.q_proj, &w.k_proj, &w.v_proj};
  for (int i = 0; i < 3; ++i) product(launch, inner + i * part, x[i], linears[i]->weight, padded);
  a.q = inner;
  a.k = inner + part;
  a.v = inner + 2 * part;
  a.o = inner + 3 * part;
  a.r = tables.relative_keys;
  a.q_bounds = output_bounds(w.q_proj);
  a.k_bounds = output_bounds(w.k_proj);
  a.v_bounds = output_bounds(w.v_proj);
  a.o_bounds = input_bounds(w.post);
  a.dim_scale = static_cast<const float*>(tables.dim_scale);
  a.clip_begin = clip_begin;
  a.q_scale = q_scale;
  a.k_scale = ConformerTables::kKeyScale;
  a.cap = static_cast<float>(c.attention_logit_cap);
  a.num_rows = rows;
  a.num_heads = c.num_heads;
  a.head_dim = c.head_dim();
  a.window = c.attention_window;
  cuda::audio_attention(launch, a);
  product(launch, y, inner + 3 * part, w.post.weight, padded);
  read_by(norm(y, w.post, w.norm_post_attn.data, 1.0f), w.conv_pre_norm, {&w.linear_start});

  product(launch, inner, x[0], w.linear_start.weight, padded);
  cuda::AudioConvParams conv{};
  conv.y = x[0];
  conv.x = inner;
  conv.taps = tables.taps;
  conv.norm = w.conv_norm.data;
  conv.in = output_bounds(w.linear_start);
  conv.out = input_bounds(w.linear_end);
  conv.clip_begin = clip_begin;
  conv.num_rows = rows;
  conv.c = width;
  conv.num_taps = c.conv_kernel_size;
  conv.eps = eps;
  cuda::audio_conv(launch, conv);
  product(launch, y, x[0], w.linear_end.weight, padded);
  read_by(norm(y, w.linear_end, nullptr, 1.0f), w.feed_forward2.pre_layer_norm, {&w.feed_forward2.ffw_layer_1});

  feed_forward(launch, c, w.feed_forward2, rows);
  cuda::AudioNormParams last = norm(y, w.feed_forward2.ffw_layer_2, w.feed_forward2.post_layer_norm.data, residual);
  last.w_out = w.norm_out.data;
  if (j + 1 < c.num_layers) {
    const ConformerFeedForward& next = weights.layers[static_cast<size_t>(j) + 1].feed_forward1;
    read_by(last, next.pre_layer_norm, {&next.ffw_layer_1});
  } else {
    cuda::audio_norm(launch, last);
  }
  observe("out", j, h, rows, width);
}

/// y = W2 silu(W1 x[0]), its bounds still to be applied.
void CudaAudioModel::Impl::feed_forward(const cuda::Launch& launch, const ConformerConfig& c,
                                        const ConformerFeedForward& w, int rows) {
  product(launch, inner, x[0], w.ffw_layer_1.weight, padded_rows(rows));
  cuda::audio_silu(launch, inner, output_bounds(w.ffw_layer_1), input_bounds(w.ffw_layer_2),
                   int64_t{rows} * 4 * c.hidden_size);
  product(launch, y, inner, w.ffw_layer_2.weight, padded_rows(rows));
}

CudaAudioModel::CudaAudioModel() = default;
CudaAudioModel::~CudaAudioModel() = default;

Result<std::unique_ptr<CudaAudioModel>> CudaAudioModel::create(const ModelConfig& config, const AudioWeights& weights,
                                                               int max_tokens, const cuda::Stream& stream) {
  CARAT_CHECK(config.audio && max_tokens >= kMaxClipTokens, "a model that can hear, and room for the longest clip");
  if (const auto* c = std::get_if<ConformerConfig>(&*config.audio)) CARAT_TRY_VOID(check_shapes(*c));
  std::unique_ptr<CudaAudioModel> model(new CudaAudioModel());
  model->impl_ = std::make_unique<Impl>(config, max_tokens);
  Impl& impl = *model->impl_;
  CARAT_TRY_VOID(impl.upload(weights, stream));
  CARAT_TRY(impl.memory, cuda::DeviceBuffer::allocate(impl.cut(nullptr)));
  CARAT_TRY(impl.staging, cuda::PinnedBuffer::allocate(impl.cut_staging(nullptr)));
  CARAT_TRY(impl.staged, cuda::Event::create());
  impl.cut(impl.memory.as<std::byte>());
  impl.cut_staging(impl.staging.as<std::byte>());
  return model;
}

int64_t CudaAudioModel::bytes_needed(const ModelConfig& config, int max_tokens) {
  CARAT_CHECK(config.audio, "a model that can hear");
  int64_t bytes = Impl(config, max_tokens).cut(nullptr);
  for (const MediaTensor& tensor : audio_tensors(*config.audio, config.text.hidden_size))
    if (tensor.shape.rank() > 0) bytes += DeviceTensors::bytes_needed(tensor.size_bytes());
  if (const auto* c = std::get_if<ConformerConfig>(&*config.audio)) bytes += ConformerTables::memory_bytes(*c);
  return bytes;
}

void CudaAudioModel::encode(const cuda::Launch& launch, const cuda::Stream& stream,
                            std::span<const EncoderInput* const> clips, void* soft_tokens) {
  CARAT_CHECK(launch.stream == stream.handle(), "launches go to the stream of the copies");
  if (std::holds_alternative<ConformerConfig>(impl_->config)) {
    if (!clips.empty()) impl_->encode_conformer(launch, stream, clips, soft_tokens);
    return;
  }
  auto* at = static_cast<Bf16*>(soft_tokens);
  for (const EncoderInput* clip : clips) {
    impl_->encode_raw(launch, stream, *clip, at);
    at += int64_t{clip->num_tokens} * impl_->text_width;
  }
}

void CudaAudioModel::set_observer(Observer observer) { impl_->observer = std::move(observer); }

}  // namespace carat
