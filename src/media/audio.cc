#include "media/audio.h"

#include <soxr.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/str.h"
#include "media/audio_input.h"
#include "media/audio_readers.h"
#include "media/bytes.h"

namespace carat {
namespace {

constexpr int kMinRate = 1'000, kMaxRate = 768'000;
constexpr size_t kChunkFrames = 4096;

// Past an ID3v2 tag, which MP3 files, and wrongly others, begin with.
std::span<const uint8_t> after_id3(std::span<const uint8_t> file) {
  while (has_at(file, 0, "ID3") && file.size() >= 10) {
    size_t size = 10;
    for (size_t i = 6, shift = 21; i < 10; ++i, shift -= 7) size += size_t{file[i] & 0x7fu} << shift;
    file = file.subspan(std::min(size, file.size()));
  }
  return file;
}

// ISO media (m4a, mp4), Matroska and WebM, Ogg with another codec than Vorbis, AAC by itself.
bool is_for_ffmpeg(Bytes file, Bytes body) {
  return has_at(file, 4, "ftyp") || has_at(file, 0, "\x1a\x45\xdf\xa3") || has_at(file, 0, "OggS") ||
         (body.size() >= 2 && body[0] == 0xff && (body[1] & 0xf6) == 0xf0);
}

AudioReaderResult open_reader(Bytes file, const MediaLimits& limits) {
  if (file.empty()) return broken_audio("it is empty (0 bytes)");
  const auto body = after_id3(file);
  for (const std::string_view magic : {"RIFF", "RIFX", "RF64", "riff", "FORM"})
    if (has_at(file, 0, magic)) return open_wav(file);
  if (has_at(body, 0, "fLaC")) return open_flac(body);
  if (has_at(file, 0, "OggS") && has_at(file, 28, "\x01vorbis")) return open_vorbis(file);
  // The first 11 bits of an MPEG frame are set; the layer is not 0, which would be AAC.
  if (body.size() >= 2 && body[0] == 0xff && (body[1] & 0xe0) == 0xe0 && (body[1] & 6) != 0) return open_mp3(body);
  if (is_for_ffmpeg(file, body)) return open_ffmpeg_audio(file, limits);
  return Error{
      Errc::kUnsupported,
      "the sound is in no known format; allowed are WAV, AIFF, FLAC, MP3, Ogg Vorbis, and with FFmpeg M4A, Opus, "
      "WebM and AAC"};
}

/// 16 kHz from any rate, piece by piece.
class Resampler {
 public:
  static Result<Resampler> create(int rate) {
    Resampler out;
    if (rate == kAudioSampleRate) return out;
    soxr_error_t error = nullptr;
    const auto io = soxr_io_spec(SOXR_FLOAT32_I, SOXR_FLOAT32_I);
    const auto quality = soxr_quality_spec(SOXR_HQ, 0);
    out.soxr_.reset(soxr_create(rate, kAudioSampleRate, 1, &error, &io, &quality, nullptr));
    if (error != nullptr) return Error{Errc::kInternal, str_cat("the resampler could not be made: ", error)};
    return out;
  }

  /// Appends to `out` what can be said by now; an empty piece ends the sound.
  void feed(std::span<const float> piece, std::vector<float>& out) {
    if (!soxr_) {
      out.insert(out.end(), piece.begin(), piece.end());
      return;
    }
    std::array<float, kChunkFrames> buffer;
    for (bool ended = piece.empty();;) {
      size_t used = 0, made = 0;
      soxr_process(soxr_.get(), ended ? nullptr : piece.data(), piece.size(), &used, buffer.data(), buffer.size(),
                   &made);
      out.insert(out.end(), buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(made));
      piece = piece.subspan(used);
      if (made < buffer.size() && piece.empty()) return;
    }
  }

 private:
  struct Delete {
    void operator()(soxr_t soxr) const { soxr_delete(soxr); }
  };
  std::unique_ptr<soxr, Delete> soxr_;
};

void mix(std::span<const float> interleaved, size_t channels, std::vector<float>& mono) {
  mono.resize(interleaved.size() / channels);
  for (size_t i = 0; i < mono.size(); ++i) {
    float sum = interleaved[i * channels];
    for (size_t c = 1; c < channels; ++c) sum += interleaved[i * channels + c];
    mono[i] = sum / static_cast<float>(channels);
  }
}

Result<void> check(const AudioReader& reader, const MediaLimits& limits) {
  if (reader.rate() < kMinRate || reader.rate() > kMaxRate)
    return Error{Errc::kUnsupported, str_cat("the sound has ", reader.rate(), " samples a second; ", kMinRate, " to ",
                                             kMaxRate, " are allowed")};
  if (reader.channels() < 1 || reader.channels() > limits.max_audio_channels)
    return Error{Errc::kTooLarge, str_cat("the sound has ", reader.channels(), " channels; at most ",
                                          limits.max_audio_channels, " are allowed")};
  return {};
}

}  // namespace

Error broken_audio(std::string_view what) { return {Errc::kInvalidArgument, str_cat("the sound is broken: ", what)}; }

Result<std::vector<float>> decode_audio(std::span<const uint8_t> file, const MediaLimits& limits) {
  CARAT_TRY_VOID(check_encoded_size(limits, file.size(), "sound"));
  CARAT_TRY(const auto reader, open_reader(file, limits));
  CARAT_TRY_VOID(check(*reader, limits));
  CARAT_TRY(auto resampler, Resampler::create(reader->rate()));
  const auto channels = static_cast<size_t>(reader->channels());
  const auto max_frames = static_cast<int64_t>(limits.max_audio_s * reader->rate());
  std::vector<float> interleaved(kChunkFrames * channels), mono, out;
  int64_t num_frames = 0;
  for (;;) {
    CARAT_TRY_VOID(check_deadline(limits, "sound"));
    CARAT_TRY(const auto got, reader->read(interleaved));
    if (got == 0) break;
    num_frames += got;
    if (num_frames > max_frames)
      return Error{Errc::kTooLarge,
                   str_cat("the sound is longer than ", limits.max_audio_s, " s, the most that is allowed")};
    mix(std::span(interleaved).first(static_cast<size_t>(got) * channels), channels, mono);
    resampler.feed(mono, out);
  }
  if (num_frames == 0) return broken_audio("it has no samples");
  resampler.feed({}, out);
  // The reference pads or cuts to exactly this.
  out.resize(static_cast<size_t>((num_frames * kAudioSampleRate + reader->rate() - 1) / reader->rate()));
  return out;
}

}  // namespace carat
