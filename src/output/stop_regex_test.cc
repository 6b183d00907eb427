#include "output/stop_regex.h"

#include <gmock/gmock.h>

#include <random>

#include "base/str.h"

namespace carat {
namespace {

using ::testing::HasSubstr;

struct Told {
  std::string text;  ///< what was certain, and cut before the match
  std::optional<std::string> matched;
  size_t most_held = 0;
};

Told run(const std::vector<std::string>& patterns, const std::vector<std::string>& pieces) {
  auto regexes = StopRegexes::compile(patterns);
  EXPECT_TRUE(regexes) << (regexes ? "" : regexes.error().message);
  StopRegexSearch search(*regexes);
  Told told;
  std::string held;
  for (const std::string& piece : pieces) {
    held += piece;
    if (const auto match = search.feed(piece)) {
      EXPECT_LE(match->num_bytes, held.size()) << "nothing of the match was given out";
      told.text += held.substr(0, held.size() - match->num_bytes);
      told.matched = match->pattern;
      return told;
    }
    EXPECT_LE(search.num_held(), held.size());
    told.text += held.substr(0, held.size() - search.num_held());
    held.erase(0, held.size() - search.num_held());
    told.most_held = std::max(told.most_held, held.size());
  }
  told.text += held;
  return told;
}

std::vector<std::string> letters(std::string_view text) {
  std::vector<std::string> out;
  for (const char c : text) {
    if (!out.empty() && (static_cast<unsigned char>(c) & 0xc0) == 0x80)
      out.back() += c;
    else
      out.emplace_back(1, c);
  }
  return out;
}

std::string error(const std::vector<std::string>& patterns) {
  const auto regexes = StopRegexes::compile(patterns);
  return regexes ? "" : regexes.error().message;
}

TEST(StopRegex, MatchesAreCutAndBeginningsHeldBack) {
  const auto told = run({R"(\n+User:)"}, letters("Hello\n\nUser: hi"));
  EXPECT_EQ(told.text, "Hello");
  EXPECT_EQ(told.matched, R"(\n+User:)");
  const auto none = run({R"(\n+User:)"}, letters("Hello\nUs and\n them"));
  EXPECT_EQ(none.text, "Hello\nUs and\n them");
  EXPECT_FALSE(none.matched);
  EXPECT_EQ(none.most_held, 3u) << "only what may become a match";
}

TEST(StopRegex, TheFirstOfTheListWins) {
  EXPECT_EQ(run({"b+", "a"}, {"xab"}).matched, "b+");
  EXPECT_EQ(run({"b+", "a"}, {"xab"}).text, "xa");
  EXPECT_EQ(run({"b+", "a"}, letters("xab")).matched, "a") << "it is complete earlier";
}

TEST(StopRegex, WhatWasGivenOutStillCounts) {
  EXPECT_EQ(run({R"(\bcat)"}, letters("concat cat")).text, "concat ");
  EXPECT_FALSE(run({"^b"}, letters("ab")).matched);
  EXPECT_EQ(run({"(?m)^b"}, letters("a\nb")).text, "a\n");
  EXPECT_EQ(run({"(?i)stop"}, letters("no sTo sTOP")).text, "no sTo ");
}

TEST(StopRegex, CharactersAreWhole) {
  EXPECT_EQ(run({"é+!"}, letters("caféé!")).text, "caf");
  EXPECT_EQ(run({"[à-ü]x"}, letters("éé€x")).text, "éé€x");
}

TEST(StopRegex, Limits) {
  EXPECT_EQ(error({std::string(256, 'a')}), "");
  EXPECT_EQ(error({std::string(257, 'a')}), "stop_regex is 257 bytes, over the 256-byte limit");
  EXPECT_EQ(error(std::vector<std::string>(32, "a")), "");
  EXPECT_EQ(error(std::vector<std::string>(33, "a")), "at most 32 stop_regex patterns are allowed, got 33");
  for (const char* bad : {"(", "a**", R"((a)\1)", "(?=a)", "a{1001}", "(((a{100}){100}){100})"})
    EXPECT_THAT(error({bad}), HasSubstr("is not supported: ")) << bad;
  // A match that never ends is not waited for without end.
  const auto told = run({"a.*b"}, std::vector<std::string>(100, std::string(100, 'a')));
  EXPECT_EQ(told.text.size(), 10000u);
  EXPECT_EQ(told.most_held, StopRegexes::kMaxHeld);
}

TEST(StopRegex, PrefixPatterns) {
  EXPECT_EQ(prefix_pattern("ab"), "(?:(?:a?|ab?))");
  EXPECT_EQ(prefix_pattern("a+|b{2,3}"), "(?:a*a?|b{0,2}b?)");
  EXPECT_EQ(prefix_pattern("(?i)(x)?"), "(?i)(?:(?:(?:x?)))");
  EXPECT_EQ(prefix_pattern("a(?i)b"), std::nullopt);
  EXPECT_EQ(prefix_pattern(R"(\Qa.b\E)"), std::nullopt);
  EXPECT_EQ(run({R"(\Qa.b\E)"}, letters("xxa.b")).text, "xx") << "then all is held back";
}

/// A random pattern over few letters.
std::string draw(std::mt19937& random, int depth) {
  const auto pick = [&](std::initializer_list<const char*> of) {
    return std::string(of.begin()[random() % of.size()]);
  };
  std::string out;
  for (size_t i = 1 + random() % 3; i > 0; --i) {
    std::string item =
        depth > 0 && random() % 3 == 0
            ? str_cat(pick({"(", "(?:", "(?i:", "(?P<n>"}), draw(random, depth - 1), ")")
            : pick({"a", "b", "c", "[ab]", "[^a]", ".", R"(\n)", R"(\w)", R"(\b)", "é", R"(\x62)", "[]a]"});
    out += item + pick({"", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "+?"});
  }
  return random() % 4 == 0 ? str_cat(out, "|", depth > 0 ? draw(random, depth - 1) : "") : out;
}

TEST(StopRegex, RandomPatternsAreNeverSeenInPart) {
  std::mt19937 random(1);
  int matched = 0;
  for (int round = 0; round < 8000; ++round) {
    const std::string pattern = draw(random, 2);
    if (pattern.size() > StopRegexes::kMaxBytes || !StopRegexes::compile({pattern})) continue;
    std::string text;
    for (size_t i = random() % 12; i > 0; --i)
      text += std::vector<std::string>{"a", "b", "c", "\n", "é", "A"}[random() % 6];
    const auto regexes = StopRegexes::compile({pattern});
    // The truth: the shortest beginning of the text that has a match, cut there.
    std::string expected = text;
    bool found = false;
    std::string so_far;
    for (const std::string& letter : letters(text)) {
      so_far += letter;
      const auto match = (*regexes)->find(so_far, 0);
      if (!match) continue;
      expected = so_far.substr(0, match->begin);
      found = true;
      break;
    }
    const auto told = run({pattern}, letters(text));
    ASSERT_EQ(told.text, expected) << pattern << " in " << text;
    ASSERT_EQ(told.matched.has_value(), found) << pattern << " in " << text;
    matched += found;
  }
  EXPECT_GT(matched, 1000);
}

}  // namespace
}  // namespace carat
