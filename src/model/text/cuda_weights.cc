#include "model/text/cuda_weights.h"

#include <cmath>
#include <cstring>
#include <string_view>

#include "base/str.h"
#include "ops/cuda/cuda_ops.h"

namespace carat {

namespace {

constexpr int64_t kAlign = 256;
constexpr int64_t kGroup = 8;  // rows of gate, then as many of up
constexpr int64_t kStagingBytes = int64_t{32} << 20;

/// One tensor on the device: where its pointer goes, its size, what it is made of, and how random values for it are
/// distributed.
struct Item {
  const void** target;
  int64_t count;  // elements
  std::vector<ConstTensorView>
      parts;  // concatenated; for `interleaved` gate and up, or one [E, 2F, K] with gate rows first
  bool interleaved = false;
  float mean = 0, deviation = 0;
  char* device = nullptr;  // where it lies, once allocated
};

/// Every tensor of the decoder. `source` may be null (then `parts` stay empty).
std::vector<Item> list_items(const TextConfig& config, const TextWeights* source, CudaTextWeights& out) {
  std::vector<Item> items;
  const int64_t h = config.hidden_size;
  const auto add = [&](const void** target, int64_t count, std::vector<ConstTensorView> parts, float mean,
                       float deviation) {
    items.push_back(
        {target, count, source ? std::move(parts) : std::vector<ConstTensorView>{}, false, mean, deviation, nullptr});
  };
  const auto norm = [&](const void** target, int64_t count, const ConstTensorView& part) {
    add(target, count, {part}, 1.0f, 0.1f);
  };
  const auto matrix = [&](const void** target, int64_t rows, int64_t k, std::vector<ConstTensorView> parts) {
    add(target, rows * k, std::move(parts), 0.0f, 1.0f / std::sqrt(static_cast<float>(k)));
  };
  static const TextWeights none{};
  static const LayerWeights no_layer{};
  const TextWeights& w = source ? *source : none;
  add(&out.embed_tokens, config.vocab_size * h, {w.embed_tokens}, 0.0f, 4.4f / std::sqrt(static_cast<float>(h)));
  if (config.ple_size > 0) {
    const int64_t width = static_cast<int64_t>(config.num_layers) * config.ple_size;
    add(&out.embed_tokens_per_layer, config.ple_vocab_size * width, {w.embed_tokens_per_layer}, 0.0f, 1.0f / 16);
    matrix(&out.per_layer_model_projection, width, h, {w.per_layer_model_projection});
    norm(&out.per_layer_projection_norm, config.ple_size, w.per_layer_projection_norm);
  }
  norm(&out.norm, h, w.norm);
  for (int i = 0; i < config.num_layers; ++i) {
    const LayerConfig& c = config.layers[static_cast<size_t>(i)];
    const LayerWeights& l = source ? w.layers[static_cast<size_t>(i)] : no_layer;
    CudaLayerWeights& d = out.layers[static_cast<size_t>(i)];
    const int64_t q_rows = static_cast<int64_t>(c.num_heads) * c.head_dim,
                  kv_rows = static_cast<int64_t>(c.num_kv_heads) * c.head_dim;
    const bool owns_kv = c.kv_source == i;
    norm(&d.input_layernorm, h, l.input_layernorm);
    norm(&d.post_attention_layernorm, h, l.post_attention_layernorm);
    norm(&d.pre_feedforward_layernorm, h, l.pre_feedforward_layernorm);
    norm(&d.post_feedforward_layernorm, h, l.post_feedforward_layernorm);
    if (!owns_kv)
      matrix(&d.qkv, q_rows, h, {l.q_proj});
    else if (c.k_is_v)
      matrix(&d.qkv, q_rows + kv_rows, h, {l.q_proj, l.k_proj});
    else
      matrix(&d.qkv, q_rows + 2 * kv_rows, h, {l.q_proj, l.k_proj, l.v_proj});
    matrix(&d.o, h, q_rows, {l.o_proj});
    norm(&d.q_norm, c.head_dim, l.q_norm);
    if (owns_kv) norm(&d.k_norm, c.head_dim, l.k_norm);
    matrix(&d.gate_up, 2 * int64_t{c.intermediate_size}, h, {l.gate_proj, l.up_proj});
    items.back().interleaved = true;
    matrix(&d.down, h, c.intermediate_size, {l.down_proj});
    if (config.ple_size > 0) {
      matrix(&d.ple_gate, config.ple_size, h, {l.per_layer_input_gate});
      matrix(&d.ple_projection, h, config.ple_size, {l.per_layer_projection});
      norm(&d.ple_norm, h, l.post_per_layer_input_norm);
    }
    if (config.moe) {
      const int64_t e = config.moe->num_experts, f = config.moe->intermediate_size;
      matrix(&d.router, e, h, {l.router_proj});
      norm(&d.router_scale, h, l.router_scale);
      norm(&d.per_expert_scale, e, l.router_per_expert_scale);
      matrix(&d.experts_gate_up, e * 2 * f, h, {l.experts_gate_up_proj});
      items.back().interleaved = true;
      matrix(&d.experts_down, e * h, f, {l.experts_down_proj});
      items.back().deviation = 1.0f / std::sqrt(static_cast<float>(f));
      norm(&d.pre_feedforward_layernorm_2, h, l.pre_feedforward_layernorm_2);
      norm(&d.post_feedforward_layernorm_1, h, l.post_feedforward_layernorm_1);
      norm(&d.post_feedforward_layernorm_2, h, l.post_feedforward_layernorm_2);
    }
  }
  return items;
}

int64_t padded_bytes(const Item& item) { return (2 * item.count + kAlign - 1) / kAlign * kAlign; }

Result<CudaTextWeights> allocate(const TextConfig& config, const TextWeights* source, std::vector<Item>& items) {
  for (const LayerConfig& c : config.layers)
    if (c.intermediate_size % kGroup != 0 || config.hidden_size % 16 != 0 || c.intermediate_size % 16 != 0 ||
        (c.head_dim != 256 && c.head_dim != 512))
      return Error{
          Errc::kUnsupported,
          str_cat("the GPU kernels need head sizes of 256 or 512 and widths that are multiples of 16; hidden size ",
                  config.hidden_size, ", MLP width ", c.intermediate_size, ", head size ", c.head_dim)};
  CudaTextWeights weights;
  weights.layers.assign(static_cast<size_t>(config.num_layers), CudaLayerWeights{});
  items = list_items(config, source, weights);
  for (const Item& item : items) weights.size_bytes += padded_bytes(item);
  CARAT_TRY(weights.memory, cuda::DeviceBuffer::allocate(weights.size_bytes));
  auto* at = weights.memory.as<char>();
  for (Item& item : items) {
    *item.target = item.device = at;
    item.target = nullptr;  // `weights` moves
    at += padded_bytes(item);
  }
  return weights;
}

/// Streams host rows to the device through two page-locked halves.
class Uploader {
 public:
  static Result<Uploader> create() {
    Uploader u;
    CARAT_TRY(u.stream_, cuda::Stream::create());
    for (int i = 0; i < 2; ++i) {
      CARAT_TRY(u.staging_[i], cuda::PinnedBuffer::allocate(kStagingBytes));
      CARAT_TRY(u.free_[i], cuda::Event::create());
      u.free_[i].record(u.stream_);
    }
    return u;
  }
  /// `bytes` from host memory to `device`.
  void copy(void* device, const void* host, int64_t bytes) {
    for (int64_t done = 0; done < bytes;) {
      const int64_t n = std::min(kStagingBytes, bytes - done);
      std::memcpy(begin_half(), static_cast<const char*>(host) + done, static_cast<size_t>(n));
      send(static_cast<char*>(device) + done, n);
      done += n;
    }
  }
  /// Groups of kGroup rows of gate and up in turn; `rows` of each.
  void copy_interleaved(void* device, const void* gate, const void* up, int64_t rows, int64_t row_bytes) {
    const int64_t group_bytes = kGroup * row_bytes;
    const int64_t per_half = std::max<int64_t>(1, kStagingBytes / (2 * group_bytes));
    CARAT_CHECK(2 * group_bytes <= kStagingBytes, "a group of rows does not fit the staging buffer");
    for (int64_t g = 0; g < rows / kGroup;) {
      const int64_t n = std::min(per_half, rows / kGroup - g);
      auto* half = static_cast<char*>(begin_half());
      for (int64_t i = 0; i < n; ++i) {
        std::memcpy(half + 2 * i * group_bytes, static_cast<const char*>(gate) + (g + i) * group_bytes,
                    static_cast<size_t>(group_bytes));
        std::memcpy(half + (2 * i + 1) * group_bytes, static_cast<const char*>(up) + (g + i) * group_bytes,
                    static_cast<size_t>(group_bytes));
      }
      send(static_cast<char*>(device) + 2 * g * group_bytes, 2 * n * group_bytes);
      g += n;
    }
  }
  void finish() { stream_.synchronize(); }

 private:
  void* begin_half() {
    half_ = 1 - half_;
    free_[half_].synchronize();
    return staging_[half_].data();
  }
  void send(void* device, int64_t bytes) {
    stream_.copy_to_device(device, staging_[half_].data(), bytes);
    free_[half_].record(stream_);
  }
  cuda::Stream stream_;
  cuda::PinnedBuffer staging_[2];
  cuda::Event free_[2];
  int half_ = 0;
};

}  // namespace

int64_t CudaTextWeights::bytes_needed(const TextConfig& config) {
  CudaTextWeights nowhere;
  nowhere.layers.assign(static_cast<size_t>(config.num_layers), CudaLayerWeights{});
  int64_t bytes = 0;
  for (const Item& item : list_items(config, nullptr, nowhere)) bytes += padded_bytes(item);
  return bytes;
}

Result<CudaTextWeights> CudaTextWeights::upload(const TextConfig& config, const TextWeights& source,
                                                const std::function<void(int64_t)>& progress) {
  std::vector<Item> items;
  CARAT_TRY(auto weights, allocate(config, &source, items));
  CARAT_TRY(auto uploader, Uploader::create());
  int64_t done = 0;
  for (const Item& item : items) {
    char* at = item.device;
    for (const ConstTensorView& part : item.parts)
      CARAT_CHECK(part && part.contiguous(), "a tensor to upload is missing");
    if (!item.interleaved) {
      for (const ConstTensorView& part : item.parts) {
        uploader.copy(at, part.data, part.size_bytes());
        at += part.size_bytes();
      }
    } else if (item.parts.size() == 2) {
      uploader.copy_interleaved(at, item.parts[0].data, item.parts[1].data, item.parts[0].dim(0),
                                2 * item.parts[0].dim(1));
    } else {
      const ConstTensorView& all = item.parts[0];  // [E, 2F, K]
      const int64_t f = all.dim(1) / 2, row_bytes = 2 * all.dim(2);
      for (int64_t e = 0; e < all.dim(0); ++e) {
        const char* gate = static_cast<const char*>(all.data) + e * 2 * f * row_bytes;
        uploader.copy_interleaved(at + e * 2 * f * row_bytes, gate, gate + f * row_bytes, f, row_bytes);
      }
    }
    done += 2 * item.count;
    if (progress) progress(done);
  }
  uploader.finish();
  for (size_t i = 0; i < weights.layers.size(); ++i) weights.layers[i].layer_scalar = source.layers[i].layer_scalar;
  return weights;
}

Result<CudaTextWeights> CudaTextWeights::random(const TextConfig& config, uint64_t seed) {
  std::vector<Item> items;
  CARAT_TRY(auto weights, allocate(config, nullptr, items));
  CARAT_TRY(const auto stream, cuda::Stream::create());
  cuda::Launch launch;
  launch.stream = stream.handle();
  for (size_t i = 0; i < items.size(); ++i)
    cuda::fill_random(launch, items[i].device, items[i].count, items[i].mean, items[i].deviation, seed * 4099 + i);
  stream.synchronize();
  for (size_t i = 0; i < weights.layers.size(); ++i)
    weights.layers[i].layer_scalar = 0.9f + 0.01f * static_cast<float>((i * 7 + seed) % 16);
  for (auto& layer : weights.layers) {
    // Checkpoints hold the scalar in bf16.
    uint32_t bits;
    std::memcpy(&bits, &layer.layer_scalar, 4);
    bits &= 0xffff0000u;
    std::memcpy(&layer.layer_scalar, &bits, 4);
  }
  return weights;
}

}  // namespace carat
