// What models take, and how files become inputs.

#include "api/media_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"
#include "media/encode.h"

namespace carat {
namespace {

using ::testing::HasSubstr;

std::string little_endian(uint32_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

/// A grey picture as BMP: the header and rows of 24 bits.
std::string bmp(int width, int height) {
  const std::string row(static_cast<size_t>((3 * width + 3) / 4 * 4), '\x60');
  std::string rows;
  for (int i = 0; i < height; ++i) rows += row;
  return str_cat("BM", little_endian(static_cast<uint32_t>(54 + rows.size()), 4), std::string(4, '\0'),
                 little_endian(54, 4), little_endian(40, 4), little_endian(static_cast<uint32_t>(width), 4),
                 little_endian(static_cast<uint32_t>(height), 4), little_endian(1, 2), little_endian(24, 2),
                 std::string(24, '\0'), rows);
}

/// Silence with a click, 16 bits mono at 16 kHz.
std::string wav(uint32_t num_samples) {
  std::string samples(2 * num_samples, '\0');
  samples[samples.size() / 2] = 100;
  return str_cat("RIFF", little_endian(36 + 2 * num_samples, 4), "WAVEfmt ", little_endian(16, 4), little_endian(1, 2),
                 little_endian(1, 2), little_endian(16000, 4), little_endian(32000, 4), little_endian(2, 2),
                 little_endian(16, 2), "data", little_endian(2 * num_samples, 4), samples);
}

MediaPart part(MediaKind kind, std::string source) {
  return {kind, std::make_shared<const std::string>(std::move(source))};
}

std::vector<PlacedMedium> placed(MediaKind kind, size_t count) {
  return std::vector<PlacedMedium>(count, PlacedMedium{part(kind, "x"), 0});
}

std::string refusal(const Result<void>& result) { return result ? "" : result.error().message; }

TEST(MediaLoader, MembersTakeWhatTheyHaveEncodersFor) {
  for (const auto& [name, hears] :
       {std::pair("google/gemma-4-E2B-it", true), std::pair("google/gemma-4-E4B-it", true),
        std::pair("google/gemma-4-12B-it", true), std::pair("google/gemma-4-26B-A4B-it", false),
        std::pair("google/gemma-4-31B-it", false)}) {
    const auto config = builtin_model_config(name);
    ASSERT_TRUE(config) << name;
    const MediaLoader loader(*config, {});
    EXPECT_TRUE(loader.sees()) << name;
    EXPECT_EQ(loader.hears(), hears) << name;
    EXPECT_TRUE(loader.check(placed(MediaKind::kImage, 16)));
    EXPECT_TRUE(loader.check(placed(MediaKind::kVideo, 1)));
    EXPECT_EQ(refusal(loader.check(placed(MediaKind::kAudio, 1))),
              hears ? "" : "This model takes no audio input here.");
  }
}

TEST(MediaLoader, ATextOnlyModelTakesNone) {
  auto config = *builtin_model_config("google/gemma-4-E2B-it");
  config.vision.reset();
  config.audio.reset();
  const MediaLoader loader(config, {});
  EXPECT_FALSE(loader.sees() || loader.hears());
  EXPECT_EQ(refusal(loader.check(placed(MediaKind::kImage, 1))), "This model takes no image input here.");
  EXPECT_EQ(refusal(loader.check(placed(MediaKind::kVideo, 1))), "This model takes no video input here.");
  EXPECT_TRUE(loader.check({}));
}

TEST(MediaLoader, CountsAreLimited) {
  MediaOptions options;
  options.max_images = 2;
  options.max_videos = 0;
  const MediaLoader loader(*builtin_model_config("google/gemma-4-E2B-it"), options);
  EXPECT_TRUE(loader.check(placed(MediaKind::kImage, 2)));
  EXPECT_EQ(refusal(loader.check(placed(MediaKind::kImage, 3))), "Image count 3 exceeds limit 2 per request.");
  EXPECT_EQ(refusal(loader.check(placed(MediaKind::kVideo, 1))), "Video count 1 exceeds limit 0 per request.");
  EXPECT_TRUE(loader.check(placed(MediaKind::kAudio, kMaxMediaPerPrompt)));
  EXPECT_THAT(refusal(loader.check(placed(MediaKind::kAudio, kMaxMediaPerPrompt + 1))), HasSubstr("limit of 1024"));
}

TEST(MediaLoader, ImagesAndSounds) {
  struct Expected {
    const char* name;
    int image_tokens;
    std::optional<int> audio_tokens;
  };
  for (const Expected& e : {Expected{"google/gemma-4-E2B-it", 264, 25}, Expected{"google/gemma-4-12B-it", 264, 25},
                            Expected{"google/gemma-4-31B-it", 264, std::nullopt}}) {
    const MediaLoader loader(*builtin_model_config(e.name), {});
    const auto image =
        loader.load(part(MediaKind::kImage, str_cat("data:image/bmp;base64,", encode_base64(bmp(1280, 720)))));
    ASSERT_TRUE(image) << image.error().message;
    ASSERT_EQ(image->inputs.size(), 1u);
    EXPECT_EQ(image->inputs[0]->kind, EncoderInput::Kind::kImage);
    EXPECT_EQ(image->inputs[0]->num_tokens, e.image_tokens);
    if (!e.audio_tokens) continue;
    const auto sound = loader.load(part(MediaKind::kAudio, encode_base64(wav(16000))));
    ASSERT_TRUE(sound) << sound.error().message;
    EXPECT_EQ(sound->inputs[0]->kind, EncoderInput::Kind::kAudio);
    EXPECT_EQ(sound->inputs[0]->num_tokens, *e.audio_tokens);
  }
}

TEST(MediaLoader, WhatIsNotHeardOfASound) {
  const std::string sound = encode_base64(wav(kMaxLogMelSamples + 8000));
  for (const auto& [name, unheard_s] : {std::pair("google/gemma-4-E2B-it", 0.5), {"google/gemma-4-12B-it", 0.0}}) {
    const auto loaded = MediaLoader(*builtin_model_config(name), {}).load(part(MediaKind::kAudio, sound));
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->unheard_s, unheard_s) << name;
  }
}

TEST(MediaLoader, Counts) {
  const std::vector<double> bounds = {10};
  Histogram fetch_seconds(bounds), load_seconds(bounds);
  Counter failed;
  MediaMetrics metrics;
  metrics.kinds[static_cast<size_t>(MediaKind::kAudio)] = {&fetch_seconds, &load_seconds, &failed};
  const MediaLoader loader(*builtin_model_config("google/gemma-4-E2B-it"), {}, metrics);
  const auto counts = [&] {
    return std::tuple(fetch_seconds.count(), load_seconds.count(), static_cast<int>(failed.value()));
  };
  ASSERT_TRUE(loader.load(part(MediaKind::kAudio, encode_base64(wav(16000)))));
  EXPECT_EQ(counts(), std::tuple(0, 1, 0));
  ASSERT_FALSE(loader.load(part(MediaKind::kAudio, "AAAA")));
  EXPECT_EQ(counts(), std::tuple(0, 1, 1));
  ASSERT_FALSE(loader.load(part(MediaKind::kAudio, "http://127.0.0.1:1/")));  // refused, but it was asked for
  EXPECT_EQ(counts(), std::tuple(1, 1, 2));
  ASSERT_FALSE(loader.load(part(MediaKind::kImage, "AAAA")));
  EXPECT_EQ(counts(), std::tuple(1, 1, 2));
  ASSERT_FALSE(loader.load(part(MediaKind::kAudio, encode_base64(wav(16000))), [] { return true; }));  // nobody's fault
  EXPECT_EQ(counts(), std::tuple(1, 1, 2));
}

TEST(MediaLoader, ErrorsOfFilesAndAddresses) {
  const MediaLoader loader(*builtin_model_config("google/gemma-4-E2B-it"), {});
  const auto error = [&](MediaKind kind, std::string source) {
    const auto loaded = loader.load(part(kind, std::move(source)));
    return loaded ? Error{Errc::kInternal, "none"} : loaded.error();
  };
  EXPECT_EQ(error(MediaKind::kImage, "data:image/png;base64,AAAA").code, Errc::kUnsupported);
  EXPECT_EQ(error(MediaKind::kImage, "").code, Errc::kInvalidArgument);
  EXPECT_EQ(error(MediaKind::kImage, "http://127.0.0.1:1/a.png").code, Errc::kInvalidArgument);
  EXPECT_EQ(error(MediaKind::kImage, "file:///etc/passwd").code, Errc::kInvalidArgument);
  EXPECT_EQ(error(MediaKind::kAudio, encode_base64(wav(160))).code, Errc::kInvalidArgument);  // no token's length
  EXPECT_NE(error(MediaKind::kVideo, "AAAA").code, Errc::kInternal);
  EXPECT_FALSE(loader.load(part(MediaKind::kAudio, encode_base64(bmp(48, 48)))));
}

TEST(MediaLoader, WhatIsFetchedFromElsewhere) {
  for (const char* remote : {"http://a/b", "HTTPS://a", "file:///a", "ftp://a"})
    EXPECT_TRUE(MediaLoader::is_remote(part(MediaKind::kImage, remote))) << remote;
  for (const char* here : {"data:image/png;base64,AAAA", "AAAA", " DATA:text/plain,http://a", "/9j/4AAQ", ""})
    EXPECT_FALSE(MediaLoader::is_remote(part(MediaKind::kImage, here))) << here;
}

}  // namespace
}  // namespace carat
