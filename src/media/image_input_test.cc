#include "media/image_input.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace carat {
namespace {

constexpr std::array<int, 5> kBudgets = {70, 140, 280, 560, 1120};

struct Target {
  int height, width;
  std::array<std::array<int, 3>, 5> by_budget;  // height, width, soft tokens
};

// The table of vision.md section 1.
const Target kTargets[] = {
    {480, 640, {{{336, 432, 63}, {480, 624, 130}, {672, 912, 266}, {960, 1296, 540}, {1344, 1824, 1064}}}},
    {1080, 1920, {{{288, 528, 66}, {384, 720, 120}, {576, 1056, 264}, {816, 1488, 527}, {1200, 2112, 1100}}}},
    {224, 224, {{{384, 384, 64}, {528, 528, 121}, {768, 768, 256}, {1104, 1104, 529}, {1584, 1584, 1089}}}},
    {3000, 2000, {{{480, 288, 60}, {672, 432, 126}, {960, 624, 260}, {1344, 912, 532}, {1920, 1296, 1080}}}},
    {100, 5000, {{{48, 2832, 59}, {48, 3984, 83}, {96, 5664, 236}, {144, 8016, 501}, {192, 11328, 944}}}},
    {1, 400, {{{48, 3360, 70}, {48, 6720, 140}, {48, 13440, 280}, {48, 22704, 473}, {48, 32112, 669}}}},
};

TEST(TargetSize, IsTheSpecs) {
  for (const Target& t : kTargets)
    for (size_t b = 0; b < kBudgets.size(); ++b) {
      const auto& [height, width, tokens] = t.by_budget[b];
      const PictureForm form{16, 48, kBudgets[b]};
      EXPECT_EQ(target_size(t.width, t.height, form), (PictureSize{width, height})) << t.height << " x " << t.width;
      EXPECT_EQ(target_size(t.height, t.width, form), (PictureSize{height, width}));
      EXPECT_EQ(width / 48 * (height / 48), tokens);
    }
}

TEST(TargetSize, NeverExceedsTheBudgetNorIsEmpty) {
  for (const int budget : kBudgets)
    for (int i = 1; i < 400; ++i)
      for (const int other : {1, 2, 47, 48, 49, 1000, 12'345, 65'535}) {
        const PictureSize size = target_size(i * 7, other, {16, 48, budget});
        const int tokens = size.width / 48 * (size.height / 48);
        ASSERT_TRUE(size.width % 48 == 0 && size.height % 48 == 0);
        ASSERT_GE(tokens, 1);
        ASSERT_LE(tokens, budget) << i * 7 << " x " << other;
      }
}

/// Every pixel tells where it is: x, y, and a mark.
std::vector<uint8_t> marked(int width, int height) {
  std::vector<uint8_t> out;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) out.insert(out.end(), {static_cast<uint8_t>(x), static_cast<uint8_t>(y), 7});
  return out;
}

TEST(ImageInput, PatchesAreSquaresInRasterOrder) {
  // 480 x 336 is what the budget of 70 makes of itself, so nothing is resized.
  constexpr int kWidth = 480, kHeight = 336;
  const auto pixels = marked(kWidth, kHeight);
  for (const int patch : {16, 48}) {
    const auto input = make_image_input({kWidth, kHeight, pixels}, {patch, 48, 70}, EncoderInput::Kind::kImage);
    EXPECT_EQ(input->num_tokens, 70);
    EXPECT_EQ(input->grid_width, kWidth / patch);
    EXPECT_EQ(input->grid_height, kHeight / patch);
    ASSERT_EQ(input->pixels.size(), pixels.size());
    EXPECT_TRUE(input->features.empty());
    size_t at = 0;
    for (int row = 0; row < input->grid_height; ++row)
      for (int column = 0; column < input->grid_width; ++column)
        for (int y = 0; y < patch; ++y)
          for (int x = 0; x < patch; ++x, at += 3) {
            ASSERT_EQ(input->pixels[at], static_cast<uint8_t>(column * patch + x));
            ASSERT_EQ(input->pixels[at + 1], static_cast<uint8_t>(row * patch + y));
            ASSERT_EQ(input->pixels[at + 2], 7);
          }
  }
}

TEST(ImageInput, IsResizedToItsTarget) {
  const std::vector<uint8_t> pixels(100 * 30 * 3, 99);
  const auto input = make_image_input({100, 30, pixels}, {16, 48, 140}, EncoderInput::Kind::kVideoFrame);
  const PictureSize size = target_size(100, 30, {16, 48, 140});
  EXPECT_EQ(input->kind, EncoderInput::Kind::kVideoFrame);
  EXPECT_EQ(input->grid_width * 16, size.width);
  EXPECT_EQ(input->grid_height * 16, size.height);
  EXPECT_EQ(input->num_tokens * 9, input->grid_width * input->grid_height);
  EXPECT_EQ(input->pixels,
            std::vector<uint8_t>(static_cast<size_t>(size.width) * static_cast<size_t>(size.height) * 3, 99));
}

TEST(ImageInput, LinesOfPixelsArePicturesToo) {
  const std::vector<uint8_t> line(65'535 * 3, 50);
  for (const bool tall : {false, true}) {
    const PictureView picture{tall ? 1 : 65'535, tall ? 65'535 : 1, line};
    const auto input = make_image_input(picture, {16, 48, 280}, EncoderInput::Kind::kImage);
    EXPECT_EQ(input->num_tokens, 280);
    EXPECT_EQ(tall ? input->grid_width : input->grid_height, 3);
    EXPECT_TRUE(std::ranges::all_of(input->pixels, [](uint8_t byte) { return byte == 50; }));
  }
  const std::vector<uint8_t> dot = {1, 2, 3};
  EXPECT_EQ(make_image_input({1, 1, dot}, {16, 48, 70}, EncoderInput::Kind::kImage)->num_tokens, 64);
}

TEST(ImageInput, HashesTellContentKindAndShapeApart) {
  auto pixels = marked(480, 336);
  const PictureForm form{16, 48, 70};
  const auto image = make_image_input({480, 336, pixels}, form, EncoderInput::Kind::kImage);
  EXPECT_EQ(make_image_input({480, 336, pixels}, form, EncoderInput::Kind::kImage)->hash, image->hash);
  EXPECT_NE(make_image_input({480, 336, pixels}, form, EncoderInput::Kind::kVideoFrame)->hash, image->hash);
  pixels[1000] ^= 1;
  EXPECT_NE(make_image_input({480, 336, pixels}, form, EncoderInput::Kind::kImage)->hash, image->hash);
  const std::vector<uint8_t> black(480 * 336 * 3);
  EXPECT_NE(make_image_input({480, 336, black}, form, EncoderInput::Kind::kImage)->hash,
            make_image_input({336, 480, black}, form, EncoderInput::Kind::kImage)->hash);
}

}  // namespace
}  // namespace carat
