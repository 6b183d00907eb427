#pragma once
// How a model hears: the shapes of its audio encoder. Spec: checkpoints.md section 2, audio.md.

#include <cstdint>
#include <variant>

#include "base/json.h"
#include "base/result.h"

namespace carat {

/// The conformer tower of E2B and E4B: log-mel features in, a soft token for every four frames out.
struct ConformerConfig {
  static constexpr int kMelBins = 128;  ///< of a frame; halved twice on the way in, so a multiple of 4

  int hidden_size = 0;  ///< a multiple of 2 num_heads
  int num_layers = 0;
  int num_heads = 0;
  int conv_channels[2] = {0, 0};  ///< of the two strided convolutions
  int conv_kernel_size = 0;       ///< of the depthwise convolution over time
  int attention_window = 0;       ///< keys that a query hears, itself the last
  double attention_logit_cap = 0;
  double residual_weight = 0;  ///< of the feed-forward blocks' outputs
  bool clipped_linears = false;
  int output_size = 0;  ///< of the tower, before the projection to the decoder
  double rms_norm_eps = 1e-6;
  int head_dim() const { return hidden_size / num_heads; }
  bool operator==(const ConformerConfig&) const = default;
};

/// 12B: frames of raw samples, each of which one projection makes a soft token.
struct RawAudioConfig {
  static constexpr int kFrameSamples = 640;
  double rms_norm_eps = 1e-6;
  bool operator==(const RawAudioConfig&) const = default;
};

using AudioConfig = std::variant<ConformerConfig, RawAudioConfig>;

/// Reads "audio_config" of a config.json; absent keys take the reference's class defaults. The first failure is kept in
/// `status`: kInvalidArgument, kUnsupported.
AudioConfig read_audio_config(const Json& object, bool unified, Result<void>& status);
/// The way back.
Json audio_config_json(const AudioConfig& config);

}  // namespace carat
