#include "media/encode.h"

#include "media/fetch.h"
#include "media/image.h"
#include "media/testing.h"

namespace carat {
namespace {

std::span<const uint8_t> bytes_of(const std::string& file) {
  return {reinterpret_cast<const uint8_t*>(file.data()), file.size()};
}

struct Picture {
  int width, height;
  std::vector<uint8_t> pixels;
  PictureView view() const { return {width, height, pixels}; }
};

/// Smooth, so that JPEG loses little.
Picture gradient(int width, int height) {
  Picture out{width, height, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (const int value : {255 * x / width, 255 * y / height, 128})
        out.pixels.push_back(static_cast<uint8_t>(value));
  return out;
}

TEST(Encode, PngLosesNothing) {
  for (const auto& [width, height] : {std::pair(1, 1), std::pair(37, 5), std::pair(160, 90)}) {
    const Picture picture = gradient(width, height);
    const auto decoded = decode_image(bytes_of(encode_png(picture.view())));
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->width, width);
    EXPECT_EQ(decoded->height, height);
    EXPECT_EQ(decoded->pixels, picture.pixels);
  }
}

TEST(Encode, JpegIsCloseAndSmallerWithLessQuality) {
  const Picture picture = gradient(161, 91);
  const std::string good = encode_jpeg(picture.view(), 85), poor = encode_jpeg(picture.view(), 10);
  EXPECT_LT(poor.size(), good.size());
  EXPECT_EQ(read_image_header(bytes_of(good))->format, ImageFormat::kJpeg);
  const auto decoded = decode_image(bytes_of(good));
  ASSERT_TRUE(decoded) << decoded.error().message;
  ASSERT_EQ(decoded->pixels.size(), picture.pixels.size());
  int64_t difference = 0;
  for (size_t i = 0; i < picture.pixels.size(); ++i) difference += std::abs(decoded->pixels[i] - picture.pixels[i]);
  EXPECT_LT(static_cast<double>(difference) / static_cast<double>(picture.pixels.size()), 3);
}

TEST(Encode, Base64) {
  EXPECT_EQ(encode_base64(""), "");
  EXPECT_EQ(encode_base64("f"), "Zg==");
  EXPECT_EQ(encode_base64("fo"), "Zm8=");
  EXPECT_EQ(encode_base64("foo"), "Zm9v");
  std::string all;
  for (int i = 0; i < 256; ++i) {
    all += static_cast<char>(i);
    const auto back = decode_base64(encode_base64(all), 1000);
    ASSERT_TRUE(back);
    EXPECT_EQ(std::string(back->begin(), back->end()), all);
  }
}

}  // namespace
}  // namespace carat
