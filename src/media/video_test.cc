#include "media/video.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <numbers>
#include <sstream>

#include "media/audio.h"
#include "media/ffmpeg.h"
#include "media/testing.h"

namespace carat {
namespace {

using namespace media_testing;
using namespace std::chrono_literals;

File corpus(std::string_view name) { return read_file(test_path("corpus/video_fuzz") / name); }

class Video : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto library = ffmpeg::Library::get(); !library) GTEST_SKIP() << library.error().message;
  }
};
using FfmpegAudio = Video;

struct Decoded {
  VideoInfo info;
  std::vector<VideoFrame> frames;
};

Result<Decoded> decode(std::span<const uint8_t> file, int num_frames, const MediaLimits& limits = {}) {
  Decoded out;
  CARAT_TRY(out.info, decode_video(file, num_frames, limits, [&](VideoFrame frame) -> Result<void> {
              out.frames.push_back(std::move(frame));
              return {};
            }));
  return out;
}

// tests/media/make_videos.py made the files and asked torchcodec, with FFmpeg 5.1; FFmpeg 4, 6, 7
// and 8 give the same.
TEST_F(Video, EqualsTorchcodec) {
  std::ifstream expected(test_path("media/expected_videos.txt"));
  std::string line;
  int count = 0;
  while (std::getline(expected, line)) {
    std::istringstream row(line);
    std::string name;
    int64_t total = 0;
    double fps = 0;
    int num_frames = 0, width = 0, height = 0;
    row >> name >> total >> fps >> num_frames >> width >> height;
    SCOPED_TRACE(name);
    const auto video = decode(corpus(name), num_frames);
    ++count;
    if (!video) {
      ADD_FAILURE() << video.error().message;
      continue;
    }
    EXPECT_EQ(video->info.num_frames, total);
    EXPECT_NEAR(video->info.fps, fps, 1e-6);
    ASSERT_EQ(video->frames.size(), static_cast<size_t>(num_frames));
    for (int64_t i = 0; i < num_frames; ++i) {
      const auto& frame = video->frames[static_cast<size_t>(i)];
      EXPECT_EQ(frame.index, i * total / num_frames);
      EXPECT_DOUBLE_EQ(frame.seconds, static_cast<double>(frame.index) / video->info.fps);
      EXPECT_EQ(frame.image.width, width);
      EXPECT_EQ(frame.image.height, height);
      std::string sha256;
      row >> sha256;
      EXPECT_EQ(digest(std::span<const uint8_t>(frame.image.pixels)), sha256) << i;
    }
  }
  EXPECT_GE(count, 15);
}

// Whatever was skipped or jumped over on the way, a frame is the same.
TEST_F(Video, AFrameDoesNotDependOnTheOthersAskedFor) {
  for (const auto name :
       {"h264.mp4", "hevc.mp4", "vp9.webm", "vp8.webm", "mpeg4.avi", "h264_ntsc.mkv", "animated.gif"}) {
    SCOPED_TRACE(name);
    const auto file = corpus(name);
    const auto all = decode(file, 1000);
    ASSERT_TRUE(all) << all.error().message;
    ASSERT_EQ(static_cast<int64_t>(all->frames.size()), all->info.num_frames);
    for (const int count : {1, 2, 3, 7, 32}) {
      const auto some = decode(file, count);
      ASSERT_TRUE(some);
      for (const auto& frame : some->frames)
        EXPECT_EQ(frame.image.pixels, all->frames[static_cast<size_t>(frame.index)].image.pixels) << frame.index;
    }
  }
}

TEST_F(Video, LimitsAreChecked) {
  const auto file = corpus("h264.mp4");
  EXPECT_TRUE(decode(file, 2, {.max_video_pixels = 64 * 48}));
  expect_error(decode(file, 2, {.max_video_pixels = 64 * 48 - 1}), Errc::kTooLarge, {"64 x 48 pixels", "at most 3071"});
  expect_error(decode(file, 2, {.max_side = 63}), Errc::kTooLarge, {"64 x 48 pixels", "at most 63 in a row or column"});
  EXPECT_TRUE(decode(file, 2, {.max_video_frames = 40}));
  expect_error(decode(file, 2, {.max_video_frames = 39}), Errc::kTooLarge, {"more than 39 frames"});
  expect_error(decode(file, 2, {.max_encoded_bytes = 10}), Errc::kTooLarge, {"at most 10 are allowed"});
  const auto two_streams = corpus("sound_and_picture.mp4");
  EXPECT_TRUE(decode(two_streams, 2, {.max_streams = 2}));
  expect_error(decode(two_streams, 2, {.max_streams = 1}), Errc::kTooLarge, {"more than 1 streams"});
  expect_error(decode(file, 2, {.deadline = MediaLimits::Clock::now() - 1s}), Errc::kUnavailable,
               {"longer than is allowed"});
}

TEST_F(Video, TheSinkCanEndIt) {
  int count = 0;
  const auto result = decode_video(corpus("h264.mp4"), 8, {}, [&](VideoFrame) -> Result<void> {
    if (++count == 3) return Error{Errc::kCancelled, "enough"};
    return {};
  });
  expect_error(result, Errc::kCancelled, {"enough"});
  EXPECT_EQ(count, 3);
}

TEST_F(Video, ErrorsSayWhatWasWrong) {
  const File text(1000, 'x');
  expect_error(decode(text, 1), Errc::kUnsupported, {"no known container", "MP4, MOV, WebM"});
  expect_error(decode({}, 1), Errc::kUnsupported, {"no known container"});
  expect_error(decode(corpus("aac.m4a"), 1), Errc::kInvalidArgument, {"no video in it"});
  auto cut = corpus("mpeg4.avi");
  cut.resize(cut.size() / 2);
  EXPECT_TRUE(decode(cut, 4)) << "what is there is shown";
}

// Lists and indices that point to other files are no media: nothing but the bytes that came may be read.
TEST_F(Video, ContainersThatOpenOtherFilesAreRefused) {
  for (const std::string_view text :
       {"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile /etc/passwd\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 1234 RTP/AVP 96\na=rtpmap:96 H264/90000\n"}) {
    const File file(text.begin(), text.end());
    expect_error(decode(file, 1), Errc::kUnsupported, {"no known container"});
  }
}

TEST_F(FfmpegAudio, DecodesWhatTheOthersCannot) {
  struct Case {
    std::string_view name;
    double amplitude;  // ffmpeg's, whose stereo is quieter by the root of 2
  };
  for (const auto& [name, amplitude] : {Case{"aac.m4a", 0.125}, Case{"opus.ogg", 0.125}, Case{"opus.webm", 0.0884},
                                        Case{"adts.aac", 0.125}, Case{"sound_and_picture.mp4", 0.125}}) {
    SCOPED_TRACE(name);
    const auto sound = decode_audio(corpus(name));
    ASSERT_TRUE(sound) << sound.error().message;
    EXPECT_NEAR(static_cast<double>(sound->size()), 8000, 1100);  // half a second, and what AAC puts around it
    // A sine of 440 Hz: its power, and nothing else's.
    double power = 0, in_phase = 0, quadrature = 0;
    const size_t begin = 2000, size = 4000;
    for (size_t i = begin; i < begin + size; ++i) {
      const double x = (*sound)[i], angle = 2 * std::numbers::pi * 440 * static_cast<double>(i) / 16000;
      power += x * x / size;
      in_phase += x * std::cos(angle) * 2 / size;
      quadrature += x * std::sin(angle) * 2 / size;
    }
    EXPECT_NEAR(std::sqrt(2 * power), amplitude, 0.01);
    EXPECT_NEAR(std::hypot(in_phase, quadrature), std::sqrt(2 * power), 0.005);
  }
}

TEST_F(FfmpegAudio, LimitsAreChecked) {
  const auto file = corpus("opus.webm");
  expect_error(decode_audio(file, {.max_audio_s = 0.2}), Errc::kTooLarge, {"longer than 0.2 s"});
  expect_error(decode_audio(file, {.max_audio_channels = 1}), Errc::kTooLarge, {"2 channels"});
  expect_error(decode_audio(corpus("vp9.webm")), Errc::kInvalidArgument, {"no sound in it"});
}

TEST(FfmpegLibrary, ItsAbsenceIsExplained) {
  expect_error(ffmpeg::Library::open("/nowhere"), Errc::kUnsupported, {"apt install ffmpeg", "libavformat 58 to 62"});
}

}  // namespace
}  // namespace carat
