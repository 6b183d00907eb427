#pragma once
// Sound to what the audio encoders read. Pure functions, any thread. Spec: audio.md sections 1, 2 and 8.

#include <cstdint>
#include <memory>
#include <span>

#include "base/encoder_input.h"
#include "base/result.h"

namespace carat {

/// What a model's audio encoder reads.
enum class AudioForm {
  kLogMel,     ///< E2B, E4B: [frames, 128] log-mel features, a frame every 10 ms
  kRawFrames,  ///< 12B: [frames, 640] samples, a frame every 40 ms
};

inline constexpr int kAudioSampleRate = 16000;
/// Log-mel form: what comes after this much sound is not heard, as in the reference. 30 s, 750 tokens.
inline constexpr int64_t kMaxLogMelSamples = 480'000;
inline constexpr int kMelBins = 128;
inline constexpr int kRawFrameSamples = 640;

/// Soft tokens of a clip with this many samples; 0 if it is too short to be heard.
int num_audio_tokens(AudioForm form, int64_t num_samples);

/// The encoder's input for a clip: 16 kHz mono samples, full scale at -1 and 1 (louder is not clipped).
/// Errors: kInvalidArgument for a clip without a token (below 161 samples in the log-mel form, empty in the other) or
/// with a sample that is not finite.
Result<std::shared_ptr<const EncoderInput>> make_audio_input(AudioForm form, std::span<const float> samples);

}  // namespace carat
