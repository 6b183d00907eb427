// A video's place in a prompt against Transformers: the ids of a chat with one, times and markers included. Needs what
// oracle_test.cc needs.

#include <gtest/gtest.h>

#include <cstdlib>

#include "api/media_loader.h"
#include "base/str.h"
#include "chat/parse_chat.h"
#include "chat/template_check.h"
#include "golden_file.h"
#include "media/image_input.h"

namespace carat {
namespace {

using testing::GoldenFile;

class PromptOracleTest : public ::testing::TestWithParam<const char*> {};

/// The 32 frames of the reference's case, which has eight of them a second.
LoadedMedium frames_of(const GoldenFile& golden, const ModelConfig& config) {
  const auto shape = golden.shape("video/video.0.raw");  // [frames, height, width, 3]
  const PictureForm form{config.vision->patch_size(), VisionConfig::kTokenSize, config.vision->frame_soft_tokens};
  const PictureSize size = target_size(static_cast<int>(shape[2]), static_cast<int>(shape[1]), form);
  auto frame = std::make_shared<EncoderInput>();
  frame->kind = EncoderInput::Kind::kVideoFrame;
  frame->num_tokens = size.width / form.token_size * (size.height / form.token_size);
  LoadedMedium out;
  for (int i = 0; i < shape[0]; ++i) {
    out.inputs.push_back(frame);
    out.seconds.push_back(i / 8.0);
  }
  return out;
}

TEST_P(PromptOracleTest, VideoPromptsHaveTheSameIds) {
  const char* folder = std::getenv("CARAT_ORACLE_DIR");
  if (!folder) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set: no comparison with Transformers' tensors";
  const std::string checkpoint = str_cat(folder, "/ck/", GetParam());
  const auto config = load_model_config(checkpoint);
  ASSERT_TRUE(config) << config.error().message;
  const auto tokenizer = Tokenizer::load(checkpoint);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const GoldenFile golden(str_cat(folder, "/golden/", GetParam(), "-video.safetensors"));
  const auto chat_template = load_chat_template(checkpoint, (*tokenizer)->chat_template());
  ASSERT_TRUE(chat_template) << chat_template.error().message;
  const ChatFamily family = check_chat_template(*chat_template, ChatFamily::kSmall).family;

  const auto chat = parse_chat_input(*parse_json(R"({"messages": [{"role": "user", "content": [
      {"type": "video_url", "video_url": "v"}, {"type": "text", "text": "What moves?"}]}]})"));
  const auto rendered = render_chat(*chat, family);
  const auto placed = place_chat_media(encode_chat(**tokenizer, *rendered), *rendered, 1, config->media);
  ASSERT_TRUE(placed) << placed.error().message;
  const LoadedMedium video = frames_of(golden, *config);
  const auto prompt = expand_media(*placed, std::span(&video, 1), config->media, **tokenizer);

  EXPECT_EQ(prompt.ids, golden.ints("video/input_ids"));
}

INSTANTIATE_TEST_SUITE_P(Members, PromptOracleTest, ::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                         [](const auto& member) {
                           std::string name = member.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace carat
