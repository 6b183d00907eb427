#pragma once
// Bytes of a sound file -> samples.

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "media/limits.h"

namespace carat {

/// WAV (PCM of 8 to 32 bits, float, A-law, mu-law, ADPCM), FLAC, MP3, Ogg Vorbis at any rate and number of channels;
/// what FFmpeg reads (m4a, Opus, WebM), if it is installed. Gives [samples] mono at 16 kHz, full scale 1: the mean of
/// the channels, resampled with libsoxr's HQ recipe to ceil(samples * 16000 / rate), as Transformers' load_audio does.
/// Any thread; blocks. Errors: kInvalidArgument (broken or empty), kUnsupported (unknown format, or FFmpeg is needed
/// and absent), kTooLarge, kUnavailable once the deadline is over.
Result<std::vector<float>> decode_audio(std::span<const uint8_t> file, const MediaLimits& limits = {});

}  // namespace carat
