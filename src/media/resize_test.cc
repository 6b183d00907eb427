#include "media/resize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "base/str.h"

namespace carat {
namespace {

using testing::Each;
using testing::ElementsAre;

using Pixels = std::vector<uint8_t>;

Pixels resized(const Pixels& pixels, int width, int height, int out_width, int out_height) {
  Pixels out(static_cast<size_t>(out_width) * static_cast<size_t>(out_height) * 3);
  resize_bicubic({width, height, pixels}, out_width, out_height, out);
  return out;
}

/// A row of grey pixels.
Pixels grey(std::initializer_list<int> values) {
  Pixels out;
  for (const int value : values) out.insert(out.end(), 3, static_cast<uint8_t>(value));
  return out;
}

TEST(ResizeBicubic, TheSameSizeIsACopy) {
  const Pixels pixels = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(resized(pixels, 2, 1, 2, 1), pixels);
}

TEST(ResizeBicubic, OneColourStays) {
  for (const int value : {0, 1, 127, 254, 255})
    EXPECT_THAT(resized(Pixels(13 * 7 * 3, static_cast<uint8_t>(value)), 13, 7, 48, 96), Each(value));
}

TEST(ResizeBicubic, ASlopeOfFourGrows) {
  const Pixels row = grey({0, 100, 200, 255});
  const Pixels wide = resized(row, 4, 1, 8, 1), tall = resized(row, 1, 4, 1, 8);
  EXPECT_EQ(wide, tall);  // the axes are alike
  Pixels first;
  for (size_t i = 0; i < wide.size(); i += 3) first.push_back(wide[i]);
  EXPECT_THAT(first, ElementsAre(0, 17, 71, 126, 178, 219, 247, 255));
}

// Half the size: pixel 1 lies at 3.0, so of the white pixels those at distances 1.5, 2.5, 3.5 reach it, with
// (cubic(0.75) + cubic(1.25) + cubic(1.75)) / 2 = 0.0664.
TEST(ResizeBicubic, AnEdgeBecomesSofter) {
  EXPECT_EQ(resized(grey({0, 0, 0, 0, 255, 255, 255, 255}), 8, 1, 4, 1), grey({0, 17, 238, 255}));
}

TEST(ResizeBicubic, WhatOvershootsIsClamped) {
  EXPECT_EQ(resized(grey({0, 0, 0, 0, 255, 255, 255, 255}), 8, 1, 16, 1),
            grey({0, 0, 0, 0, 0, 0, 0, 52, 203, 255, 255, 255, 255, 255, 255, 255}));
}

TEST(ResizeBicubic, ColoursDoNotMix) {
  Pixels pixels(31 * 17 * 3);
  for (size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = i % 3 == 0 ? 200 : i % 3 == 1 ? static_cast<uint8_t>(i * i) : 10;
  const Pixels out = resized(pixels, 31, 17, 20, 29);
  for (size_t i = 0; i < out.size(); i += 3) {
    EXPECT_EQ(out[i], 200);
    EXPECT_EQ(out[i + 2], 10);
  }
}

// ---- against torchvision: tests/golden/make_resize_golden.py

uint8_t noise(uint64_t i, uint64_t seed) {
  uint64_t x = (seed + i + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return static_cast<uint8_t>((x ^ (x >> 31)) >> 56);
}

Pixels picture(int width, int height, const std::string& kind, uint64_t seed) {
  Pixels out;
  const int s = static_cast<int>(seed % 420);  // of which 4, 5, 6 and 7 are divisors
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        if (kind == "noise")
          out.push_back(noise(out.size(), seed));
        else if (kind == "slope")
          out.push_back(static_cast<uint8_t>((x * (3 + s % 5) + y * (2 + s % 7)) / 4 + 85 * c));
        else
          out.push_back((x / (1 + s % 6) + y / (1 + s % 4) + c) % 2 ? 255 : 0);
      }
  return out;
}

TEST(ResizeBicubic, EqualsTorchvisionAt200Sizes) {
  std::ifstream file(CARAT_SOURCE_DIR "/tests/golden/resize.txt");
  ASSERT_TRUE(file);
  int count = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream in(line);
    int width = 0, height = 0, out_width = 0, out_height = 0;
    uint64_t seed = 0;
    std::string kind, digest;
    in >> width >> height >> out_width >> out_height >> kind >> seed >> digest;
    const Pixels out = resized(picture(width, height, kind, seed), width, height, out_width, out_height);
    EXPECT_EQ(sha256_hex({reinterpret_cast<const char*>(out.data()), out.size()}), digest) << line;
    ++count;
  }
  EXPECT_EQ(count, 200);
}

}  // namespace
}  // namespace carat
