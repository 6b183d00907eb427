// What holds for every request, drawn at random with fixed seeds.

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "chat/body_generator.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

size_t count(const std::string& text, const std::string& piece) {
  size_t n = 0;
  for (size_t at = text.find(piece); at != std::string::npos; at = text.find(piece, at + piece.size())) ++n;
  return n;
}

std::vector<uint8_t> random_bytes(std::mt19937& random, size_t size) {
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(ChatProperty, AnyBodyIsAnsweredOrRefused) {
  std::mt19937 random(1);
  int accepted = 0, rendered = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto input = parse_chat_input(BodyGenerator(random_bytes(random, 300)).body());
    if (!input) continue;
    ++accepted;
    const auto big = render_chat(*input, ChatFamily::kBig), small = render_chat(*input, ChatFamily::kSmall);
    ASSERT_EQ(big.has_value(), small.has_value());
    if (!big) continue;
    ++rendered;
    ASSERT_TRUE(big->text.starts_with(small->text));
    ASSERT_TRUE(is_valid_utf8(big->text));
    ASSERT_EQ(big->continuation, small->continuation);
  }
  EXPECT_GT(accepted, 4000);  // else the generator has gone astray
  EXPECT_GT(rendered, accepted * 9 / 10);
}

/// Texts of a plain chat: words without markers.
std::string words(std::mt19937& random) {
  std::string out;
  for (size_t i = 0, n = random() % 5; i < n; ++i) out += i % 2 ? "word " : " né\n";
  return out;
}

TEST(ChatProperty, TurnsOfPlainChatsAreBalanced) {
  std::mt19937 random(2);
  for (int i = 0; i < 5000; ++i) {
    ChatInput input;
    for (size_t k = 0, n = random() % 12; k < n; ++k) {
      ChatMessage message;
      message.role = std::array{ChatRole::kUser, ChatRole::kAssistant, ChatRole::kSystem}[random() % 3];
      message.content = words(random);
      if (random() % 2) message.reasoning_content = words(random);
      if (message.role == ChatRole::kUser) message.reasoning_content.clear();
      input.messages.push_back(message);
    }
    input.options.enable_thinking = random() % 2;
    input.options.preserve_thinking = random() % 2;
    const auto prompt = render_chat(input, random() % 2 ? ChatFamily::kBig : ChatFamily::kSmall);
    ASSERT_TRUE(prompt);
    const std::string& text = prompt->text;
    // Every turn is closed but the one that the reply begins, and turns do not nest.
    ASSERT_EQ(count(text, "<|turn>"), count(text, "<turn|>\n") + 1) << text;
    ASSERT_EQ(count(text, "<turn|>\n<|turn>") + 1, count(text, "<|turn>")) << text;
    ASSERT_EQ(count(text, "<|channel>"), count(text, "<channel|>")) << text;
    ASSERT_EQ(count(text, "<bos>"), 1u);
  }
}

/// The template looks ahead and back; the renderer must not take quadratic time for it.
TEST(ChatProperty, LongConversations) {
  ChatInput input;
  for (int i = 0; i < 16000; ++i) {
    ChatMessage message;
    message.role = i == 0 ? ChatRole::kAssistant : ChatRole::kTool;
    message.tool_call_id = std::to_string(i);
    message.content = std::string("r");
    if (i == 0)
      for (int k = 0; k < 16000; ++k)
        message.tool_calls.push_back({std::to_string(k), "f" + std::to_string(k), Json()});
    input.messages.push_back(std::move(message));
  }
  const auto prompt = render_chat(input, ChatFamily::kBig);
  ASSERT_TRUE(prompt);
  EXPECT_NE(prompt->text.find("response:f15999{"), std::string::npos);
}

}  // namespace
}  // namespace carat
