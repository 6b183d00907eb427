#include "sampling/grammar/counted_text.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/json.h"
#include "base/str.h"
#include "base/utf8.h"
#include "sampling/constraint_testing.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

/// Special tokens, all bytes, and some words.
struct Vocabulary {
  static constexpr TokenId kBytes = 8;
  std::vector<std::string> pieces;
  Vocabulary() : pieces(8) {
    for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
    for (const char* piece :
         {"ab", "abcd", "\\n", "\xC3\xA9t\xC3\xA9", "x\"", "yz\"}", "w\",", "\"}", "\",", "ab\\", "\\u00e9"})
      pieces.emplace_back(piece);
  }
  TokenId at(std::string_view piece) const {
    const auto found = std::ranges::find(pieces, piece);
    return found == pieces.end() ? -1 : static_cast<TokenId>(found - pieces.begin());
  }
  int size() const { return static_cast<int>(pieces.size()); }
};

const Vocabulary& vocabulary() {
  static const Vocabulary it;
  return it;
}

TEST(TextTokens, CountCharacters) {
  const TextTokens json(vocabulary().pieces, TextStyle::kJson), plain(vocabulary().pieces, TextStyle::kPlain);
  const auto lengths = [&](std::string_view piece) {
    const TokenId t = vocabulary().at(piece);
    return std::pair(json.length(t), plain.length(t));
  };
  EXPECT_EQ(lengths("abcd"), std::pair(4, 4));
  EXPECT_EQ(lengths("\xC3\xA9t\xC3\xA9"), std::pair(3, 3));
  EXPECT_EQ(lengths("\\n"), std::pair(1, 2)) << "an escape";
  EXPECT_EQ(lengths("\\u00e9"), std::pair(0, 6));
  EXPECT_EQ(lengths("ab\\"), std::pair(0, 3)) << "half of an escape";
  EXPECT_EQ(lengths("\n"), std::pair(0, 1));
  EXPECT_EQ(lengths("\""), std::pair(0, 1));
  EXPECT_EQ(lengths(std::string_view("\0", 1)), std::pair(0, 0));
  EXPECT_EQ(lengths("\xC3"), std::pair(0, 0));
  EXPECT_EQ(json.length(0), 0) << "special tokens";
  EXPECT_TRUE(plain.closers().empty());
  ASSERT_EQ(json.closers().size(), 3u);
  EXPECT_EQ(json.closers().at(vocabulary().at("yz\"}")).rest, vocabulary().at("\"}"));
  EXPECT_EQ(json.closers().at(vocabulary().at("yz\"}")).length, 2);
  EXPECT_TRUE(mask_has(json.up_to(2), vocabulary().at("ab")));
  EXPECT_FALSE(mask_has(json.up_to(3), vocabulary().at("abcd")));
  EXPECT_TRUE(mask_has(json.up_to(1 << 30), vocabulary().at("abcd")));
}

TEST(TextCount, BytesMakeWholeCharacters) {
  const TextTokens tokens(vocabulary().pieces, TextStyle::kJson);
  TextCount text(tokens, {1, 2});
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
  const auto byte = [](int value) { return Vocabulary::kBytes + value; };
  EXPECT_FALSE(text.may_end(0));
  EXPECT_FALSE(text.accept(byte(0x80)) || text.accept(byte(0xC0)) || text.accept(byte(0xF5)));
  ASSERT_TRUE(text.accept(byte(0xED)));
  EXPECT_FALSE(text.accept(vocabulary().at("ab")) || text.accept(byte(0xA0))) << "would be a surrogate";
  text.add_to(mask);
  EXPECT_TRUE(mask_has(mask, byte(0x80)) && mask_has(mask, byte(0x9F)));
  EXPECT_FALSE(mask_has(mask, byte(0xA0)) || mask_has(mask, byte('a')));
  ASSERT_TRUE(text.accept(byte(0x9F)));
  EXPECT_FALSE(text.may_end(0));
  ASSERT_TRUE(text.accept(byte(0xBF)));
  EXPECT_TRUE(text.may_end(0) && text.may_end(1));
  EXPECT_FALSE(text.may_end(2) || text.accept(vocabulary().at("ab")));
  EXPECT_TRUE(text.accept(vocabulary().at("\\n")));
  EXPECT_FALSE(text.accept(byte(0xC3))) << "full";
}

TEST(TextCount, EscapesMayBeTwoTokens) {
  const TextTokens tokens(vocabulary().pieces, TextStyle::kJson);
  TextCount text(tokens, {1, 1});
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
  ASSERT_TRUE(text.accept(vocabulary().at("\\")));
  text.add_to(mask);
  int allowed = 0;
  for (TokenId t = 0; t < vocabulary().size(); ++t) allowed += mask_has(mask, t);
  EXPECT_EQ(allowed, 8);
  EXPECT_FALSE(text.accept(vocabulary().at("u")) || text.accept(vocabulary().at("ab")) || text.may_end(0));
  ASSERT_TRUE(text.accept(vocabulary().at("\"")));
  EXPECT_TRUE(text.may_end(0));
  EXPECT_FALSE(text.accept(vocabulary().at("\\"))) << "full";
}

TEST(TextTokens, WithoutAllBytesNoneIsUsed) {
  std::vector<std::string> pieces = vocabulary().pieces;
  pieces[static_cast<size_t>(Vocabulary::kBytes) + 0x90].clear();
  const TextTokens tokens(pieces, TextStyle::kPlain);
  EXPECT_EQ(tokens.byte(0xC3), std::nullopt);
  EXPECT_FALSE(TextCount(tokens, {}).accept(Vocabulary::kBytes + 0xC3)) << "it might never be whole";
}

/// Random answers under the mask, read by a JSON parser.
TEST(CountedTexts, AnswersKeepTheirBounds) {
  GrammarVocabulary words{vocabulary().pieces, std::nullopt, std::nullopt};
  GrammarCompiler compiler(words, {.any_whitespace = false, .timeout = std::chrono::minutes(5)});
  struct Case {
    std::string schema;
    int64_t least, most;
  };
  const auto bounds = [](int64_t least, int64_t most) {
    return Case{str_cat(R"({"type":"string","minLength":)", least, R"(,"maxLength":)", most, "}"), least, most};
  };
  std::vector<Case> cases{bounds(0, 0), bounds(0, 1), bounds(2, 3), bounds(17, 40), bounds(100, 100)};
  cases.push_back(
      {R"({"anyOf":[{"type":"string","maxLength":2},{"type":"string","minLength":9,"maxLength":12},{"const":"abab"}]})",
       0, 12});
  for (const Case& c : cases) {
    const auto grammar = compiler.compile_now(
        {GrammarSource::Kind::kJsonSchema,
         str_cat(R"({"type":"object","properties":{"k":{"type":"array","minItems":3,"maxItems":3,"items":)", c.schema,
                 R"(}},"required":["k"]})")});
    ASSERT_TRUE(grammar) << grammar.error().message;
    std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
    for (uint64_t seed = 0; seed < 40; ++seed) {
      std::mt19937_64 random(seed);
      GrammarMatcher matcher(**grammar);
      std::string text;
      while (!matcher.complete()) {
        matcher.fill_mask(mask);
        std::vector<TokenId> allowed;
        for (TokenId t = 0; t < vocabulary().size(); ++t) {
          if (mask_has(mask, t)) allowed.push_back(t);
          // What the mask leaves out is not accepted either; tried on few, for each try may change nothing.
          if (!mask_has(mask, t) && random() % 64 == 0) {
            ASSERT_FALSE(matcher.accept(t)) << text << " + " << vocabulary().pieces[static_cast<size_t>(t)];
          }
        }
        ASSERT_FALSE(allowed.empty()) << text;
        // Ends are rare among the tokens; take them when they are there half of the time.
        TokenId token = allowed[random() % allowed.size()];
        for (const TokenId t : allowed)
          if (vocabulary().pieces[static_cast<size_t>(t)].find('"') != std::string::npos && random() % 4 == 0)
            token = t;
        ASSERT_TRUE(matcher.accept(token)) << text;
        text += vocabulary().pieces[static_cast<size_t>(token)];
      }
      const auto json = parse_json(text);
      ASSERT_TRUE(json) << text;
      ASSERT_EQ(json->find("k")->size(), 3u);
      for (const Json& item : json->find("k")->as_array()) {
        const auto length = static_cast<int64_t>(utf8_length(item.as_string()));
        EXPECT_TRUE(length >= c.least && length <= c.most) << text;
        const bool alternatives = c.schema.starts_with(R"({"anyOf)");
        EXPECT_TRUE(!alternatives || length <= 2 || length >= 9 || item.as_string() == "abab") << text;
      }
    }
  }
}

TEST(CountedTexts, StringsOfCallsAreCountedToo) {
  using V = testing::SmallVocabulary;
  const V small;
  GrammarCompiler compiler(small.grammar(), {.timeout = std::chrono::minutes(5)});
  const auto grammar = compiler.compile_now(
      {GrammarSource::Kind::kCalls,
       R"([{"name":"f","parameters":{"properties":{"a":{"type":"string","minLength":2,"maxLength":30}},"required":["a"]}}])"});
  ASSERT_TRUE(grammar);
  const auto fits = [&](std::string_view text) {
    GrammarMatcher matcher(**grammar);
    for (const char c : text)
      if (!matcher.accept(c == '~' ? V::kMark : c == '$' ? V::kCallClose : small.at(c))) return false;
    return matcher.complete();
  };
  EXPECT_TRUE(fits(str_cat("call:f{a:~", std::string(30, '"'), "~}$")));
  EXPECT_TRUE(fits("call:f{a:~{}~}$"));
  EXPECT_FALSE(fits("call:f{a:~x~}$"));
  EXPECT_FALSE(fits(str_cat("call:f{a:~", std::string(31, 'x'), "~}$")));
}

TEST(CountedTexts, KindsAreBounded) {
  GrammarCompiler compiler({vocabulary().pieces, std::nullopt, std::nullopt}, {.timeout = std::chrono::minutes(5)});
  const auto schema = [](int kinds) {
    std::string out = R"({"type":"object","properties":{)";
    for (int i = 0; i < kinds; ++i)
      out += str_cat(i > 0 ? "," : "", "\"k", i, R"(":{"type":"string","maxLength":)", i, "}");
    return out + "}}";
  };
  EXPECT_TRUE(compiler.compile_now({GrammarSource::Kind::kJsonSchema, schema(256)}));
  const auto over = compiler.compile_now({GrammarSource::Kind::kJsonSchema, schema(257)});
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().message, "strings may have 256 different bounds of their length");
}

}  // namespace
}  // namespace carat
