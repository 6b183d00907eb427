#include "output/text_stream.h"

#include <gmock/gmock.h>

#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "output/token_text.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

using ::testing::ElementsAre;

/// Letters, some words, and the special tokens <turn|>, <|channel> and <channel|>.
class TextStreamTest : public ::testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const auto built = [] {
      std::vector<std::string> pieces = {"ab", "abc", "▁the",    "▁",          "é",         "STOP",
                                         "ST", "OP",  "<turn|>", "<|channel>", "<channel|>"};
      for (char c = 'a'; c <= 'z'; ++c) pieces.emplace_back(1, c);
      Json json = carat::testing::make_tokenizer_json(pieces, {});
      for (const char* special : {"<turn|>", "<|channel>", "<channel|>"}) {
        const auto& vocab = *json.find("model")->find("vocab");
        json.find("added_tokens")
            ->push_back(Json::object({{"id", *vocab.find(special)}, {"content", special}, {"special", true}}));
      }
      auto parsed = Tokenizer::parse(json.dump(), "");
      EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
      return std::move(*parsed);
    }();
    return *built;
  }

  static TokenId id(const std::string& piece) { return tokenizer().find(piece).value(); }
  static std::vector<TokenId> ids(const std::vector<std::string>& pieces) {
    std::vector<TokenId> out;
    for (const std::string& piece : pieces) out.push_back(id(piece));
    return out;
  }

  struct Told {
    std::string text;
    std::vector<TextStream::Marker> markers;  // offsets in the whole text
    int num_tokens = 0;
    std::optional<std::string> matched_stop;
    bool operator==(const Told&) const = default;
  };
  static void add(Told& told, const TextStream::Delta& delta) {
    for (const auto& marker : delta.markers) told.markers.push_back({told.text.size() + marker.offset, marker.id});
    told.text += delta.text;
    told.num_tokens += delta.num_tokens;
    if (delta.matched_stop) told.matched_stop = delta.matched_stop;
  }
  /// Pushes `tokens` in pieces that end at `cuts`, then finishes.
  static Told run(const std::vector<TokenId>& tokens, const TextOptions& options, const std::vector<size_t>& cuts = {},
                  std::optional<TokenId> end_token = std::nullopt) {
    TextStream stream(tokenizer(), options);
    Told told;
    size_t at = 0;
    std::vector<size_t> ends = cuts;
    ends.push_back(tokens.size());
    for (const size_t end : ends) {
      add(told, stream.push(std::span(tokens).subspan(at, end - at)));
      if (told.matched_stop) return told;
      at = end;
    }
    add(told, stream.finish(end_token));
    return told;
  }
};

TEST_F(TextStreamTest, PlainText) {
  TextStream stream(tokenizer(), {});
  const auto tokens = ids({"a", "▁the", "é"});
  const auto delta = stream.push(tokens);
  EXPECT_EQ(delta.text, "a theé");
  EXPECT_EQ(delta.num_tokens, 3);
  EXPECT_FALSE(delta.matched_stop);
  EXPECT_EQ(stream.push({}).text, "");
  EXPECT_EQ(stream.finish().text, "");
}

TEST_F(TextStreamTest, CharactersAreNeverCut) {
  TextStream stream(tokenizer(), {});
  EXPECT_EQ(stream.push(ids({"<0xE2>"})).text, "");
  EXPECT_EQ(stream.push(ids({"<0x82>", "<0xAC>"})).text, "");
  EXPECT_EQ(stream.push(ids({"a"})).text, "€a");
  EXPECT_EQ(stream.push(ids({"<0xE2>"})).text, "");
  EXPECT_EQ(stream.finish().text, "\xEF\xBF\xBD");
}

TEST_F(TextStreamTest, SpecialTokens) {
  const auto tokens = ids({"a", "<|channel>", "b", "<turn|>"});
  EXPECT_EQ(run(tokens, {}).text, "ab");
  EXPECT_EQ(run(tokens, {.skip_special_tokens = false}).text, "a<|channel>b<turn|>");
}

TEST_F(TextStreamTest, LengthLimitOutweighsAStopString) {
  TextStream stream(tokenizer(), {.stop = {"STOP"}});
  EXPECT_EQ(stream.push(ids({"a", "ST"})).text, "a");
  const auto delta = stream.finish_at_limit(id("OP"));
  EXPECT_EQ(delta.text, "STOP");
  EXPECT_EQ(delta.num_tokens, 1);
  EXPECT_FALSE(delta.matched_stop);
  TextStream bytes(tokenizer(), {.stop = {"\xEF\xBF\xBD"}});
  EXPECT_EQ(bytes.finish_at_limit(id("<0xE2>")).text, "\xEF\xBF\xBD");
  EXPECT_EQ(TextStream(tokenizer(), {}).finish_at_limit(id("<turn|>")).text, "");
}

TEST_F(TextStreamTest, StopStringIsCutAndNothingOfItIsShown) {
  TextStream stream(tokenizer(), {.stop = {"STOP"}});
  EXPECT_EQ(stream.push(ids({"a", "ST"})).text, "a");
  EXPECT_EQ(stream.push(ids({"ST"})).text, "ST");
  const auto tokens = ids({"OP", "b"});
  const auto delta = stream.push(tokens);
  EXPECT_EQ(delta.text, "");
  EXPECT_EQ(delta.num_tokens, 1);
  EXPECT_EQ(delta.matched_stop, "STOP");
}

TEST_F(TextStreamTest, HeldTextComesWhenItIsDecided) {
  TextStream stream(tokenizer(), {.stop = {"abcd", "cx"}});
  EXPECT_EQ(stream.push(ids({"abc"})).text, "");
  EXPECT_EQ(stream.push(ids({"c"})).text, "abc");
  EXPECT_EQ(stream.push(ids({"a"})).text, "c");
  EXPECT_EQ(stream.finish().text, "a");
}

TEST_F(TextStreamTest, StopInsideAToken) {
  const auto told = run(ids({"a", "abc", "z"}), {.stop = {"b"}});
  EXPECT_EQ(told.text, "aa");
  EXPECT_EQ(told.num_tokens, 2);
  EXPECT_EQ(told.matched_stop, "b");
  // The whole token stays with no_stop_trim, as in SGLang.
  EXPECT_EQ(run(ids({"a", "abc", "z"}), {.stop = {"b"}, .no_stop_trim = true}).text, "aabc");
}

TEST_F(TextStreamTest, StopStringMayNameASkippedToken) {
  const auto tokens = ids({"a", "<channel|>", "b"});
  const auto told = run(tokens, {.stop = {"<channel|>"}});
  EXPECT_EQ(told.text, "a");
  EXPECT_EQ(told.num_tokens, 2);
  EXPECT_EQ(told.matched_stop, "<channel|>");
  EXPECT_EQ(run(tokens, {.stop = {"<channel|>b"}}).matched_stop, "<channel|>b");
  EXPECT_EQ(run(tokens, {.stop = {"a<channel|>"}, .no_stop_trim = true}).text, "a");
  // Begun but not completed, the token stays hidden and the text is whole.
  EXPECT_EQ(run(tokens, {.stop = {"<channel|>x", "nel|>bc"}}).text, "ab");
}

TEST_F(TextStreamTest, EndToken) {
  const auto tokens = ids({"a"});
  EXPECT_EQ(run(tokens, {.skip_special_tokens = false}, {}, id("<turn|>")).text, "a");
  EXPECT_EQ(run(tokens, {.skip_special_tokens = false, .no_stop_trim = true}, {}, id("<turn|>")).text, "a<turn|>");
  EXPECT_EQ(run(tokens, {.no_stop_trim = true}, {}, id("<turn|>")).text, "a");
  EXPECT_EQ(run(tokens, {}, {}, id("b")).text, "a");
  EXPECT_EQ(run(tokens, {.no_stop_trim = true}, {}, id("b")).text, "ab");
  // A stop string that it completes outweighs it.
  const auto told = run(tokens, {.stop = {"ab"}}, {}, id("b"));
  EXPECT_EQ(told.text, "");
  EXPECT_EQ(told.matched_stop, "ab");
  EXPECT_EQ(run(tokens, {.stop = {"<turn|>"}}, {}, id("<turn|>")).matched_stop, "<turn|>");
  // Held text is given out when it does not.
  EXPECT_EQ(run(ids({"z", "ab"}), {.stop = {"abx"}}, {}, id("<turn|>")).text, "zab");
}

TEST_F(TextStreamTest, MarkersAreReportedInPlace) {
  const TextOptions options{.skip_special_tokens = false, .markers = {id("<|channel>"), id("<channel|>")}};
  const auto tokens = ids({"a", "<|channel>", "abc", "<channel|>", "<channel|>", "z", "<turn|>"});
  TextStream stream(tokenizer(), options);
  const auto delta = stream.push(tokens);
  EXPECT_EQ(delta.text, "aabcz<turn|>");
  EXPECT_THAT(delta.markers,
              ElementsAre(TextStream::Marker{1, id("<|channel>")}, TextStream::Marker{4, id("<channel|>")},
                          TextStream::Marker{4, id("<channel|>")}));
  // A stop string may run across one; until it is decided the marker waits with the text.
  TextOptions with_stop = options;
  with_stop.stop = {"a<|channel>x"};
  TextStream held(tokenizer(), with_stop);
  EXPECT_TRUE(held.push(ids({"a", "<|channel>"})).markers.empty());
  const auto rest = held.push(ids({"b"}));
  EXPECT_EQ(rest.text, "ab");
  EXPECT_THAT(rest.markers, ElementsAre(TextStream::Marker{1, id("<|channel>")}));
  // No character goes on behind a marker.
  EXPECT_EQ(run(ids({"<0xE2>", "<|channel>", "<0x82>", "a"}), options).text,
            "\xEF\xBF\xBD\xEF\xBF\xBD"
            "a");
}

TEST_F(TextStreamTest, DoesNotDependOnTheCalls) {
  std::mt19937 random(7);
  const std::vector<std::string> pieces = {"a",          "b",      "c",      "ab",    "abc",     "▁the",
                                           "é",          "STOP",   "ST",     "OP",    "<turn|>", "<|channel>",
                                           "<channel|>", "<0xE2>", "<0x82>", "<0xAC>"};
  const std::vector<std::string> stop_list = {"STOP", "abab", "ab", "ca", "b the", "<turn|>a", "éé", "€", "cS", "l><"};
  int num_stopped = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<TokenId> tokens;
    for (size_t i = 0, n = random() % 12; i < n; ++i) tokens.push_back(id(pieces[random() % pieces.size()]));
    TextOptions options;
    options.skip_special_tokens = random() % 2;
    options.no_stop_trim = random() % 4 == 0;
    if (random() % 2) options.markers = {id("<|channel>"), id("<channel|>")};
    for (size_t i = 0, n = random() % 3; i < n; ++i) options.stop.push_back(stop_list[random() % stop_list.size()]);
    const auto end = random() % 3 == 0 ? std::optional(id("<turn|>")) : std::nullopt;

    const Told whole = run(tokens, options, {}, end);
    num_stopped += whole.matched_stop.has_value();
    ASSERT_TRUE(is_valid_utf8(whole.text));
    for (size_t a = 0; a <= tokens.size(); ++a)
      for (size_t b = a; b <= tokens.size(); ++b) ASSERT_EQ(run(tokens, options, {a, b}, end), whole);
    std::vector<size_t> each;
    for (size_t i = 0; i < tokens.size(); ++i) each.push_back(i);
    ASSERT_EQ(run(tokens, options, each, end), whole);

    options.markers.clear();
    options.stop.clear();
    options.no_stop_trim = false;
    ASSERT_EQ(run(tokens, options).text, tokenizer().decode(tokens, options.skip_special_tokens));
  }
  EXPECT_GT(num_stopped, 300);
}

TEST_F(TextStreamTest, Validate) {
  const auto verdict = [](std::vector<std::string> stop) {
    const auto valid = validate(TextOptions{.stop = std::move(stop)});
    return valid ? std::string("good") : valid.error().message;
  };
  EXPECT_EQ(verdict({}), "good");
  EXPECT_EQ(verdict(std::vector<std::string>(32, "x")), "good");
  EXPECT_EQ(verdict(std::vector<std::string>(33, "x")), "at most 32 stop strings are allowed, got 33");
  EXPECT_EQ(verdict({"x", ""}), "a stop string must not be empty");
  EXPECT_EQ(verdict({std::string(4096, 'x')}), "good");
  EXPECT_EQ(verdict({std::string(4097, 'x')}), "a stop string is 4097 bytes, over the 4096-byte limit");
}

TEST_F(TextStreamTest, TokenText) {
  EXPECT_EQ(token_text(tokenizer(), id("▁the")).text, " the");
  EXPECT_EQ(token_text(tokenizer(), id("▁the")).bytes, " the");
  EXPECT_EQ(token_text(tokenizer(), id("<0xE2>")).text, "\xEF\xBF\xBD");
  EXPECT_EQ(token_text(tokenizer(), id("<0xE2>")).bytes, "\xE2");
  EXPECT_EQ(token_text(tokenizer(), id("<0x41>")).text, "A");
  EXPECT_EQ(token_text(tokenizer(), id("<turn|>")).text, "<turn|>");
  EXPECT_EQ(token_text(tokenizer(), id("<turn|>")).bytes, "<turn|>");
  EXPECT_EQ(token_text(tokenizer(), -1).text, "");
  EXPECT_EQ(token_text(tokenizer(), 1 << 30).bytes, "");
  std::string out;
  append_byte_list(out, "");
  append_byte_list(out, "\xE2\x01");
  EXPECT_EQ(out, "[][226,1]");
}

}  // namespace
}  // namespace carat
