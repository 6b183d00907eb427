#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "tensor/bf16.h"
#include "weights/checkpoint.h"
#include "weights/tensor_binder.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

// Where the decoder's names begin: in multimodal checkpoints, in text-only ones, in a bare decoder's.
constexpr std::array<std::string_view, 3> kTextPrefixes = {"model.language_model.", "model.", ""};
// What may stand beside the decoder and is not read here.
constexpr std::array<std::string_view, 8> kOtherParts = {"vision_tower.",    "vision_embedder.", "embed_vision.",
                                                         "audio_tower.",     "embed_audio.",     "pre_projection.",
                                                         "post_projection.", "masked_embedding."};

std::string_view find_prefix(const Checkpoint& checkpoint) {
  for (const std::string_view prefix : kTextPrefixes)
    if (checkpoint.contains(str_cat(prefix, "embed_tokens.weight"))) return prefix;
  return kTextPrefixes[0];
}

bool is_other_part(std::string_view name) {
  if (name.starts_with("model.")) name.remove_prefix(6);
  return std::any_of(kOtherParts.begin(), kOtherParts.end(), [&](auto part) { return name.starts_with(part); });
}

class Loader {
 public:
  Loader(std::shared_ptr<const Checkpoint> checkpoint, const ModelConfig& config)
      : binder_(std::move(checkpoint)), config_(config), prefix_(find_prefix(binder_.checkpoint())) {}

  Result<std::shared_ptr<const TextWeights>> load() {
    const auto tensors = text_tensors(config_.text);
    CARAT_TRY_VOID(check_missing(tensors));
    CARAT_TRY_VOID(check_extra(tensors));
    weights_->layers.resize(static_cast<size_t>(config_.text.num_layers));
    for (const TextTensor& t : tensors) CARAT_TRY_VOID(bind(t));
    for (const Checkpoint::File& file : binder_.checkpoint().files())
      weights_->files.push_back({file.path, &file.mapping});
    weights_->owner = binder_.owner();
    return std::shared_ptr<const TextWeights>(std::move(weights_));
  }

 private:
  std::string full_name(const TextTensor& t) const { return str_cat(prefix_, t.name); }

  Result<void> check_missing(const std::vector<TextTensor>& tensors) const {
    std::vector<std::string> needed;
    for (const TextTensor& t : tensors)
      if (t.used()) needed.push_back(full_name(t));
    return binder_.check_present(needed, "text");
  }

  Result<void> check_extra(const std::vector<TextTensor>& tensors) const {
    std::unordered_set<std::string> expected;
    for (const TextTensor& t : tensors) expected.insert(full_name(t));
    for (const Checkpoint::File& file : binder_.checkpoint().files())
      for (const SafetensorsEntry& entry : file.header.tensors)
        if (!expected.contains(entry.name) && !is_other_part(entry.name)) CARAT_TRY_VOID(check_unknown(file, entry));
    return {};
  }

  /// The one unknown tensor that is harmless is a second copy of the tied head, which some writers leave in.
  Result<void> check_unknown(const Checkpoint::File& file, const SafetensorsEntry& entry) const {
    const Shape head = {config_.text.vocab_size, config_.text.hidden_size};
    if (entry.name.ends_with("lm_head.weight") && same_shape(head, entry.shape)) {
      log_warning(file.path.string(), ": ", entry.name,
                  " is not used: the head is the embedding (tie_word_embeddings)");
      return {};
    }
    return Error{Errc::kCorruptFile, str_cat(file.path.string(), ": tensor ", Json(entry.name).dump(), " ",
                                             shape_to_string(entry.shape), " is not part of the model that config.json",
                                             " describes (", config_.text.num_layers, " layers)")};
  }

  Result<void> bind(const TextTensor& t) {
    CARAT_TRY(const std::byte* data, binder_.bind(full_name(t), t.shape));
    if (!data || !t.used()) return {};
    weights_->size_bytes += t.size_bytes();
    ConstTensorView* view = find_text_view(*weights_, t);
    if (!view) return read_scalar(t, data);
    *view = ConstTensorView(data, DType::kBf16, t.shape);
    // A row per token, far apart: reading ahead would only push other pages out.
    if (t.part == TextTensorPart::kPleTable) {
      const Checkpoint::Tensor& tensor = *binder_.checkpoint().find(full_name(t));
      tensor.file->mapping.advise(MappedFile::Access::kRandom, tensor.entry->begin, t.size_bytes());
    }
    return {};
  }

  Result<void> read_scalar(const TextTensor& t, const std::byte* data) {
    Bf16 value;
    std::memcpy(&value, data, sizeof value);
    weights_->layers[static_cast<size_t>(*t.layer)].layer_scalar = static_cast<float>(value);
    return {};
  }

  TensorBinder binder_;
  const ModelConfig& config_;
  const std::string_view prefix_;
  std::shared_ptr<TextWeights> weights_ = std::make_shared<TextWeights>();
};

}  // namespace

Result<std::shared_ptr<const TextWeights>> load_text_weights(const WeightSource& source, const ModelConfig& config) {
  CARAT_TRY(auto checkpoint, Checkpoint::open(source));
  return Loader(std::move(checkpoint), config).load();
}

}  // namespace carat
