#include "weights/inspect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>

#include "config/text_tensors.h"
#include "weights/test_support.h"
#include "weights/vision_weights.h"

namespace carat {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing_support::encoder_file;
using testing_support::small_seeing_config;
using testing_support::small_spec;
using testing_support::TempFolder;

TEST(Inspect, WholeCheckpoint) {
  TempFolder folder;
  const ModelConfig config = make_model_config(small_spec("E2B"));
  ASSERT_TRUE(write_checkpoint(folder.path(), config, **make_dummy_text_weights(config, 1), 100'000));
  folder.write("tokenizer.json", "{}");
  folder.write("chat_template.jinja", "");
  const auto report = inspect_model(folder.path().string());
  ASSERT_TRUE(report) << report.error().message;
  for (const char* text :
       {"custom (gemma4", "10: 8 sliding (window 16), 2 full; 5 read the K/V", "feed-forward 48 and 96",
        "end tokens 1, 50, 106", "BF16 x", "model-00001-of-", "every text tensor", "tokenizer.json", "per token beyond",
        "a sequence of 131,072", "available, text weights take"})
    EXPECT_THAT(*report, HasSubstr(text));
  EXPECT_THAT(*report, Not(HasSubstr("Problem")));
}

TEST(Inspect, ProblemsAreReported) {
  TempFolder folder;
  const ModelConfig config = make_model_config(small_spec("12B"));
  folder.write("config.json", config.raw.dump());
  auto report = inspect_model(folder.path().string());
  ASSERT_TRUE(report) << report.error().message;
  for (const char* text :
       {"none that can be read", "model.safetensors", "--load-format dummy", "tokenizer.json is missing",
        "chat_template.jinja is missing", "generation_config.json is missing"})
    EXPECT_THAT(*report, HasSubstr(text));
  folder.write("model.safetensors", "12345678");
  report = inspect_model(folder.path().string());
  ASSERT_TRUE(report);
  EXPECT_THAT(*report, HasSubstr("Problem"));
  folder.write("config.json", "{}");
  EXPECT_FALSE(inspect_model(folder.path().string()));
  EXPECT_FALSE(inspect_model("nowhere/to-be-found"));
}

TEST(Inspect, EncodersAreLookedFor) {
  TempFolder folder;
  const ModelConfig config = small_seeing_config("12B");
  const auto text = make_dummy_text_weights(config, 1).value();
  ASSERT_TRUE(write_checkpoint(folder.path(), config, *text));
  folder.write("config.json", to_config_json(config).dump());
  auto report = inspect_model(folder.path().string());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(*report, HasSubstr("no vision encoder: pictures are refused"));
  EXPECT_THAT(*report, HasSubstr("no audio encoder: sound is refused"));
  EXPECT_THAT(*report, Not(HasSubstr("every encoder tensor")));

  // Beside the decoder's shard one with the vision encoder.
  std::deque<Bf16> scalars;
  VisionWeights vision = *make_dummy_vision_weights(config, 1).value();
  auto tensors = encoder_file(vision_tensors(*config.vision, config.text.hidden_size), vision_slots(vision), scalars);
  const auto write_both = [&] {
    ASSERT_TRUE(write_safetensors(folder / "vision.safetensors", tensors));
    Json map = Json::object();
    for (const NamedTensor& t : tensors) map.set(t.name, "vision.safetensors");
    for (const TextTensor& t : text_tensors(config.text))
      if (t.used()) map.set("model.language_model." + t.name, "text.safetensors");
    folder.write("model.safetensors.index.json", Json::object({{"weight_map", std::move(map)}}).dump());
  };
  std::filesystem::rename(folder / "model.safetensors", folder / "text.safetensors");
  write_both();
  report = inspect_model(folder.path().string());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(*report, HasSubstr("every encoder tensor"));
  EXPECT_THAT(*report, HasSubstr("no audio encoder"));
  tensors.pop_back();
  write_both();
  report = inspect_model(folder.path().string());
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(*report, HasSubstr("\"model.embed_vision.embedding_projection.weight\" is missing"));
}

TEST(Inspect, BuiltInConfiguration) {
  const auto report = inspect_model("google/gemma-4-26B-A4B-it");
  ASSERT_TRUE(report) << report.error().message;
  for (const char* text :
       {"26B-A4B (gemma4", "128 experts of 704 (top 8)", "45,675,970,560", "51,611,872,412", "7,645,066,812", "vision"})
    EXPECT_THAT(*report, HasSubstr(text));
}

}  // namespace
}  // namespace carat
