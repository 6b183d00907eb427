#include "media/audio_input.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/str.h"
#include "media/mel.h"

namespace carat {
namespace {

int64_t halved(int64_t n) { return (n + 1) / 2; }

/// The samples in rows, zeros behind the last.
std::vector<float> raw_frames(std::span<const float> samples, int64_t num_frames) {
  std::vector<float> frames(static_cast<size_t>(num_frames * kRawFrameSamples));
  std::ranges::copy(samples, frames.begin());
  return frames;
}

}  // namespace

int num_audio_tokens(AudioForm form, int64_t num_samples) {
  if (form == AudioForm::kRawFrames) return static_cast<int>((num_samples + kRawFrameSamples - 1) / kRawFrameSamples);
  return static_cast<int>(halved(halved(num_mel_frames(std::min(num_samples, kMaxLogMelSamples)))));
}

Result<std::shared_ptr<const EncoderInput>> make_audio_input(AudioForm form, std::span<const float> samples) {
  const int64_t num_samples = static_cast<int64_t>(samples.size());
  if (form == AudioForm::kLogMel)
    samples = samples.first(static_cast<size_t>(std::min(num_samples, kMaxLogMelSamples)));
  const int num_tokens = num_audio_tokens(form, num_samples);
  if (num_tokens == 0)
    return Error{Errc::kInvalidArgument,
                 str_cat("audio: the clip is too short: ", num_samples, " samples at ", kAudioSampleRate,
                         " Hz, needed are at least ", form == AudioForm::kLogMel ? 161 : 1)};
  const auto bad = std::ranges::find_if(samples, [](float x) { return !std::isfinite(x); });
  if (bad != samples.end())
    return Error{Errc::kInvalidArgument,
                 str_cat("audio: sample ", bad - samples.begin(), " of the clip is not a finite number")};

  auto input = std::make_shared<EncoderInput>();
  input->kind = EncoderInput::Kind::kAudio;
  input->num_tokens = num_tokens;
  input->features = form == AudioForm::kLogMel ? log_mel_features(samples) : raw_frames(samples, num_tokens);
  const int width = form == AudioForm::kLogMel ? kMelBins : kRawFrameSamples;
  input->num_frames = static_cast<int>(static_cast<int64_t>(input->features.size()) / width);
  input->hash = content_hash(*input);
  return std::shared_ptr<const EncoderInput>(std::move(input));
}

}  // namespace carat
