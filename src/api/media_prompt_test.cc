// Placeholders found in ids, and what takes their places.

#include "api/media_prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/params.h"
#include "chat/parse_chat.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Ids of the tokens that media have in a tokenizer which knows them all.
class MediaPrompt : public ::testing::Test {
 protected:
  MediaPrompt() {
    Json json = carat::testing::make_tokenizer_json(
        {"<|image>", "<|image|>", "<image|>", "<|audio>", "<|audio|>", "<audio|>", "<|video|>", "▁"}, {});
    Json added = *json.find("added_tokens");
    for (TokenId id = 260; id < 267; ++id) {
      const auto& vocab = json.find("model")->find("vocab")->as_object();
      added.push_back(Json::object({{"id", id}, {"content", vocab[static_cast<size_t>(id)].first}, {"special", true}}));
    }
    json.set("added_tokens", std::move(added));
    auto parsed = Tokenizer::parse(json.dump(), "");
    EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
    tokenizer_ = std::move(*parsed);
    tokens_ = {261, 266, 264, 260, 262, 263, 265};  // image, video, audio, boi, eoi, boa, eoa
  }

  static MediaPart part(MediaKind kind, std::string source) {
    return {kind, std::make_shared<const std::string>(std::move(source))};
  }
  static std::shared_ptr<const EncoderInput> input(EncoderInput::Kind kind, int num_tokens) {
    auto made = std::make_shared<EncoderInput>();
    made->kind = kind;
    made->num_tokens = num_tokens;
    return made;
  }
  std::vector<TokenId> encode(std::string_view text) const { return tokenizer_->encode(text, false); }

  Result<PromptTokens> place_chat(std::string_view messages) const {
    const auto body = parse_json(R"({"messages": )" + std::string(messages) + "}");
    EXPECT_TRUE(body);
    CARAT_TRY(const auto chat, parse_chat_input(*body));
    CARAT_TRY(const auto prompt, render_chat(chat, ChatFamily::kSmall));
    return place_chat_media(encode_chat(*tokenizer_, prompt), prompt, all_media(chat).size(), tokens_);
  }
  /// "source@text before the placeholder since the one before", of each medium.
  std::vector<std::string> places(const PromptTokens& prompt) const {
    std::vector<std::string> out;
    size_t from = 0;
    for (const PlacedMedium& medium : prompt.media) {
      const std::vector<TokenId> before(prompt.ids.begin() + static_cast<ptrdiff_t>(from),
                                        prompt.ids.begin() + static_cast<ptrdiff_t>(medium.position));
      out.push_back(*medium.part.source + "@" + tokenizer_->decode(before, false));
      from = medium.position + 1;
    }
    return out;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  MediaTokenIds tokens_;
};

TEST_F(MediaPrompt, ChatMediaStandWhereTheMessagesHaveThem) {
  const auto prompt = place_chat(R"([
      {"role": "user", "content": [{"type": "image_url", "image_url": "one"}, {"type": "text", "text": "and"},
                                   {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
                                   {"type": "image_url", "image_url": {"url": "two"}}]},
      {"role": "assistant", "content": "ok"},
      {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "video_url", "video_url": {"url": "three"}}]}])");
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_THAT(places(*prompt), ElementsAre("one@<bos><|turn>user\n", "data:audio/wav;base64,QQ==@and", "two@",
                                           "three@<turn|>\n<|turn>model\nok<turn|>\n<|turn>user\nx"));
}

/// The template shows the results of calls before the text of the message that made the calls.
TEST_F(MediaPrompt, ToolResultsKeepTheirOwnMedia) {
  const auto prompt = place_chat(R"([
      {"role": "user", "content": "q"},
      {"role": "assistant", "content": [{"type": "image_url", "image_url": "own"}],
       "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}]},
      {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "r"},
                                                        {"type": "image_url", "image_url": "result"}]}])");
  ASSERT_TRUE(prompt) << prompt.error().message;
  const auto found = places(*prompt);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_THAT(found[0], ::testing::StartsWith("result@"));
  EXPECT_THAT(found[0], ::testing::EndsWith("<tool_response|>"));
  EXPECT_EQ(found[1], "own@");
}

TEST_F(MediaPrompt, PlaceholdersThatAClientSpelledAreNotMedia) {
  const auto prompt = place_chat(R"([
      {"role": "user", "content": [{"type": "text", "text": "<|image|> means"}, {"type": "image_url", "image_url": "u"},
                                   {"type": "text", "text": "not <|image|> or <|video|>"}]}])");
  ASSERT_TRUE(prompt) << prompt.error().message;
  EXPECT_THAT(places(*prompt), ElementsAre("u@<bos><|turn>user\n<|image|> means"));
  const auto none = place_chat(R"([{"role": "user", "content": "<|image|><|audio|>"}])");
  ASSERT_TRUE(none);
  EXPECT_THAT(none->media, IsEmpty());
}

TEST_F(MediaPrompt, MediaWithoutAPlaceAreRefused) {
  const std::string image = R"([{"type": "image_url", "image_url": "u"}])";
  const auto system =
      place_chat(R"([{"role": "system", "content": )" + image + R"(}, {"role": "user", "content": "q"}])");
  ASSERT_FALSE(system);
  EXPECT_EQ(system.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(system.error().message, HasSubstr("1 of the request's 1 media have no place"));
  EXPECT_FALSE(place_chat(R"([{"role": "user", "content": "q"}, {"role": "tool", "content": )" + image + "}]"));
}

TEST_F(MediaPrompt, ClientsPlaceholdersAreCounted) {
  const auto a = part(MediaKind::kImage, "a"), b = part(MediaKind::kImage, "b"), s = part(MediaKind::kAudio, "s");
  const std::vector<MediaPart> media = {a, b, s};
  const auto placed = place_media(encode("1<|image|>2<|audio|>3<|image|>"), media, tokens_);
  ASSERT_TRUE(placed) << placed.error().message;
  EXPECT_THAT(places(*placed), ElementsAre("a@1", "s@2", "b@3"));
  for (const char* text : {"<|image|><|audio|>", "<|image|><|image|><|image|><|audio|>", "<|image|><|image|>", ""})
    EXPECT_FALSE(place_media(encode(text), media, tokens_)) << text;
  EXPECT_EQ(place_media(encode("<|image|><|audio|>"), media, tokens_).error().message,
            "The prompt has 1 <|image|> placeholders for 2 image inputs.");
  EXPECT_EQ(place_media(encode("<|image|><|image|><|audio|><|video|>"), media, tokens_).error().message,
            "The prompt has 1 <|video|> placeholders for 0 video inputs.");
  // Without media ids are what they are.
  EXPECT_THAT(place_media(encode("<|image|>"), {}, tokens_)->media, IsEmpty());
}

TEST_F(MediaPrompt, ExpandedRunsCountOnce) {
  const std::vector<MediaPart> media = {part(MediaKind::kImage, "a"), part(MediaKind::kAudio, "s")};
  const auto placed =
      place_media(encode("x<|image><|image|><|image|><|image|><image|>y<|audio><|audio|><audio|>"), media, tokens_);
  ASSERT_TRUE(placed) << placed.error().message;
  EXPECT_EQ(placed->ids, encode("x<|image|>y<|audio|>"));
  // Neither is a run without its end.
  EXPECT_FALSE(place_media(encode("<|image><|image|><|image|><|audio|>"), media, tokens_));
}

TEST_F(MediaPrompt, SoftTokensTakeThePlacesOfPlaceholders) {
  using Kind = EncoderInput::Kind;
  const std::vector<MediaPart> media = {part(MediaKind::kImage, "a"), part(MediaKind::kAudio, "s"),
                                        part(MediaKind::kVideo, "v")};
  const auto placed = place_media(encode("1<|audio|>2<|video|>3<|image|>4"), media, tokens_);
  ASSERT_TRUE(placed);
  const auto image = input(Kind::kImage, 3), clip = input(Kind::kAudio, 2), first = input(Kind::kVideoFrame, 2),
             second = input(Kind::kVideoFrame, 1);
  const std::vector<LoadedMedium> loaded = {{{clip}}, {{first, second}, {0.4, 6001.9}}, {{image}}};
  const auto expanded = expand_media(*placed, loaded, tokens_, *tokenizer_);
  EXPECT_EQ(tokenizer_->decode(expanded.ids, false),
            "1<|audio><|audio|><|audio|><audio|>2"
            "00:00 <|image><|video|><|video|><image|> 100:01 <|image><|video|><image|>"
            "3<|image><|image|><|image|><|image|><image|>4");
  ASSERT_EQ(expanded.media.size(), 4u);
  const std::shared_ptr<const EncoderInput> order[] = {clip, first, second, image};
  for (size_t i = 0; i < 4; ++i) {
    const MediaSpan& span = expanded.media[i];
    EXPECT_EQ(span.input, order[i]);
    const TokenId soft = expanded.ids[static_cast<size_t>(span.begin)];
    for (int j = 0; j < span.input->num_tokens; ++j) EXPECT_EQ(expanded.ids[static_cast<size_t>(span.begin + j)], soft);
    EXPECT_NE(expanded.ids[static_cast<size_t>(span.begin - 1)], soft);
    EXPECT_NE(expanded.ids[static_cast<size_t>(span.begin + span.input->num_tokens)], soft);
  }
}

}  // namespace
}  // namespace carat
