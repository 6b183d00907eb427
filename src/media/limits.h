#pragma once
// What media from outside may cost. Every limit is checked before the memory or the time is taken.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"

namespace carat {

/// Limits of one image, clip of sound or video. What is over one is refused with kTooLarge (kUnavailable for the
/// deadline), and the message names the value and the limit.
struct MediaLimits {
  using Clock = std::chrono::steady_clock;

  int64_t max_encoded_bytes = int64_t{64} << 20;  ///< of the file, before it is decoded
  int64_t max_image_pixels = 89'478'485;          ///< width * height, as its header says
  /// Width or height of an image or frame: thin ones are resized to 48 pixels across before they become shorter.
  int max_side = 65'535;
  double max_audio_s = 600;  ///< length of a clip of sound
  int max_audio_channels = 8;
  int64_t max_video_pixels = 4096 * 2304;                 ///< width * height of one frame
  int max_video_frames = 216'000;                         ///< in the file: an hour at 60 frames a second
  int max_streams = 32;                                   ///< tracks of a video file
  Clock::time_point deadline = Clock::time_point::max();  ///< decoding ends with kUnavailable soon after it
  /// Asked where the deadline is looked at; true ends decoding with kCancelled. Null: never.
  std::function<bool()> stopped = nullptr;
};

/// kTooLarge if the file of a `kind` ("image") has more than max_encoded_bytes.
Result<void> check_encoded_size(const MediaLimits& limits, size_t size, std::string_view kind);
/// kTooLarge if a picture that is `what` ("the image has", "the video has frames of") has more than `max_pixels`, or a
/// side above max_side.
Result<void> check_picture_size(const MediaLimits& limits, int64_t max_pixels, int64_t width, int64_t height,
                                std::string_view what);
/// kUnavailable once the deadline is over, kCancelled once stopped. Costs a look at the clock.
Result<void> check_deadline(const MediaLimits& limits, std::string_view kind);

}  // namespace carat
