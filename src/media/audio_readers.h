#pragma once
// The decoders behind decode_audio. Private to media/: the types of their libraries stay in their .cc files.

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "media/limits.h"

namespace carat {

/// A sound file being read from its beginning to its end.
class AudioReader {
 public:
  virtual ~AudioReader() = default;
  int rate() const { return rate_; }
  int channels() const { return channels_; }
  /// Fills `out` with interleaved samples, full scale 1, as far as there are whole frames; gives their number, 0 at
  /// the end. `out` holds at least one frame.
  virtual Result<int64_t> read(std::span<float> out) = 0;

 protected:
  int rate_ = 0, channels_ = 0;  // as the file says, not checked
};

using AudioReaderResult = Result<std::unique_ptr<AudioReader>>;

/// WAV and its relatives, FLAC, MP3; Ogg Vorbis. `file` outlives the reader.
AudioReaderResult open_wav(std::span<const uint8_t> file);
AudioReaderResult open_flac(std::span<const uint8_t> file);
AudioReaderResult open_mp3(std::span<const uint8_t> file);
AudioReaderResult open_vorbis(std::span<const uint8_t> file);
/// Containers of sound and of video (its first track of sound). `limits` outlives the reader.
AudioReaderResult open_ffmpeg_audio(std::span<const uint8_t> file, const MediaLimits& limits);

Error broken_audio(std::string_view what);

}  // namespace carat
