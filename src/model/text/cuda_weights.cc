#include "model/text/cuda_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "base/str.h"
#include "ops/cuda/cuda_ops.h"
#include "weights/read_pieces.h"

namespace carat {

namespace {

constexpr int64_t kAlign = 256;
constexpr int64_t kGroup = 8;  // rows of gate, then as many of up
// Page-locked memory while loading: enough that readers, copies and slots in between never wait for each other.
constexpr int64_t kSlotBytes = int64_t{8} << 20;
constexpr int kNumSlots = 16;
/// A core copies about 10 GB/s out of the page cache, the link takes 25 (fourth generation) to 55 (fifth).
constexpr unsigned kMaxReaders = 8;

/// One tensor on the device: where its pointer goes, its size, what it is made of, and how random values for it are
/// distributed.
struct Item {
  const void** target;
  int64_t count;  // elements
  std::vector<ConstTensorView>
      parts;  // concatenated; for `interleaved` gate and up, or one [E, 2F, K] with gate rows first
  bool interleaved = false;
  float mean = 0, deviation = 0;
  char* device = nullptr;     // where it lies, once allocated, as the device sees it
  std::byte* host = nullptr;  // the same as the host sees it, if it is in page-locked host memory
};

/// Every tensor of the decoder. `source` may be null (then `parts` stay empty).
std::vector<Item> list_items(const TextConfig& config, const TextWeights* source, CudaTextWeights& out) {
  std::vector<Item> items;
  const int64_t h = config.hidden_size;
  const auto add = [&](const void** target, int64_t count, std::vector<ConstTensorView> parts, float mean,
                       float deviation) {
    items.push_back({target, count, source ? std::move(parts) : std::vector<ConstTensorView>{}, false, mean, deviation,
                     nullptr, nullptr});
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

Result<CudaTextWeights> allocate(const TextConfig& config, const TextWeights* source, PleTable ple_table,
                                 std::vector<Item>& items) {
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
  const auto in_host_memory = [&](const Item& item) {
    return ple_table == PleTable::kHost && item.target == &weights.embed_tokens_per_layer;
  };
  for (const Item& item : items) (in_host_memory(item) ? weights.host_bytes : weights.size_bytes) += padded_bytes(item);
  CARAT_TRY(weights.memory, cuda::DeviceBuffer::allocate(weights.size_bytes));
  CARAT_TRY(weights.host_memory, cuda::PinnedBuffer::allocate(weights.host_bytes));
  auto* at = weights.memory.as<char>();
  for (Item& item : items) {
    if (in_host_memory(item)) {
      item.host = weights.host_memory.as<std::byte>();
      item.device = static_cast<char*>(weights.host_memory.device_data());
    } else {
      item.device = at;
      at += padded_bytes(item);
    }
    *item.target = item.device;
    item.target = nullptr;  // `weights` moves
  }
  return weights;
}

/// Where a piece of a file goes: rows of `width` bytes, `pitch` apart.
struct Destination {
  char* device;
  int64_t width, pitch;
};

/// The pieces that make up an item, each as large as a slot takes, and where they go.
class Cutter {
 public:
  explicit Cutter(const TextWeights& source) : source_(source) {}

  void cut(const Item& item) {
    for (const ConstTensorView& part : item.parts)
      CARAT_CHECK(part && part.contiguous(), "a tensor to upload is missing");
    if (item.host) return read_to_host(item);
    char* at = item.device;
    if (!item.interleaved) {
      for (const ConstTensorView& part : item.parts) {
        cut(part, 0, part.size_bytes(), {at, 1, 1});
        at += part.size_bytes();
      }
      return;
    }
    if (item.parts.size() == 2) {
      const int64_t group = kGroup * 2 * item.parts[0].dim(1);
      cut(item.parts[0], 0, item.parts[0].size_bytes(), {at, group, 2 * group});
      cut(item.parts[1], 0, item.parts[1].size_bytes(), {at + group, group, 2 * group});
      return;
    }
    const ConstTensorView& all = item.parts[0];  // [E, 2F, K]
    const int64_t half = all.dim(1) / 2 * 2 * all.dim(2), group = kGroup * 2 * all.dim(2);
    for (int64_t e = 0; e < all.dim(0); ++e, at += 2 * half) {
      cut(all, 2 * e * half, half, {at, group, 2 * group});
      cut(all, (2 * e + 1) * half, half, {at + group, group, 2 * group});
    }
  }

  /// In the order of the files, so that disks read forward.
  void sort() {
    std::vector<size_t> order(pieces_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::pair(pieces_[a].file, pieces_[a].offset) < std::pair(pieces_[b].file, pieces_[b].offset);
    });
    std::vector<Piece> pieces;
    std::vector<Destination> destinations;
    for (const size_t i : order) {
      pieces.push_back(pieces_[i]);
      destinations.push_back(destinations_[i]);
    }
    pieces_ = std::move(pieces);
    destinations_ = std::move(destinations);
  }

  const std::vector<Piece>& pieces() const { return pieces_; }
  const std::vector<Destination>& destinations() const { return destinations_; }

 private:
  void cut(const ConstTensorView& view, int64_t offset, int64_t size, Destination to) {
    const int64_t most = kSlotBytes / to.width * to.width;
    CARAT_CHECK(most > 0 && size % to.width == 0, "whole rows go through a slot");
    for (int64_t done = 0; done < size; done += most) {
      const int64_t n = std::min(most, size - done);
      pieces_.push_back(find_piece(source_, view, offset + done, n));
      destinations_.push_back({to.device + done / to.width * to.pitch, to.width, to.pitch});
    }
  }
  void read_to_host(const Item& item) {
    const ConstTensorView& table = item.parts[0];
    for (int64_t done = 0; done < table.size_bytes(); done += kSlotBytes) {
      pieces_.push_back(find_piece(source_, table, done, std::min(kSlotBytes, table.size_bytes() - done)));
      pieces_.back().target = item.host + done;
      destinations_.push_back({});
    }
  }

  const TextWeights& source_;
  std::vector<Piece> pieces_;
  std::vector<Destination> destinations_;
};

/// Page-locked slots, emptied by asynchronous copies that also lay rows out as the kernels want them.
class DeviceSink final : public PieceSink {
 public:
  static Result<std::unique_ptr<DeviceSink>> create(std::vector<Destination> destinations,
                                                    std::span<const Piece> pieces) {
    auto sink = std::unique_ptr<DeviceSink>(new DeviceSink(std::move(destinations), pieces));
    CARAT_TRY(sink->stream_, cuda::Stream::create());
    CARAT_TRY(sink->memory_, cuda::PinnedBuffer::allocate(kNumSlots * kSlotBytes));
    for (auto& event : sink->sent_) {
      CARAT_TRY(event, cuda::Event::create());
    }
    return sink;
  }
  int num_slots() const override { return kNumSlots; }
  std::byte* slot(int slot) override { return memory_.as<std::byte>() + slot * kSlotBytes; }
  void send(int slot, size_t index) override {
    const Destination& to = destinations_[index];
    const int64_t size = pieces_[index].size;
    if (to.width == to.pitch)
      stream_.copy_to_device(to.device, this->slot(slot), size);
    else
      stream_.copy_rows_to_device(to.device, to.pitch, this->slot(slot), to.width, size / to.width);
    sent_[static_cast<size_t>(slot)].record(stream_);
  }
  void wait(int slot) override { sent_[static_cast<size_t>(slot)].synchronize(); }

 private:
  DeviceSink(std::vector<Destination> destinations, std::span<const Piece> pieces)
      : destinations_(std::move(destinations)), pieces_(pieces) {}

  const std::vector<Destination> destinations_;
  const std::span<const Piece> pieces_;
  cuda::Stream stream_;
  cuda::PinnedBuffer memory_;
  std::array<cuda::Event, kNumSlots> sent_;
};

}  // namespace

int64_t CudaTextWeights::bytes_needed(const TextConfig& config, PleTable ple_table) {
  CudaTextWeights nowhere;
  nowhere.layers.assign(static_cast<size_t>(config.num_layers), CudaLayerWeights{});
  int64_t bytes = 0;
  for (const Item& item : list_items(config, nullptr, nowhere))
    if (ple_table == PleTable::kDevice || item.target != &nowhere.embed_tokens_per_layer) bytes += padded_bytes(item);
  return bytes;
}

Result<CudaTextWeights> CudaTextWeights::upload(const TextConfig& config, const TextWeights& source, PleTable ple_table,
                                                const std::function<void(int64_t)>& progress) {
  std::vector<Item> items;
  CARAT_TRY(auto weights, allocate(config, &source, ple_table, items));
  Cutter cutter(source);
  for (const Item& item : items) cutter.cut(item);
  cutter.sort();
  CARAT_TRY(const auto sink, DeviceSink::create(cutter.destinations(), cutter.pieces()));
  const int num_threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, kMaxReaders));
  CARAT_TRY_VOID(read_pieces(cutter.pieces(), num_threads, *sink, progress));
  if (const Error* failure = cuda::device_failure()) return *failure;
  for (size_t i = 0; i < weights.layers.size(); ++i) weights.layers[i].layer_scalar = source.layers[i].layer_scalar;
  return weights;
}

Result<CudaTextWeights> CudaTextWeights::random(const TextConfig& config, uint64_t seed, PleTable ple_table) {
  std::vector<Item> items;
  CARAT_TRY(auto weights, allocate(config, nullptr, ple_table, items));
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
