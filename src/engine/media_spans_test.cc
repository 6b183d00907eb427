#include "engine/media_spans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace carat {
namespace {

using Kind = EncoderInput::Kind;

MediaSpan span_of(Kind kind, int begin, int num_tokens, uint64_t hash = 1) {
  auto input = std::make_shared<EncoderInput>();
  input->kind = kind;
  input->hash = {hash, hash + 1};
  input->num_tokens = num_tokens;
  return {begin, input};
}

/// Text [0, 3), image [3, 7), frame [7, 8), text, sound [10, 20).
std::vector<MediaSpan> example() {
  return {span_of(Kind::kImage, 3, 4), span_of(Kind::kVideoFrame, 7, 1), span_of(Kind::kAudio, 10, 10)};
}

TEST(MediaSpans, Within) {
  const auto media = example();
  const auto begins = [&](int begin, int end) {
    std::vector<int> out;
    for (const MediaSpan& span : spans_within(media, begin, end)) out.push_back(span.begin);
    return out;
  };
  EXPECT_EQ(begins(0, 3), std::vector<int>{});
  EXPECT_EQ(begins(0, 4), std::vector<int>{3});
  EXPECT_EQ(begins(6, 7), std::vector<int>{3});
  EXPECT_EQ(begins(7, 8), std::vector<int>{7});
  EXPECT_EQ(begins(6, 11), (std::vector<int>{3, 7, 10}));
  EXPECT_EQ(begins(8, 10), std::vector<int>{});
  EXPECT_EQ(begins(19, 40), std::vector<int>{10});
  EXPECT_EQ(begins(20, 40), std::vector<int>{});
  EXPECT_TRUE(spans_within({}, 0, 5).empty());
}

TEST(MediaSpans, SlicesEndOutsideOfBlocks) {
  const auto media = example();
  EXPECT_EQ(uncut_end(media, 0, 3), 3);
  for (const int end : {4, 5, 6}) EXPECT_EQ(uncut_end(media, 0, end), 3) << "before the image";
  EXPECT_EQ(uncut_end(media, 0, 7), 7) << "between two blocks";
  EXPECT_EQ(uncut_end(media, 3, 6), 3) << "nothing fits";
  EXPECT_EQ(uncut_end(media, 5, 6), 5) << "nothing of the rest fits";
  EXPECT_EQ(uncut_end(media, 5, 7), 7);
  EXPECT_EQ(uncut_end(media, 7, 8), 8);
  EXPECT_EQ(uncut_end(media, 8, 15), 15) << "sound may be cut";
  EXPECT_EQ(smallest_slice(media, 2), 1);
  EXPECT_EQ(smallest_slice(media, 3), 4);
  EXPECT_EQ(smallest_slice(media, 6), 1);
  EXPECT_EQ(smallest_slice(media, 10), 1);
  for (int begin = 0; begin < 25; ++begin)
    EXPECT_EQ(uncut_end(media, begin, begin + smallest_slice(media, begin)), begin + smallest_slice(media, begin));
}

TEST(MediaSpans, CacheIdsNameTheContent) {
  std::vector<TokenId> prompt(20);
  std::iota(prompt.begin(), prompt.end(), 100);
  const auto ids = cache_ids(prompt, example());
  std::set<TokenId> distinct;
  for (int i = 0; i < 20; ++i) {
    const bool text = i < 3 || (i >= 8 && i < 10);
    EXPECT_EQ(ids[static_cast<size_t>(i)] < 0, !text);
    if (text) {
      EXPECT_EQ(ids[static_cast<size_t>(i)], 100 + i);
    }
    distinct.insert(ids[static_cast<size_t>(i)]);
  }
  // Image, frame and clip have one hash here: ids differ by place in the item, and equal places are equal.
  EXPECT_EQ(distinct.size(), 20u - 4 - 1);
  EXPECT_EQ(ids[3], ids[7]);
  EXPECT_EQ(ids, cache_ids(std::vector<TokenId>(prompt), example()));
  for (const auto& other : {span_of(Kind::kImage, 3, 4, 9), span_of(Kind::kImage, 4, 4)}) {
    const auto moved = cache_ids(prompt, std::vector{other});
    EXPECT_NE(moved[4], ids[4]) << "other content, or another place in it";
  }
}

}  // namespace
}  // namespace carat
