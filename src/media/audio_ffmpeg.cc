#include <algorithm>
#include <cstring>

#include "media/audio_readers.h"
#include "media/ffmpeg.h"

namespace carat {
namespace {

using namespace ffmpeg;

// AVSampleFormat, without its planar half.
enum class SampleKind { kU8 = 0, kS16 = 1, kS32 = 2, kFloat = 3, kDouble = 4 };
constexpr int kFirstPlanar = 5, kNumSimple = 10;

class FfmpegAudioReader : public AudioReader {
 public:
  explicit FfmpegAudioReader(std::unique_ptr<FfmpegInput> input) : input_(std::move(input)) { note_form(); }

  Result<int64_t> read(std::span<float> out) override {
    const auto channels = static_cast<size_t>(channels_);
    while (frame_ == nullptr || done_ == frame_->nb_samples) {
      CARAT_TRY(const bool more, next_frame());
      if (!more) return int64_t{0};
    }
    const int count =
        static_cast<int>(std::min(out.size() / channels, static_cast<size_t>(frame_->nb_samples - done_)));
    for (int i = 0; i < count; ++i)
      for (size_t c = 0; c < channels; ++c) out[static_cast<size_t>(i) * channels + c] = sample(done_ + i, c);
    done_ += count;
    return int64_t{count};
  }

 private:
  void note_form() {
    rate_ = static_cast<int>(input_->library().option(input_->decoder(), "ar"));
    channels_ = input_->library().channels(input_->decoder());
  }

  Result<bool> next_frame() {
    done_ = 0;
    for (;;) {
      frame_ = input_->receive();
      if (frame_ != nullptr) {
        CARAT_TRY_VOID(check_form());
        return true;
      }
      if (ended_) return false;
      CARAT_TRY(const auto* const packet, input_->read_packet());
      ended_ = packet == nullptr;
      input_->send(packet);
    }
  }

  // The samples of the frame must lie where sample() looks.
  Result<void> check_form() {
    const auto& av = input_->library();
    const int rate = rate_, channels = channels_;
    note_form();
    if (rate != rate_ || channels != channels_)
      return Error{Errc::kUnsupported, "the sound changes its rate or number of channels"};
    if (frame_->format < 0 || frame_->format >= kNumSimple)
      return Error{Errc::kUnsupported, "the sound has samples of a kind that is not known"};
    planar_ = frame_->format >= kFirstPlanar;
    kind_ = static_cast<SampleKind>(frame_->format % kFirstPlanar);
    const int64_t row = int64_t{frame_->nb_samples} * av.av_get_bytes_per_sample(frame_->format);
    constexpr int kMaxPlanes = 8;
    bool fits = frame_->nb_samples >= 0 && channels_ <= kMaxPlanes;
    fits = fits && frame_->linesize[0] >= (planar_ ? row : row * channels_);
    for (int c = 0; fits && c < (planar_ ? channels_ : 1); ++c) fits = frame_->data[c] != nullptr;
    return fits ? Result<void>{} : broken_audio("its decoder gave fewer samples than it said");
  }

  float sample(int i, size_t c) const {
    const uint8_t* const plane = frame_->data[planar_ ? c : 0];
    const size_t at = planar_ ? static_cast<size_t>(i) : static_cast<size_t>(i) * static_cast<size_t>(channels_) + c;
    const auto load = [&]<class T>(T value) {
      std::memcpy(&value, plane + at * sizeof value, sizeof value);
      return static_cast<float>(value);
    };
    switch (kind_) {
      case SampleKind::kU8:
        return (load(uint8_t{}) - 128) / 128;
      case SampleKind::kS16:
        return load(int16_t{}) / 32768;
      case SampleKind::kS32:
        return load(int32_t{}) / 2147483648.f;
      case SampleKind::kFloat:
        return load(float{});
      case SampleKind::kDouble:
        return load(double{});
    }
    return 0;
  }

  std::unique_ptr<FfmpegInput> input_;
  const Frame* frame_ = nullptr;
  int done_ = 0;  // samples of frame_ that were given out
  bool planar_ = false, ended_ = false;
  SampleKind kind_ = SampleKind::kFloat;
};

}  // namespace

AudioReaderResult open_ffmpeg_audio(Bytes file, const MediaLimits& limits) {
  CARAT_TRY(auto input, FfmpegInput::open(file, kMediaAudio, "sound", limits));
  return std::unique_ptr<AudioReader>(std::make_unique<FfmpegAudioReader>(std::move(input)));
}

}  // namespace carat
