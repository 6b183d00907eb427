#include "engine/soft_token_cache.h"

#include <gtest/gtest.h>

#include <random>

namespace carat {
namespace {

EncoderInput item(uint64_t hash, int num_tokens) {
  EncoderInput input;
  input.hash = {hash, ~hash};
  input.num_tokens = num_tokens;
  return input;
}

TEST(SoftTokenCache, KeepsWhatWasUsedLast) {
  SoftTokenCache cache(10);
  const auto ask = [&](uint64_t hash, int num_tokens) {
    cache.release();
    return cache.find_or_take(item(hash, num_tokens)).value();
  };
  EXPECT_TRUE(ask(1, 4).fresh);
  EXPECT_TRUE(ask(2, 4).fresh);
  EXPECT_FALSE(ask(1, 4).fresh);
  EXPECT_TRUE(ask(3, 2).fresh) << "there is still room";
  EXPECT_TRUE(ask(4, 3).fresh) << "item 2 goes";
  EXPECT_FALSE(ask(1, 4).fresh);
  EXPECT_FALSE(ask(3, 2).fresh);
  EXPECT_TRUE(ask(2, 4).fresh);
  EXPECT_TRUE(ask(5, 10).fresh) << "an item as large as the arena";
  EXPECT_EQ(cache.num_items(), 1);
  EXPECT_EQ(ask(5, 10).row, 0);
}

TEST(SoftTokenCache, NothingIsTakenThatIsStillToBeRead) {
  SoftTokenCache cache(10);
  const int first = cache.find_or_take(item(1, 6)).value().row;
  EXPECT_FALSE(cache.find_or_take(item(2, 5)));
  const auto again = cache.find_or_take(item(1, 6));
  ASSERT_TRUE(again);
  EXPECT_FALSE(again->fresh);
  EXPECT_EQ(again->row, first);
  EXPECT_TRUE(cache.find_or_take(item(3, 4)).value().fresh);
  cache.release();
  EXPECT_TRUE(cache.find_or_take(item(2, 5)).value().fresh);
}

TEST(SoftTokenCache, RowsBelongToOneItem) {
  std::mt19937 random(1);
  SoftTokenCache cache(50);
  std::vector<uint64_t> owner(50, 0);
  std::vector<bool> to_be_read(50, false);
  int hits = 0;
  for (int i = 0; i < 5000; ++i) {
    if (random() % 4 == 0) {
      cache.release();
      to_be_read.assign(50, false);
    }
    const uint64_t hash = 1 + random() % 12;
    const int count = 1 + static_cast<int>(hash * hash) % 23;
    const auto place = cache.find_or_take(item(hash, count));
    if (!place) continue;
    ASSERT_LE(place->row + count, 50);
    for (int row = place->row; row < place->row + count; ++row) {
      const auto r = static_cast<size_t>(row);
      if (place->fresh) {
        ASSERT_FALSE(to_be_read[r]);
        owner[r] = hash;
      }
      ASSERT_EQ(owner[r], hash) << "nobody else wrote there since";
      to_be_read[r] = true;
    }
    hits += !place->fresh;
  }
  EXPECT_GT(hits, 500);
}

}  // namespace
}  // namespace carat
