#pragma once
// A request's media to what the encoders read: which ones the model takes, how many, fetching and decoding.

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/media_prompt.h"
#include "base/metrics.h"
#include "media/audio_input.h"
#include "media/fetch.h"
#include "media/image_input.h"
#include "media/limits.h"

namespace carat {

/// Media in one prompt at most, of all kinds, whatever the command line allows.
inline constexpr int kMaxMediaPerPrompt = 1024;

/// What is counted of media, by MediaKind; null: nothing is.
struct MediaMetrics {
  struct Kind {
    Histogram* fetch_seconds = nullptr;  ///< of those that come from elsewhere, had or not
    Histogram* load_seconds = nullptr;   ///< fetch, decoding, resize or features, of those that went well
    Counter* failed = nullptr;           ///< that could not be had or read, or were over a limit
  };
  std::array<Kind, 3> kinds{};
};

/// From the command line.
struct MediaOptions {
  std::optional<int> max_images, max_audios, max_videos;  ///< in one prompt
  FetchOptions fetch;
  MediaLimits limits;
  /// From the moment when a medium could be started to be loaded until it must be ready.
  std::chrono::seconds timeout{60};
  /// Bytes of pixels and features that requests hold until they end, at most.
  int64_t max_held_bytes = int64_t{4} << 30;
  int num_threads = 1;         ///< that decode what came with the request
  int num_fetch_threads = 32;  ///< that fetch from elsewhere, and decode that
};

/// Any thread.
class MediaLoader {
 public:
  MediaLoader(const ModelConfig& config, const MediaOptions& options, const MediaMetrics& metrics = {});

  bool sees() const { return image_.has_value(); }
  bool hears() const { return audio_.has_value(); }
  /// Whether a prompt may have these media. Errors: kInvalidArgument for a kind that the model does not take, or too
  /// many of one.
  Result<void> check(std::span<const PlacedMedium> media) const;
  /// Whether load() goes elsewhere: to another machine or to a file.
  static bool is_remote(const MediaPart& part);
  /// Blocks, but ends soon once `stopped` (null: never). Errors: those of fetching and decoding.
  Result<LoadedMedium> load(const MediaPart& part, const std::function<bool()>& stopped = nullptr) const;

 private:
  Result<LoadedMedium> load_uncounted(const MediaPart& part, const std::function<bool()>& stopped) const;
  Result<LoadedMedium> load_image(std::span<const uint8_t> file, const MediaLimits& limits) const;
  Result<LoadedMedium> load_audio(std::span<const uint8_t> file, const MediaLimits& limits) const;
  Result<LoadedMedium> load_video(std::span<const uint8_t> file, const MediaLimits& limits) const;

  const MediaOptions options_;
  const MediaMetrics metrics_;
  std::optional<PictureForm> image_, frame_;
  int video_frames_ = 0;
  std::optional<AudioForm> audio_;
};

}  // namespace carat
