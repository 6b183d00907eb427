#include "output/markers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "output/message_parser.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Marker kAll[] = {Marker::kChannelOpen,  Marker::kChannelClose,  Marker::kCallOpen, Marker::kCallClose,
                           Marker::kResponseOpen, Marker::kResponseClose, Marker::kQuote};

std::unique_ptr<Tokenizer> make_tokenizer(bool with_markers) {
  std::vector<std::string> pieces = {"call:",   "f{", "g{s:", "}", ",a:", "[", "]",
                                     "thought", "\n", "▁",    "1", "é",   "<", "|"};
  std::vector<std::string> specials = {"<|turn>", "<turn|>"};
  if (with_markers)
    for (const Marker marker : kAll) specials.emplace_back(spelling(marker));
  pieces.insert(pieces.end(), specials.begin(), specials.end());
  Json json = carat::testing::make_tokenizer_json(pieces, {});
  for (const std::string& special : specials)
    json.find("added_tokens")
        ->push_back(Json::object(
            {{"id", *json.find("model")->find("vocab")->find(special)}, {"content", special}, {"special", true}}));
  return std::move(*Tokenizer::parse(json.dump(), ""));
}

const Tokenizer& tokenizer() {
  static const auto built = make_tokenizer(true);
  return *built;
}

std::vector<TokenId> ids(const std::vector<std::string>& pieces) {
  std::vector<TokenId> out;
  for (const std::string& piece : pieces) out.push_back(tokenizer().find(piece).value());
  return out;
}

TEST(Markers, BytesAreNotUtf8) {
  for (const Marker marker : kAll) {
    EXPECT_TRUE(is_marker_byte(to_byte(marker)));
    EXPECT_EQ(to_marker(to_byte(marker)), marker);
    EXPECT_EQ(spelled(std::string(1, to_byte(marker))), spelling(marker));
  }
  EXPECT_FALSE(is_marker_byte('\xF4'));  // the first byte of the last character
}

TEST(Markers, ScannerHoldsBackWhatMayBecomeOne) {
  MarkerScanner scanner;
  std::string out;
  scanner.push("a <|tool_", out);
  EXPECT_EQ(out, "a ");
  scanner.push("call", out);
  EXPECT_EQ(out, "a ");
  scanner.push(">b<<", out);
  EXPECT_EQ(out, std::string("a ") + to_byte(Marker::kCallOpen) + "b<");
  scanner.push("x<channel|", out);
  scanner.finish(out);
  EXPECT_EQ(spelled(out), "a <|tool_call>b<<x<channel|");
  EXPECT_EQ(find_marker(out, 3), std::string::npos);
}

TEST(MarkerIds, AreTheTokenizers) {
  const MarkerIds markers(tokenizer());
  for (const Marker marker : kAll) EXPECT_EQ(markers.id(marker), tokenizer().find(spelling(marker)));
  EXPECT_EQ(markers.all().size(), static_cast<size_t>(kNumMarkers));
  const auto plain = make_tokenizer(false);
  EXPECT_EQ(MarkerIds(*plain).id(Marker::kQuote), std::nullopt);
  EXPECT_THAT(MarkerIds(*plain).all(), IsEmpty());
  EXPECT_FALSE(MarkerIds(*plain).ends_in_thought(std::vector<TokenId>{1, 2}));
}

TEST(MarkerIds, KnowWhetherAPromptEndsInAThought) {
  const MarkerIds markers(tokenizer());
  const auto ends_in_thought = [&](const std::vector<std::string>& pieces) {
    return markers.ends_in_thought(ids(pieces));
  };
  EXPECT_FALSE(ends_in_thought({}));
  EXPECT_FALSE(ends_in_thought({"1"}));
  EXPECT_TRUE(ends_in_thought({"<|channel>", "thought", "\n"}));
  EXPECT_FALSE(ends_in_thought({"<|channel>", "thought", "\n", "<channel|>"}));
  EXPECT_FALSE(ends_in_thought({"<|channel>", "1", "<turn|>"}));
  EXPECT_FALSE(ends_in_thought({"<|channel>", "1", "<|turn>", "1"}));
  EXPECT_FALSE(ends_in_thought({"<|channel>", "1", "<tool_response|>"}));
  EXPECT_TRUE(ends_in_thought({"<tool_response|>", "<|channel>", "1"}));
}

TEST(MarkerIds, TokensCountAndSpelledOnesDoNot) {
  const MarkerIds markers(tokenizer());
  TextStream stream(tokenizer(), {.markers = markers.all()});
  std::string marked;
  markers.append_marked(marked, stream.push(ids({"1", "<|channel>", "<|channel>", "é", "<|\"|>"})));
  EXPECT_EQ(marked, std::string("1") + to_byte(Marker::kChannelOpen) + to_byte(Marker::kChannelOpen) + "é" +
                        to_byte(Marker::kQuote));
}

/// The parts of a reply in steps of `step` tokens, the way of a served token.
std::vector<MessagePart> run(const TextOptions& text, const MessageParserOptions& message,
                             const std::vector<TokenId>& tokens, size_t step) {
  const MarkerIds markers(tokenizer());
  TextStream stream(tokenizer(), text);
  MessageParser parser(message);
  std::vector<MessagePart> parts;
  const auto add = [&](const TextStream::Delta& delta) {
    std::string marked;
    markers.append_marked(marked, delta);
    parser.push(marked, parts);
    return delta.matched_stop.has_value();
  };
  bool stopped = false;
  for (size_t at = 0; at < tokens.size() && !stopped; at += step)
    stopped = add(stream.push(std::span(tokens).subspan(at, std::min(step, tokens.size() - at))));
  if (!stopped) add(stream.finish());
  parser.finish(!stopped, parts);
  return parts;
}

TEST(TokensToParts, DoNotDependOnSteps) {
  std::mt19937 random(7);
  const int first = 4, last = tokenizer().vocab_size();
  const int num_bytes = 256;
  for (int round = 0; round < 3000; ++round) {
    std::vector<TokenId> tokens(random() % 40);
    for (TokenId& token : tokens) {
      token = first + static_cast<TokenId>(random() % static_cast<unsigned>(last - first));
      if (token < first + num_bytes && random() % 4 != 0)
        token = first + num_bytes + static_cast<TokenId>(random() % static_cast<unsigned>(last - first - num_bytes));
    }
    TextOptions text{.skip_special_tokens = random() % 2 == 0, .markers = MarkerIds(tokenizer()).all()};
    if (random() % 3 == 0) text.stop = {"1}", "<channel|>"};
    MessageParserOptions message;
    message.separate_reasoning = random() % 4 != 0;
    message.start = static_cast<MessageParserOptions::Start>(random() % 3);
    message.parse_calls = random() % 4 != 0;
    const auto whole = run(text, message, tokens, tokens.size() + 1);
    for (const size_t step : {1, 2, 3, 7}) EXPECT_EQ(run(text, message, tokens, step), whole) << "round " << round;
  }
}

}  // namespace
}  // namespace carat
