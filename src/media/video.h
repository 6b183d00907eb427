#pragma once
// Bytes of a video file -> some of its frames. FFmpeg's libraries do it, opened when the first video comes.

#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "media/image.h"
#include "media/limits.h"

namespace carat {

struct VideoFrame {
  int64_t index = 0;   ///< in the video, in order of presentation
  double seconds = 0;  ///< index / fps
  Image image;         ///< upright
};

struct VideoInfo {
  int64_t num_frames = 0;  ///< in the file
  double fps = 0;          ///< frames a second on average; 24 where the file does not say
};

/// Takes the frames one after the other, so that never all of them are in memory. An error ends the decoding.
using FrameSink = std::function<Result<void>(VideoFrame)>;

/// MP4, MOV, WebM, Matroska, GIF and what else FFmpeg reads. Of the N frames of the file `num_frames` (>= 1) are
/// decoded, at the indices floor(i * N / num_frames); all of them if N is less. Frame i is the i-th by time stamp, RGB
/// after swscale's bicubic, turned as the file's display matrix says. Any thread; blocks.
/// Errors: kUnsupported (FFmpeg is absent, or cannot read it), kInvalidArgument (broken, no video in it), kTooLarge,
/// kUnavailable once the deadline is over.
Result<VideoInfo> decode_video(std::span<const uint8_t> file, int num_frames, const MediaLimits& limits,
                               const FrameSink& on_frame);

}  // namespace carat
