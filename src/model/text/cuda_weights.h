#pragma once
// A text decoder's weights on a GPU, in the layouts that its kernels read.

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "config/model_config.h"
#include "tensor/cuda/device.h"
#include "weights/text_weights.h"

namespace carat {

/// Device pointers, bf16. An absent tensor is null.
struct CudaLayerWeights {
  const void *input_layernorm, *post_attention_layernorm, *pre_feedforward_layernorm, *post_feedforward_layernorm;
  float layer_scalar = 1;
  const void* qkv;  ///< [(Hq + Hkv [+ Hkv]) * D, H]: q, k, v rows; v absent if K is V; q alone in KV-shared layers
  const void *o, *q_norm, *k_norm;
  const void* gate_up;  ///< [2F, H], rows of gate and up interleaved in groups of 8
  const void* down;
  const void *ple_gate, *ple_projection, *ple_norm;
  const void *router, *router_scale, *per_expert_scale;
  const void* experts_gate_up;  ///< [E, 2F, H], interleaved likewise
  const void* experts_down;
  const void *pre_feedforward_layernorm_2, *post_feedforward_layernorm_1, *post_feedforward_layernorm_2;
};

struct CudaTextWeights {
  const void* embed_tokens = nullptr;
  const void* embed_tokens_per_layer = nullptr;      ///< [Vp, L * P]
  const void* per_layer_model_projection = nullptr;  ///< [L * P, H]
  const void* per_layer_projection_norm = nullptr;
  const void* norm = nullptr;
  std::vector<CudaLayerWeights> layers;
  int64_t size_bytes = 0;  ///< on the device
  int64_t host_bytes = 0;  ///< in page-locked host memory, which kernels read across the link
  cuda::DeviceBuffer memory;
  cuda::PinnedBuffer host_memory;

  /// Bytes that the weights of `config` take on a device.
  static int64_t bytes_needed(const TextConfig& config, PleTable ple_table);
  /// Reads the files with several threads into page-locked memory (128 MiB) and copies from there meanwhile, at the
  /// speed of the link or of the files. `progress` (may be null) hears of the bytes done. Errors: kOverloaded if the
  /// memory is not there; kIo naming a file that cannot be read any more.
  static Result<CudaTextWeights> upload(const TextConfig& config, const TextWeights& weights, PleTable ple_table,
                                        const std::function<void(int64_t bytes_done)>& progress);
  /// Seeded random weights, filled on the device: the laws of make_dummy_text_weights, other values.
  static Result<CudaTextWeights> random(const TextConfig& config, uint64_t seed, PleTable ple_table);
};

}  // namespace carat
