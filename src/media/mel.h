#pragma once
// Log-mel features of 16 kHz sound, inside this folder. Spec: audio.md section 1.

#include <cstdint>
#include <span>
#include <vector>

namespace carat {

/// Frames of 20 ms that begin every 10 ms and lie, with one sample more, inside the sound that begins 10 ms before.
int64_t num_mel_frames(int64_t num_samples);
/// [num_mel_frames, 128]: ln(mel + 0.001). Transforms and sums are in double, the window's products in f32 as in the
/// reference, whose transforms are in f32: its features differ by the rounding of those, which shows where one band is
/// quieter by 100 dB and more than another one of its frame.
std::vector<float> log_mel_features(std::span<const float> samples);

}  // namespace carat
