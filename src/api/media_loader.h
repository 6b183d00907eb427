#pragma once
// A request's media to what the encoders read: which ones the model takes, how many, fetching and decoding.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/media_prompt.h"
#include "media/audio_input.h"
#include "media/fetch.h"
#include "media/image_input.h"
#include "media/limits.h"

namespace carat {

/// Media in one prompt at most, of all kinds, whatever the command line allows.
inline constexpr int kMaxMediaPerPrompt = 1024;

/// From the command line.
struct MediaOptions {
  std::optional<int> max_images, max_audios, max_videos;  ///< in one prompt
  FetchOptions fetch;
  MediaLimits limits;
  /// From the moment when a medium could be started to be loaded until it must be ready.
  std::chrono::seconds timeout{60};
  int num_threads = 1;         ///< that decode what came with the request
  int num_fetch_threads = 32;  ///< that fetch from elsewhere, and decode that
};

/// Any thread.
class MediaLoader {
 public:
  MediaLoader(const ModelConfig& config, const MediaOptions& options);

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
  Result<LoadedMedium> load_image(std::span<const uint8_t> file, const MediaLimits& limits) const;
  Result<LoadedMedium> load_audio(std::span<const uint8_t> file, const MediaLimits& limits) const;
  Result<LoadedMedium> load_video(std::span<const uint8_t> file, const MediaLimits& limits) const;

  const MediaOptions options_;
  std::optional<PictureForm> image_, frame_;
  int video_frames_ = 0;
  std::optional<AudioForm> audio_;
};

}  // namespace carat
