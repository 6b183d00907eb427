#include "media/audio.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include "media/testing.h"

namespace carat {
namespace {

using namespace media_testing;
using namespace std::chrono_literals;

File corpus(std::string_view name) { return read_file(test_path("corpus/audio_fuzz") / name); }

// tests/media/make_audio.py made the files and asked soundfile and soxr.
TEST(Audio, EqualsTransformersBitForBit) {
  std::ifstream expected(test_path("media/expected_audio.txt"));
  std::string name, sha256;
  size_t num_samples = 0;
  int count = 0;
  while (expected >> name >> num_samples >> sha256) {
    SCOPED_TRACE(name);
    const auto sound = decode_audio(corpus(name));
    ++count;
    if (!sound) {
      ADD_FAILURE() << sound.error().message;
      continue;
    }
    EXPECT_EQ(sound->size(), num_samples);
    EXPECT_EQ(digest(std::span<const float>(*sound)), sha256);
  }
  EXPECT_GE(count, 25);
}

// Other decoders than the reference's, so not to the bit.
TEST(Audio, LossyFormatsAreClose) {
  for (const auto name : {"mp3_44100_2ch.mp3", "mp3_16000.mp3", "mp3_id3.mp3", "vorbis_48000_2ch.ogg"}) {
    SCOPED_TRACE(name);
    const auto bytes = read_file(test_path("media") / (std::string("expected_") + name + ".f32"));
    std::vector<float> expected(bytes.size() / sizeof(float));
    std::memcpy(expected.data(), bytes.data(), bytes.size());
    const auto sound = decode_audio(corpus(name));
    ASSERT_TRUE(sound) << sound.error().message;
    ASSERT_EQ(sound->size(), expected.size());
    float worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) worst = std::max(worst, std::abs((*sound)[i] - expected[i]));
    EXPECT_LT(worst, 2e-5f);
  }
}

TEST(Audio, ThreadsDoNotDisturbEachOther) {
  const auto file = corpus("wav_44100.wav");
  const auto alone = decode_audio(file);
  ASSERT_TRUE(alone);
  std::vector<std::thread> threads;
  std::array<bool, 4> same{};
  for (auto& mine : same)
    threads.emplace_back([&] {
      mine = true;
      for (int i = 0; i < 20; ++i) mine = mine && decode_audio(file).value() == *alone;
    });
  for (auto& t : threads) t.join();
  EXPECT_THAT(same, testing::Each(true));
}

TEST(Audio, LengthIsLimited) {
  const auto file = corpus("wav_48000.wav");  // 0.08 s
  EXPECT_TRUE(decode_audio(file, {.max_audio_s = 0.08}));
  expect_error(decode_audio(file, {.max_audio_s = 0.079}), Errc::kTooLarge, {"longer than 0.079 s"});
}

TEST(Audio, ChannelsRateSizeAndTimeAreLimited) {
  expect_error(decode_audio(corpus("wav_8ch.wav"), {.max_audio_channels = 7}), Errc::kTooLarge,
               {"8 channels", "at most 7"});
  auto file = corpus("wav_pcm_16.wav");
  expect_error(decode_audio(file, {.max_encoded_bytes = 100}), Errc::kTooLarge, {"at most 100"});
  expect_error(decode_audio(file, {.deadline = MediaLimits::Clock::now() - 1s}), Errc::kUnavailable,
               {"longer than is allowed"});
  for (const uint32_t rate : {0u, 999u, 768'001u, 4'000'000'000u}) {
    std::memcpy(&file[24], &rate, sizeof rate);
    EXPECT_FALSE(decode_audio(file)) << rate;
  }
  const uint32_t slow = 999;
  std::memcpy(&file[24], &slow, sizeof slow);
  expect_error(decode_audio(file), Errc::kUnsupported, {"999 samples a second", "1000 to 768000"});
}

TEST(Audio, ErrorsSayWhatWasWrong) {
  expect_error(decode_audio({}), Errc::kInvalidArgument, {"empty"});
  const File text = {'h', 'e', 'l', 'l', 'o'};
  expect_error(decode_audio(text), Errc::kUnsupported, {"allowed are WAV, AIFF, FLAC, MP3, Ogg Vorbis"});
  const auto wav = corpus("wav_pcm_16.wav");
  expect_error(decode_audio(std::span(wav).first(20)), Errc::kInvalidArgument, {"broken", "WAV"});
  expect_error(decode_audio(std::span(wav).first(44)), Errc::kInvalidArgument, {"no samples"});
  const auto vorbis = corpus("vorbis_48000_2ch.ogg");
  expect_error(decode_audio(std::span(vorbis).first(60)), Errc::kInvalidArgument, {"Ogg Vorbis"});
}

}  // namespace
}  // namespace carat
