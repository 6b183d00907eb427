#pragma once
// How a model sees: the shapes of its vision encoder, and how many soft tokens a picture may become. Spec:
// checkpoints.md section 2, vision.md.

#include <array>
#include <cstdint>
#include <filesystem>
#include <variant>

#include "base/json.h"
#include "base/result.h"

namespace carat {

/// The tower of E2B and E4B (clipped linears), and of 26B-A4B and 31B (standardised output).
struct VisionTowerConfig {
  static constexpr int kPatchSize = 16;  ///< pixels
  static constexpr int kPooling = 3;     ///< 3 x 3 patches become a soft token
  int hidden_size = 768, intermediate_size = 3072;
  int num_layers = 16;
  int num_heads = 12;            ///< hidden_size / num_heads is a multiple of 4
  int position_rows = 10240;     ///< of the position table: patches per side of a picture at most
  bool clipped_linears = false;  ///< bounds before and after every linear of the layers
  bool standardize = false;      ///< bias and factor after pooling
  double rope_theta = 100;
  double rms_norm_eps = 1e-6;
  int head_dim() const { return hidden_size / num_heads; }
  bool operator==(const VisionTowerConfig&) const = default;
};

/// 12B: no tower, one projection makes a soft token of a square of pixels.
struct PatchEmbedderConfig {
  static constexpr int kPatchSize = 48;
  static constexpr double kLayerNormEps = 1e-5;
  int hidden_size = 3840;
  int position_rows = 1120;  ///< squares per side of a picture at most
  double rms_norm_eps = 1e-6;
  bool operator==(const PatchEmbedderConfig&) const = default;
};

/// The budgets that processors may have: soft tokens of one picture at most.
inline constexpr std::array<int, 5> kSoftTokenBudgets = {70, 140, 280, 560, 1120};

struct VisionConfig {
  static constexpr int kTokenSize = 48;  ///< pixels per side that become one soft token, in both forms
  std::variant<VisionTowerConfig, PatchEmbedderConfig> encoder;
  int image_soft_tokens = 280;  ///< one of kSoftTokenBudgets, at most max_soft_tokens()
  int frame_soft_tokens = 70;   ///< of one video frame, likewise
  int video_frames = 32;        ///< sampled from a video
  int patch_size() const;
  /// The largest budget whose pictures fit the position table, however long and thin they are. Validated: >= 70.
  int max_soft_tokens() const;
  bool operator==(const VisionConfig&) const = default;
};

/// Reads "vision_config" of a config.json; absent keys take the reference's class defaults. The first failure is kept
/// in `status`: kInvalidArgument, kUnsupported.
VisionConfig read_vision_config(const Json& object, bool unified, Result<void>& status);
/// Sets what `processor` says of budgets and frames, and checks that it prepares pictures as we do. `processor` is as
/// load_processor_config() gives it. Without a word of it budgets are the class defaults, or the largest that fit.
void read_budgets(const Json& processor, VisionConfig& config, Result<void>& status);
/// The way back to "vision_config", without budgets.
Json vision_config_json(const VisionConfig& config);

/// FOLDER's image_processor and video_processor settings as one object with these keys, as they stand in
/// processor_config.json or, where that says nothing, in preprocessor_config.json and video_preprocessor_config.json.
/// Absent ones are absent. Errors: kIo, kCorruptFile.
Result<Json> load_processor_config(const std::filesystem::path& folder);

}  // namespace carat
