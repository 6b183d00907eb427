// Writes a checkpoint with the seeded weights of a configuration, for the scripts that store goldens:
//   carat_golden_export CONFIG_FOLDER OUT_FOLDER SEED
// The decoder as a model without encoders; beside it the encoders' tensors, as vision.safetensors and
// audio.safetensors.

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <vector>

#include "tensor/bf16.h"
#include "weights/encoder_weights.h"
#include "weights/safetensors.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

Result<void> write_encoder(const std::filesystem::path& path, const std::vector<MediaTensor>& list,
                           const MediaSlots& slots) {
  std::deque<Bf16> bounds;  // views need addresses that stay
  std::vector<NamedTensor> tensors;
  for (const MediaTensor& t : list) {
    const MediaSlot& slot = slots.at(t.name);
    if (auto* const* number = std::get_if<float*>(&slot)) {
      bounds.emplace_back(**number);
      tensors.push_back({t.name, ConstTensorView(&bounds.back(), DType::kBf16, {})});
    } else {
      tensors.push_back({t.name, *std::get<ConstTensorView*>(slot)});
    }
  }
  return write_safetensors(path, tensors);
}

Result<void> write_all(const char* config_folder, const char* out_folder, uint64_t seed) {
  CARAT_TRY(const auto config, load_model_config(config_folder));
  CARAT_TRY(const auto weights, make_dummy_text_weights(config, seed));
  CARAT_TRY_VOID(write_checkpoint(out_folder, config, *weights));
  const std::filesystem::path folder = out_folder;
  CARAT_TRY(const auto encoders, make_dummy_encoder_weights(config, seed));
  if (encoders.vision) {
    VisionWeights vision = *encoders.vision;
    CARAT_TRY_VOID(write_encoder(folder / "vision.safetensors", vision_tensors(*config.vision, config.text.hidden_size),
                                 vision_slots(vision)));
  }
  if (encoders.audio) {
    AudioWeights audio = *encoders.audio;
    CARAT_TRY_VOID(write_encoder(folder / "audio.safetensors", audio_tensors(*config.audio, config.text.hidden_size),
                                 audio_slots(audio)));
  }
  return {};
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s CONFIG_FOLDER OUT_FOLDER SEED\n", argv[0]);
    return 2;
  }
  if (const auto result = carat::write_all(argv[1], argv[2], std::strtoull(argv[3], nullptr, 10)); !result) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    return 1;
  }
  return 0;
}
