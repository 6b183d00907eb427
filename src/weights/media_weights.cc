#include "weights/media_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/str.h"
#include "tensor/bf16.h"
#include "weights/seeded_values.h"
#include "weights/tensor_binder.h"

namespace carat {
namespace {

constexpr std::string_view kPrefix = "model.";

void set_slot(const MediaSlots& slots, const MediaTensor& tensor, const void* data) {
  const auto slot = slots.find(tensor.name);
  CARAT_CHECK(slot != slots.end(), str_cat("no field for tensor ", tensor.name));
  if (auto* const* view = std::get_if<ConstTensorView*>(&slot->second)) {
    **view = ConstTensorView(data, DType::kBf16, tensor.shape);
    return;
  }
  Bf16 value;
  std::memcpy(&value, data, sizeof value);
  *std::get<float*>(slot->second) = static_cast<float>(value);
}

Law law_of(const MediaTensor& t) {
  const auto ends = [&](std::string_view suffix) { return t.name.ends_with(suffix); };
  if (ends("_min")) return uniform(-3, -2);
  if (ends("_max")) return uniform(2, 3);
  if (ends(".bias")) return normal(0.1);
  if (ends("per_dim_scale")) return normal(0.3);
  if (ends("position_embedding_table") || ends("pos_embedding")) return normal(0.4);
  if (ends("std_bias")) return normal(2);
  if (ends("std_scale")) return uniform(0.05, 0.15);
  // Scores are q.k without 1/sqrt(D): let them deviate by 1.4.
  if (ends("q_norm.weight") || ends("k_norm.weight"))
    return gain(std::sqrt(1.4 / std::sqrt(static_cast<double>(t.shape[0]))));
  if (t.shape.rank() == 1) return gain(1);
  const double fan_in = static_cast<double>(t.shape.num_elements() / t.shape[0]);
  // Soft tokens are as large as scaled embeddings of make_dummy_text_weights().
  const double size = t.projection ? 0.6 / std::sqrt(static_cast<double>(t.shape[0])) : 1.0;
  return normal(size / std::sqrt(fan_in));
}

}  // namespace

void add_slots(MediaSlots& slots, const std::string& name, ClippedLinear& linear) {
  slots.emplace(name + ".linear.weight", &linear.weight);
  slots.emplace(name + ".input_min", &linear.input_min);
  slots.emplace(name + ".input_max", &linear.input_max);
  slots.emplace(name + ".output_min", &linear.output_min);
  slots.emplace(name + ".output_max", &linear.output_max);
}

Result<std::shared_ptr<const void>> load_media_tensors(const WeightSource& source, std::span<const MediaTensor> tensors,
                                                       const MediaSlots& slots, std::string_view what) {
  CARAT_TRY(auto checkpoint, Checkpoint::open(source));
  TensorBinder binder(std::move(checkpoint));
  std::vector<std::string> names;
  for (const MediaTensor& t : tensors) names.push_back(str_cat(kPrefix, t.name));
  CARAT_TRY_VOID(binder.check_present(names, what));
  for (size_t i = 0; i < tensors.size(); ++i) {
    CARAT_TRY(const std::byte* data, binder.bind(names[i], tensors[i].shape));
    set_slot(slots, tensors[i], data);
  }
  return binder.owner();
}

Result<void> drop_absent_encoders(const WeightSource& source, ModelConfig& config) {
  if (!config.vision && !config.audio) return {};
  CARAT_TRY(const auto checkpoint, Checkpoint::open(source));
  const auto drop = [&](auto& encoder, const std::vector<MediaTensor>& tensors, std::string_view what) {
    const auto is_there = [&](const MediaTensor& t) { return checkpoint->contains(str_cat(kPrefix, t.name)); };
    if (std::ranges::any_of(tensors, is_there)) return;
    log_warning(source.path.string(), ": the weight files hold no ", what,
                " encoder, though config.json describes one: requests with ", what == "audio" ? "sound" : "pictures",
                " will be refused");
    encoder.reset();
  };
  if (config.vision) drop(config.vision, vision_tensors(*config.vision, config.text.hidden_size), "vision");
  if (config.audio) drop(config.audio, audio_tensors(*config.audio, config.text.hidden_size), "audio");
  return {};
}

Result<std::shared_ptr<const void>> make_dummy_media_tensors(std::span<const MediaTensor> tensors,
                                                             const MediaSlots& slots, uint64_t seed,
                                                             std::string_view what) {
  std::vector<SeededTensor> values;
  for (const MediaTensor& t : tensors) values.push_back({t.name, law_of(t), t.shape.num_elements()});
  CARAT_TRY(Buffer memory, draw(values, seed, str_cat("the ", what, " encoder")));
  for (size_t i = 0; i < tensors.size(); ++i) set_slot(slots, tensors[i], values[i].data);
  return std::shared_ptr<const void>(std::make_shared<const Buffer>(std::move(memory)));
}

}  // namespace carat
