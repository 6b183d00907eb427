#include "media/image.h"

#include <array>
#include <chrono>
#include <sstream>

#include "media/testing.h"

namespace carat {
namespace {

using namespace media_testing;
using namespace std::chrono_literals;

File corpus(std::string_view name) { return read_file(test_path("corpus/image_fuzz") / name); }

// tests/media/make_images.py made the files and asked Pillow.
TEST(Image, EqualsPillowByteForByte) {
  std::ifstream expected(test_path("media/expected_images.txt"));
  std::string name, sha256;
  int width = 0, height = 0, count = 0;
  while (expected >> name >> width >> height >> sha256) {
    SCOPED_TRACE(name);
    const auto image = decode_image(corpus(name));
    ++count;
    if (!image) {
      ADD_FAILURE() << image.error().message;
      continue;
    }
    EXPECT_EQ(image->width, width);
    EXPECT_EQ(image->height, height);
    EXPECT_EQ(digest(std::span<const uint8_t>(image->pixels)), sha256);
  }
  EXPECT_GE(count, 80);
}

TEST(Image, HeaderSaysFormatAndSize) {
  const std::array<std::pair<std::string_view, ImageFormat>, 5> files = {{{"jpeg_exif_6.jpg", ImageFormat::kJpeg},
                                                                          {"png_rgb16.png", ImageFormat::kPng},
                                                                          {"webp_lossy.webp", ImageFormat::kWebp},
                                                                          {"gif_plain.gif", ImageFormat::kGif},
                                                                          {"bmp_24.bmp", ImageFormat::kBmp}}};
  for (const auto& [name, format] : files) {
    SCOPED_TRACE(name);
    const auto header = read_image_header(corpus(name));
    ASSERT_TRUE(header) << header.error().message;
    EXPECT_EQ(header->format, format);
    EXPECT_EQ(header->width, 37);
    EXPECT_EQ(header->height, 23);
  }
}

// 16 bits of grey: the upper 8, where Pillow saturates.
TEST(Image, SixteenBitsOfGreyAreScaled) {
  const auto both = decode_image(corpus("png_grey_alpha16.png"));
  ASSERT_TRUE(both);
  EXPECT_EQ(both->pixels[0], both->pixels[1]);
  EXPECT_GT(*std::max_element(both->pixels.begin(), both->pixels.end()), 200);
  EXPECT_LT(*std::min_element(both->pixels.begin(), both->pixels.end()), 50);
}

TEST(Image, PixelsAreCountedBeforeTheyAreTaken) {
  for (const auto name : {"jpeg_420.jpg", "png_rgb8.png", "webp_lossy.webp", "gif_plain.gif", "bmp_24.bmp"}) {
    SCOPED_TRACE(name);
    const auto file = corpus(name);
    EXPECT_TRUE(decode_image(file, {.max_image_pixels = 37 * 23}));
    expect_error(decode_image(file, {.max_image_pixels = 37 * 23 - 1}), Errc::kTooLarge,
                 {"37 x 23 pixels", "at most 850"});
  }
  expect_error(decode_image(corpus("png_rgb8.png"), {.max_side = 36}), Errc::kTooLarge,
               {"37 x 23 pixels", "at most 36 in a row or column"});
  EXPECT_TRUE(decode_image(corpus("png_rgb8.png"), {.max_side = 37}));
  // A bomb: 60 bytes that ask for 4 G pixels.
  auto bomb = corpus("png_grey1.png");
  for (const size_t at : {16u, 20u}) bomb[at] = 0, bomb[at + 1] = 1, bomb[at + 2] = 0, bomb[at + 3] = 0;
  expect_error(decode_image(bomb), Errc::kTooLarge, {"65536 x 65536", "89478485"});
}

TEST(Image, FileSizeIsLimited) {
  const auto file = corpus("jpeg_420.jpg");
  const auto size = static_cast<int64_t>(file.size());
  EXPECT_TRUE(decode_image(file, {.max_encoded_bytes = size}));
  expect_error(decode_image(file, {.max_encoded_bytes = size - 1}), Errc::kTooLarge,
               {std::to_string(size), "at most", std::to_string(size - 1)});
}

TEST(Image, DeadlineEndsIt) {
  for (const auto name : {"jpeg_progressive.jpg", "png_rgb8.png", "webp_lossy.webp", "gif_plain.gif", "bmp_24.bmp"})
    expect_error(decode_image(corpus(name), {.deadline = MediaLimits::Clock::now() - 1s}), Errc::kUnavailable,
                 {"longer than is allowed"});
}

// Every decoder on every beginning of its files: an error with a message, or (where only the end mark is missing)
// pixels.
TEST(Image, CutFilesAreRefused) {
  for (const auto name : {"jpeg_420.jpg", "jpeg_progressive.jpg", "png_rgb8.png", "png_interlaced_palette4.png",
                          "webp_lossy.webp", "webp_lossless.webp", "gif_interlaced.gif", "bmp_24.bmp", "bmp_4.bmp"}) {
    SCOPED_TRACE(name);
    const auto file = corpus(name);
    for (size_t size = 0; size < file.size(); size += 1 + size / 16) {
      const auto image = decode_image(std::span(file).first(size));
      ASSERT_FALSE(image) << size << " of " << file.size();
      EXPECT_FALSE(image.error().message.empty());
    }
  }
}

TEST(Image, ErrorsSayWhatWasWrong) {
  expect_error(decode_image({}), Errc::kInvalidArgument, {"empty"});
  const File tiff = {'I', 'I', '*', 0, 8, 0, 0, 0};
  expect_error(decode_image(tiff), Errc::kUnsupported, {"JPEG, PNG, WebP, GIF and BMP"});
  auto jpeg = corpus("jpeg_420.jpg");
  expect_error(decode_image(std::span(jpeg).first(jpeg.size() / 2)), Errc::kInvalidArgument,
               {"JPEG image is broken", "ends too early"});
  auto png = corpus("png_rgb8.png");
  png[png.size() / 2] ^= 1;
  expect_error(decode_image(png), Errc::kInvalidArgument, {"PNG image is broken"});
  auto bmp = corpus("bmp_24.bmp");
  bmp[28] = 7;
  expect_error(decode_image(bmp), Errc::kUnsupported, {"7 bits a pixel", "1, 4, 8, 16, 24, 32"});
  bmp = corpus("bmp_24.bmp");
  bmp[14] = 41;
  expect_error(decode_image(bmp), Errc::kUnsupported, {"41 bytes"});
  bmp = corpus("bmp_24.bmp");
  bmp[30] = 4;
  expect_error(decode_image(bmp), Errc::kUnsupported, {"compression 4"});
}

}  // namespace
}  // namespace carat
