#include "output/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace carat {
namespace {

struct Found {
  size_t stop, end;
};

/// The plain truth: the shortest prefix of `text` that ends in a stop string.
std::optional<Found> first_stop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end)
    for (size_t i = 0; i < stops.size(); ++i)
      if (text.substr(0, end).ends_with(stops[i])) return Found{i, end};
  return std::nullopt;
}

size_t longest_open_suffix(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t length = text.size(); length > 0; --length)
    for (const std::string& stop : stops)
      if (length < stop.size() && stop.starts_with(text.substr(text.size() - length))) return length;
  return 0;
}

TEST(StopMatcher, NoStops) {
  StopMatcher matcher({});
  EXPECT_FALSE(matcher.feed("anything"));
  EXPECT_EQ(matcher.num_held(), 0u);
  EXPECT_TRUE(matcher.empty());
}

TEST(StopMatcher, HoldsTheLongestSuffixThatBeginsAStop) {
  StopMatcher matcher({"abab!", "bx"});
  EXPECT_FALSE(matcher.feed("zabab"));
  EXPECT_EQ(matcher.num_held(), 4u);
  EXPECT_FALSE(matcher.feed("a"));
  EXPECT_EQ(matcher.num_held(), 3u);  // "aba", after "zab"
  EXPECT_FALSE(matcher.feed("z"));
  EXPECT_EQ(matcher.num_held(), 0u);
}

TEST(StopMatcher, TheFirstToEndWins) {
  StopMatcher longer_first({"abc", "b"});
  const auto match = longer_first.feed("xabc");
  ASSERT_TRUE(match);
  EXPECT_EQ(match->stop, 1u);
  EXPECT_EQ(match->end, 3u);
  // Of two that end together, the first of the list.
  EXPECT_EQ(StopMatcher({"ab", "b"}).feed("ab")->stop, 0u);
  EXPECT_EQ(StopMatcher({"b", "ab"}).feed("ab")->stop, 0u);
}

TEST(StopMatcher, EqualsThePlainTruthAtEveryCut) {
  std::mt19937 random(3);
  const auto word = [&](size_t max) {
    std::string out(1 + random() % max, 'a');
    for (char& c : out) c = static_cast<char>('a' + random() % 2);
    return out;
  };
  int num_found = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = 0, n = 1 + random() % 4; i < n; ++i) stops.push_back(word(7));
    const std::string text = word(24);
    const auto wanted = first_stop(text, stops);
    num_found += wanted.has_value();
    StopMatcher matcher(stops);
    std::optional<Found> found;
    for (size_t at = 0; at < text.size() && !found;) {
      const size_t size = 1 + random() % 5;
      if (const auto match = matcher.feed(std::string_view(text).substr(at, size)))
        found = Found{match->stop, at + match->end};
      else
        EXPECT_EQ(matcher.num_held(), longest_open_suffix(text.substr(0, at + size), stops));
      at += size;
    }
    ASSERT_EQ(found.has_value(), wanted.has_value()) << text;
    if (!wanted) continue;
    ASSERT_EQ(found->stop, wanted->stop) << text;
    ASSERT_EQ(found->end, wanted->end) << text;
  }
  EXPECT_GT(num_found, 5000);
}

}  // namespace
}  // namespace carat
