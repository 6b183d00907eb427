#pragma once
// What the weights of the encoders have in common.

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>

#include "base/result.h"
#include "config/media_tensors.h"
#include "config/model_config.h"
#include "tensor/tensor.h"
#include "weights/weight_source.h"

namespace carat {

/// y = clamp( round( clamp(x, input) weight^T ), output ). A linear of a model without clipped ones has no bounds.
struct ClippedLinear {
  ConstTensorView weight;  // [N, K]
  float input_min = -std::numeric_limits<float>::infinity();
  float input_max = std::numeric_limits<float>::infinity();
  float output_min = -std::numeric_limits<float>::infinity();
  float output_max = std::numeric_limits<float>::infinity();
};

/// The fields of an encoder's weights by MediaTensor::name: a view, or a number where a tensor has no dimensions.
using MediaSlot = std::variant<ConstTensorView*, float*>;
using MediaSlots = std::unordered_map<std::string, MediaSlot>;
/// The slots of a clipped linear whose tensors' names begin with `name`.
void add_slots(MediaSlots& slots, const std::string& name, ClippedLinear& linear);

/// Takes the encoders out of `config` of which the weight files hold not one tensor, and logs it: such a
/// model serves text. What is there in part is an error of loading. Errors: as of Checkpoint::open().
Result<void> drop_absent_encoders(const WeightSource& source, ModelConfig& config);

/// Maps the safetensors and sets the slot that each tensor must have. The result keeps the data alive.
/// Errors: as load_text_weights(); the messages call them `what` tensors.
Result<std::shared_ptr<const void>> load_media_tensors(const WeightSource& source, std::span<const MediaTensor> tensors,
                                                       const MediaSlots& slots, std::string_view what);
/// The same with seeded random values: projections keep the scale of what they read, the one to the decoder gives soft
/// tokens the scale of its embeddings, bounds lie at two to three deviations, so that they act. Errors: kOverloaded.
Result<std::shared_ptr<const void>> make_dummy_media_tensors(std::span<const MediaTensor> tensors,
                                                             const MediaSlots& slots, uint64_t seed,
                                                             std::string_view what);

}  // namespace carat
