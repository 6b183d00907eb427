// Any bytes as a video and as a container of sound, under limits so small that no input may take much memory or time.
// Without FFmpeg there is nothing to try.
#include "base/check.h"
#include "media/audio.h"
#include "media/video.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const carat::MediaLimits limits{.max_audio_s = 2,
                                  .max_video_pixels = 1 << 14,
                                  .max_video_frames = 64,
                                  .max_streams = 4,
                                  .deadline = carat::MediaLimits::Clock::now() + std::chrono::seconds(2)};
  const auto video =
      carat::decode_video({data, size}, 4, limits, [&](const carat::VideoFrame& frame) -> carat::Result<void> {
        CARAT_CHECK_EQ(frame.image.pixels.size(),
                       size_t{3} * static_cast<size_t>(frame.image.width) * frame.image.height);
        return {};
      });
  if (!video) CARAT_CHECK(!video.error().message.empty(), "an error says what was wrong");
  (void)carat::decode_audio({data, size}, limits);
  return 0;
}
