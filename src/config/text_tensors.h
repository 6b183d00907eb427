#pragma once
// The tensors of a text decoder as a checkpoint names them, with their shapes. Spec: checkpoints.md section 4.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "tensor/tensor.h"

namespace carat {

/// What a tensor belongs to in the budget of checkpoints.md section 5.
enum class TextTensorPart {
  kEmbedding,      ///< and output head
  kPleTable,       ///< per-layer embeddings
  kPleProjection,  ///< their model projection and its norm
  kPleLayers,      ///< their gates and projections in the layers
  kAttention,
  kMlp,
  kRouter,
  kExperts,
  kNorms,     ///< and layer scalars
  kUnusedKv,  ///< K/V of KV-shared layers: in published files, never read
};

struct TextTensor {
  std::string name;          ///< without the prefix "model.language_model."
  std::optional<int> layer;  ///< of tensors "layers.i.": i
  std::string role;          ///< the name without "layers.i."
  Shape shape;
  TextTensorPart part;
  bool used() const { return part != TextTensorPart::kUnusedKv; }
  int64_t size_bytes() const { return 2 * shape.num_elements(); }  // bf16
};

/// Every tensor of the decoder, globals first, then layer by layer; the unused ones included.
std::vector<TextTensor> text_tensors(const TextConfig& config);

}  // namespace carat
