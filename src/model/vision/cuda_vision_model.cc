#include "model/vision/cuda_vision_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/arena.h"
#include "model/cuda_linear.h"
#include "model/device_tensors.h"
#include "model/rope.h"
#include "model/vision/pictures.h"
#include "ops/cuda/vision_ops.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

constexpr int kPooling = VisionTowerConfig::kPooling;

Result<void> check_shapes(const VisionTowerConfig& c) {
  if (c.hidden_size % 16 == 0 && c.hidden_size <= 1280 && c.intermediate_size % 16 == 0 &&
      (c.head_dim() == 64 || c.head_dim() == 72))
    return {};
  return Error{Errc::kUnsupported,
               str_cat("the GPU kernels of the vision tower need a hidden size up to 1280 and an inner size that are "
                       "multiples of 16 and heads of 64 or 72; hidden size ",
                       c.hidden_size, ", inner size ", c.intermediate_size, ", head size ", c.head_dim())};
}
Result<void> check_shapes(const PatchEmbedderConfig& c) {
  if (c.hidden_size % 16 == 0 && c.hidden_size <= 8192) return {};
  return Error{Errc::kUnsupported,
               str_cat("the GPU kernels of the patch embedder need a hidden size up to 8192 that is a multiple of 16, "
                       "not ",
                       c.hidden_size)};
}

}  // namespace

struct CudaVisionModel::Impl {
  Impl(const ModelConfig& model_config, int tokens)
      : config(*model_config.vision),
        text_width(model_config.text.hidden_size),
        max_tokens(tokens),
        tower(std::get_if<VisionTowerConfig>(&config.encoder)),
        embedder(std::get_if<PatchEmbedderConfig>(&config.encoder)),
        max_patches(tower ? tokens * kPooling * kPooling : tokens),
        patch_bytes(config.patch_size() * config.patch_size() * 3),
        width(tower ? tower->hidden_size : embedder->hidden_size),
        eps(static_cast<float>(tower ? tower->rms_norm_eps : embedder->rms_norm_eps)) {}

  const VisionConfig config;
  const int text_width, max_tokens;
  const VisionTowerConfig* const tower;  ///< one of the two
  const PatchEmbedderConfig* const embedder;
  const int max_patches, patch_bytes, width;
  const float eps;
  VisionWeights weights;  ///< views of device memory
  cuda::DeviceBuffer weight_memory, memory;
  cuda::PinnedBuffer staging;
  cuda::Event staged;  ///< the copies out of `staging` are done
  Observer observer;

  /// What a call sends, on the host (page-locked) and on the device.
  struct Inputs {
    uint8_t* pixels = nullptr;                 // [P, patch_bytes]
    cuda::PatchPosition* positions = nullptr;  // [P]
    cuda::VisionTile* tiles = nullptr;         // [P / 128 + pictures]
    cuda::PoolGroup* groups = nullptr;         // [T]
  };
  Inputs host, device;
  Bf16* tables = nullptr;      // [2, 256]: images', frames'
  float* rotations = nullptr;  // [longest side, D / 4, 2]
  // T = max_tokens, P = max_patches, both padded.
  Bf16 *h = nullptr, *y = nullptr, *out = nullptr;  // [P, C], [P, C], [T, H]
  Bf16* x[3] = {};                                  // [P, C]
  Bf16* qkv[3] = {};                                // [P, C]
  Bf16 *gate = nullptr, *up = nullptr;              // [P, F]
  Bf16* pixels = nullptr;                           // [P, patch_bytes]
  float* sums = nullptr;                            // [T, C], without a tower

  /// Pictures of a call.
  struct Batch {
    int num_patches = 0, num_tokens = 0, num_tiles = 0;
  };

  int longest_side() const { return std::min(tower->position_rows, kPooling * max_tokens); }
  int max_tiles() const { return max_patches / cuda::kVisionTileRows + max_tokens; }

  void cut_inputs(Arena& arena, Inputs& in) const {
    in.pixels = arena.take<uint8_t>(int64_t{max_patches} * patch_bytes);
    in.positions = arena.take<cuda::PatchPosition>(max_patches);
    if (!tower) return;
    in.tiles = arena.take<cuda::VisionTile>(max_tiles());
    in.groups = arena.take<cuda::PoolGroup>(max_tokens);
  }
  int64_t cut_staging(std::byte* base) {
    Arena arena(base);
    cut_inputs(arena, host);
    return arena.peak();
  }
  int64_t cut(std::byte* base) {
    Arena arena(base);
    cut_inputs(arena, device);
    tables = arena.take<Bf16>(2 * 256);
    const int64_t p = padded_rows(max_patches), t = padded_rows(max_tokens);
    out = arena.take<Bf16>(t * text_width);
    x[0] = arena.take<Bf16>(p * width);
    if (!tower) {
      pixels = arena.take<Bf16>(p * patch_bytes);
      sums = arena.take<float>(p * width);
      return arena.peak();
    }
    rotations = arena.take<float>(int64_t{longest_side()} * tower->head_dim() / 2);
    h = arena.take<Bf16>(p * width);
    y = arena.take<Bf16>(p * width);
    x[1] = x[2] = x[0];
    if (tower->clipped_linears)
      for (const int i : {1, 2}) x[i] = arena.take<Bf16>(p * width);
    const int64_t mark = arena.mark();
    pixels = arena.take<Bf16>(p * patch_bytes);
    arena.rewind(mark);
    for (Bf16*& part : qkv) part = arena.take<Bf16>(p * width);
    arena.rewind(mark);
    gate = arena.take<Bf16>(p * tower->intermediate_size);
    up = arena.take<Bf16>(p * tower->intermediate_size);
    return arena.peak();
  }

  void observe(std::string_view name, int layer, const void* data, int rows, int columns) const {
    if (observer) observer(name, layer, data, rows, columns);
  }

  Result<void> prepare(const VisionWeights& source, const cuda::Stream& stream);
  Batch send(const cuda::Stream& stream, std::span<const EncoderInput* const> inputs);
  /// f(first patch, number, table) for pictures that are scaled to floats alike.
  template <class F>
  void each_kind(std::span<const EncoderInput* const> inputs, F f) const;
  static void product(const cuda::Launch& launch, void* result, const void* input, const ConstTensorView& w, int rows,
                      cuda::Epilogue epilogue = cuda::Epilogue::kBf16) {
    const int n = static_cast<int>(w.dim(0)), k = static_cast<int>(w.dim(1));
    cuda::linear(launch, result, n, input, k, w.data, padded_rows(rows), n, k, epilogue);
  }
  void run_tower(const cuda::Launch& launch, std::span<const EncoderInput* const> inputs, const Batch& batch);
  void run_layer(const cuda::Launch& launch, int j, const Batch& batch);
  void run_embedder(const cuda::Launch& launch, std::span<const EncoderInput* const> inputs, const Batch& batch);
};

/// The weights and the tables on the device.
Result<void> CudaVisionModel::Impl::prepare(const VisionWeights& source, const cuda::Stream& stream) {
  weights = source;
  weights.owner = nullptr;
  DeviceTensors tensors;
  tensors.add(vision_slots(weights));
  CARAT_TRY(weight_memory, tensors.copy(stream));
  CARAT_TRY(memory, cuda::DeviceBuffer::allocate(cut(nullptr)));
  CARAT_TRY(staging, cuda::PinnedBuffer::allocate(cut_staging(nullptr)));
  CARAT_TRY(staged, cuda::Event::create());
  cut(memory.as<std::byte>());
  cut_staging(staging.as<std::byte>());

  const PixelTables pixel_tables(tower != nullptr);
  const ConstTensorView both[2] = {pixel_tables.table(EncoderInput::Kind::kImage),
                                   pixel_tables.table(EncoderInput::Kind::kVideoFrame)};
  for (int i = 0; i < 2; ++i) stream.copy_to_device(tables + 256 * i, both[i].data, both[i].size_bytes());
  std::vector<float> angles;
  if (tower) {
    const auto frequencies = inverse_frequencies({.theta = tower->rope_theta, .partial_rotary_factor = 1, .factor = 1},
                                                 tower->head_dim() / 2);
    for (int at = 0; at < longest_side(); ++at)
      for (const float f : frequencies) {
        angles.push_back(round_to_bf16(std::cos(static_cast<float>(at) * f)));
        angles.push_back(round_to_bf16(std::sin(static_cast<float>(at) * f)));
      }
    stream.copy_to_device(rotations, angles.data(), static_cast<int64_t>(angles.size() * sizeof(float)));
  }
  stream.synchronize();
  if (const Error* failure = cuda::device_failure()) return *failure;
  return {};
}

/// Lays the pictures side by side and sends them.
CudaVisionModel::Impl::Batch CudaVisionModel::Impl::send(const cuda::Stream& stream,
                                                         std::span<const EncoderInput* const> inputs) {
  staged.synchronize();
  const int max_side = tower ? longest_side() : embedder->position_rows;
  Batch batch;
  for (const EncoderInput* input : inputs) {
    const int first = batch.num_patches, count = input->grid_width * input->grid_height;
    CARAT_CHECK(input->kind != EncoderInput::Kind::kAudio && input->grid_width > 0 && input->grid_height > 0 &&
                    input->grid_width <= max_side && input->grid_height <= max_side && first + count <= max_patches,
                "pictures that the encoder has room for");
    CARAT_CHECK_EQ(std::ssize(input->pixels), int64_t{count} * patch_bytes);
    std::ranges::copy(input->pixels, host.pixels + int64_t{first} * patch_bytes);
    for (int i = 0; i < count; ++i)
      host.positions[first + i] = {static_cast<int16_t>(i % input->grid_width),
                                   static_cast<int16_t>(i / input->grid_width)};
    batch.num_patches += count;
    if (tower) {
      for (int at = first; at < first + count; at += cuda::kVisionTileRows)
        host.tiles[batch.num_tiles++] = {at, first, first + count, 0};
      for (int row = 0; row < input->grid_height; row += kPooling)
        for (int column = 0; column < input->grid_width; column += kPooling)
          host.groups[batch.num_tokens++] = {first + row * input->grid_width + column, input->grid_width};
    } else {
      batch.num_tokens += count;
    }
  }
  const auto copy = [&](auto* to, const auto* from, int64_t count) {
    if (to) stream.copy_to_device(to, from, count * static_cast<int64_t>(sizeof(*from)));
  };
  copy(device.pixels, host.pixels, int64_t{batch.num_patches} * patch_bytes);
  copy(device.positions, host.positions, batch.num_patches);
  copy(device.tiles, host.tiles, batch.num_tiles);
  copy(device.groups, host.groups, batch.num_tokens);
  staged.record(stream);
  return batch;
}

template <class F>
void CudaVisionModel::Impl::each_kind(std::span<const EncoderInput* const> inputs, F f) const {
  int first = 0;
  for (size_t i = 0; i < inputs.size();) {
    const EncoderInput::Kind kind = inputs[i]->kind;
    int count = 0;
    for (; i < inputs.size() && inputs[i]->kind == kind; ++i) count += inputs[i]->grid_width * inputs[i]->grid_height;
    f(first, count, tables + (kind == EncoderInput::Kind::kVideoFrame ? 256 : 0));
    first += count;
  }
}

void CudaVisionModel::Impl::run_tower(const cuda::Launch& launch, std::span<const EncoderInput* const> inputs,
                                      const Batch& batch) {
  const VisionTowerWeights& w = weights.tower;
  each_kind(inputs, [&](int first, int count, const Bf16* table) {
    const int64_t at = int64_t{first} * patch_bytes;
    cuda::lookup_bytes(launch, pixels + at, device.pixels + at, table, int64_t{count} * patch_bytes);
  });
  product(launch, h, pixels, w.input_proj, batch.num_patches);
  cuda::add_positions(launch, h, w.position_table.data, tower->position_rows, device.positions, batch.num_patches,
                      width);
  observe("embedded", -1, h, batch.num_patches, width);
  const VisionLayerWeights& first = w.layers[0];
  cuda::VisionNormParams norm{};
  norm.h = h;
  norm.w_next = first.input_layernorm.data;
  const ClippedLinear* const readers[] = {&first.q_proj, &first.k_proj, &first.v_proj};
  norm.num_x = tower->clipped_linears ? 3 : 1;
  for (int i = 0; i < norm.num_x; ++i) {
    norm.x[i] = x[i];
    norm.x_bounds[i] = input_bounds(*readers[i]);
  }
  norm.num_patches = batch.num_patches;
  norm.c = width;
  norm.eps = eps;
  cuda::vision_norm(launch, norm);
  for (int j = 0; j < tower->num_layers; ++j) {
    run_layer(launch, j, batch);
    observe("out", j, h, batch.num_patches, width);
  }
  cuda::vision_pool(launch, x[0], h, device.groups, batch.num_tokens, kPooling,
                    static_cast<float>(std::sqrt(static_cast<double>(width))), w.std_bias.data, w.std_scale.data, width,
                    eps);
}

/// From x, the normed inputs of q, k and v, to the next layer's, and h.
void CudaVisionModel::Impl::run_layer(const cuda::Launch& launch, int j, const Batch& batch) {
  const VisionLayerWeights& w = weights.tower.layers[static_cast<size_t>(j)];
  const int rows = batch.num_patches, inner = tower->intermediate_size;
  /// h += y, and the inputs of the linears that come next.
  const auto change = [&](const ClippedLinear& from, const ConstTensorView& w_post, const ConstTensorView& w_next,
                          std::initializer_list<const ClippedLinear*> readers) {
    cuda::VisionNormParams p{};
    p.h = h;
    p.y = y;
    p.y_bounds = output_bounds(from);
    p.w_post = w_post.data;
    p.w_next = w_next.data;
    for (const ClippedLinear* reader : readers) {
      if (p.num_x == 1 && !tower->clipped_linears) break;  // all read the same
      p.x[p.num_x] = x[p.num_x];
      p.x_bounds[p.num_x++] = input_bounds(*reader);
    }
    p.num_patches = rows;
    p.c = width;
    p.eps = eps;
    cuda::vision_norm(launch, p);
  };

  const ClippedLinear* const linears[3] = {&w.q_proj, &w.k_proj, &w.v_proj};
  for (int i = 0; i < 3; ++i) product(launch, qkv[i], x[i], linears[i]->weight, rows);
  cuda::VisionQkvParams heads{};
  heads.q = qkv[0];
  heads.k = qkv[1];
  heads.v = qkv[2];
  heads.q_bounds = output_bounds(w.q_proj);
  heads.k_bounds = output_bounds(w.k_proj);
  heads.v_bounds = output_bounds(w.v_proj);
  heads.q_norm = w.q_norm.data;
  heads.k_norm = w.k_norm.data;
  heads.positions = device.positions;
  heads.rotations = rotations;
  heads.num_patches = rows;
  heads.num_heads = tower->num_heads;
  heads.head_dim = tower->head_dim();
  heads.eps = eps;
  cuda::vision_qkv(launch, heads);
  cuda::VisionAttentionParams a{};
  a.q = qkv[0];
  a.k = qkv[1];
  a.v = qkv[2];
  a.o = x[0];
  a.o_bounds = input_bounds(w.o_proj);
  a.tiles = device.tiles;
  a.num_tiles = batch.num_tiles;
  a.num_heads = tower->num_heads;
  a.head_dim = tower->head_dim();
  cuda::vision_attention(launch, a);
  product(launch, y, x[0], w.o_proj.weight, rows);
  change(w.o_proj, w.post_attention_layernorm, w.pre_feedforward_layernorm, {&w.gate_proj, &w.up_proj});

  product(launch, gate, x[0], w.gate_proj.weight, rows);
  product(launch, up, x[1], w.up_proj.weight, rows);
  cuda::vision_geglu(launch, gate, up, output_bounds(w.gate_proj), output_bounds(w.up_proj), input_bounds(w.down_proj),
                     int64_t{rows} * inner);
  product(launch, y, gate, w.down_proj.weight, rows);
  if (j + 1 == tower->num_layers) return change(w.down_proj, w.post_feedforward_layernorm, {}, {});
  const VisionLayerWeights& next = weights.tower.layers[static_cast<size_t>(j) + 1];
  change(w.down_proj, w.post_feedforward_layernorm, next.input_layernorm, {&next.q_proj, &next.k_proj, &next.v_proj});
}

void CudaVisionModel::Impl::run_embedder(const cuda::Launch& launch, std::span<const EncoderInput* const> inputs,
                                         const Batch& batch) {
  const PatchEmbedderWeights& w = weights.embedder;
  constexpr float kLayerEps = static_cast<float>(PatchEmbedderConfig::kLayerNormEps);
  each_kind(inputs, [&](int first, int count, const Bf16* table) {
    const int64_t at = int64_t{first} * patch_bytes;
    cuda::tile_norm(launch, pixels + at, device.pixels + at, table, w.patch_ln1.data, w.patch_ln1_bias.data, count,
                    patch_bytes, kLayerEps);
  });
  product(launch, sums, pixels, w.patch_dense, batch.num_patches, cuda::Epilogue::kF32);
  cuda::TileEmbedParams p{};
  p.y = x[0];
  p.x = sums;
  p.bias = w.patch_dense_bias.data;
  p.w2 = w.patch_ln2.data;
  p.b2 = w.patch_ln2_bias.data;
  p.positions_table = w.pos_embedding.data;
  p.w3 = w.pos_norm.data;
  p.b3 = w.pos_norm_bias.data;
  p.positions = device.positions;
  p.num_tiles = batch.num_patches;
  p.c = width;
  p.layer_eps = kLayerEps;
  p.rms_eps = eps;
  cuda::tile_embed(launch, p);
}

CudaVisionModel::CudaVisionModel() = default;
CudaVisionModel::~CudaVisionModel() = default;

Result<std::unique_ptr<CudaVisionModel>> CudaVisionModel::create(const ModelConfig& config,
                                                                 const VisionWeights& weights, int max_tokens,
                                                                 const cuda::Stream& stream) {
  CARAT_CHECK(config.vision && max_tokens > 0, "a model that can see");
  CARAT_TRY_VOID(std::visit([](const auto& c) { return check_shapes(c); }, config.vision->encoder));
  std::unique_ptr<CudaVisionModel> model(new CudaVisionModel());
  model->impl_ = std::make_unique<Impl>(config, max_tokens);
  CARAT_TRY_VOID(model->impl_->prepare(weights, stream));
  return model;
}

int64_t CudaVisionModel::bytes_needed(const ModelConfig& config, int max_tokens) {
  CARAT_CHECK(config.vision, "a model that can see");
  int64_t bytes = Impl(config, max_tokens).cut(nullptr);
  for (const MediaTensor& tensor : vision_tensors(*config.vision, config.text.hidden_size))
    if (tensor.shape.rank() > 0) bytes += DeviceTensors::bytes_needed(tensor.size_bytes());
  return bytes;
}

void CudaVisionModel::encode(const cuda::Launch& launch, const cuda::Stream& stream,
                             std::span<const EncoderInput* const> inputs, void* soft_tokens) {
  CARAT_CHECK(launch.stream == stream.handle(), "launches go to the stream of the copies");
  if (inputs.empty()) return;
  Impl& m = *impl_;
  const Impl::Batch batch = m.send(stream, inputs);
  m.tower ? m.run_tower(launch, inputs, batch) : m.run_embedder(launch, inputs, batch);
  Impl::product(launch, m.out, m.x[0], m.weights.embedding_projection, batch.num_tokens);
  stream.copy_on_device(soft_tokens, m.out,
                        int64_t{batch.num_tokens} * m.text_width * static_cast<int64_t>(sizeof(Bf16)));
}

void CudaVisionModel::set_observer(Observer observer) { impl_->observer = std::move(observer); }

}  // namespace carat
