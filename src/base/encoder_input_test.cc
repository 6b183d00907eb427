#include "base/encoder_input.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace carat {
namespace {

EncoderInput sample() {
  EncoderInput input;
  input.num_tokens = 3;
  input.pixels = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  input.grid_width = input.grid_height = 2;
  input.features = {0.5f, -1.0f, 2.0f};
  input.num_frames = 3;
  return input;
}

TEST(ContentHash, IsTheSameForTheSameContent) {
  EncoderInput other = sample();
  other.hash = {7, 7};
  EXPECT_EQ(content_hash(sample()), content_hash(other));
}

TEST(ContentHash, ChangesWithEveryField) {
  const std::function<void(EncoderInput&)> changes[] = {
      [](EncoderInput&) {},
      [](EncoderInput& i) { i.kind = EncoderInput::Kind::kVideoFrame; },
      [](EncoderInput& i) { i.num_tokens = 4; },
      [](EncoderInput& i) { i.grid_width = 1; },
      [](EncoderInput& i) { i.grid_height = 1; },
      [](EncoderInput& i) { i.num_frames = 2; },
      [](EncoderInput& i) { i.pixels.back() = 10; },
      [](EncoderInput& i) { i.pixels.push_back(0); },
      [](EncoderInput& i) { i.pixels.clear(); },
      [](EncoderInput& i) { i.features[1] = 1.0f; },
      [](EncoderInput& i) { i.features.push_back(0); },
  };
  std::set<std::array<uint64_t, 2>> seen;
  std::set<uint64_t> halves;
  for (const auto& change : changes) {
    EncoderInput input = sample();
    change(input);
    const auto hash = content_hash(input);
    EXPECT_TRUE(seen.insert(hash).second);
    halves.insert(hash.begin(), hash.end());
  }
  EXPECT_EQ(halves.size(), 2 * seen.size()) << "both halves tell on their own";
}

}  // namespace
}  // namespace carat
