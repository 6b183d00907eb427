#include "server/builtin_model.h"

#include <gmock/gmock.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>
#include <fstream>

#include "config/model_config.h"
#include "server/model_source.h"
#include "tokenizer/tokenizer.h"

namespace carat {
namespace {

TEST(BuiltinModel, ConfigurationHasTheFormOfE2b) {
  const Json generation = miniature_generation_json();
  const auto config = parse_model_config(miniature_config_json(), &generation);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->text.vocab_size, kMiniatureVocabSize);
  EXPECT_GT(config->text.ple_size, 0);
  EXPECT_LT(config->text.first_shared_layer, config->text.num_layers);
  EXPECT_EQ(config->generation.eos_token_ids, (std::vector<TokenId>{1, 50, 106}));
  ASSERT_TRUE(config->vision && config->audio);
  EXPECT_EQ(config->vision->image_soft_tokens, 280);
}

TEST(BuiltinModel, TokenizerRoundTrips) {
  const auto tokenizer = Tokenizer::parse(miniature_tokenizer_json(), miniature_tokenizer_config_json());
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const std::string text = "<bos><|turn>user\nHé, 😀 two  spaces\t<turn|>\n";
  const auto ids = (*tokenizer)->encode(text);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids[1], 105);
  EXPECT_EQ((*tokenizer)->decode(ids, false), text);
  EXPECT_EQ((*tokenizer)->vocab_size(), kMiniatureVocabSize);
  EXPECT_FALSE((*tokenizer)->adds_bos());
  for (const char* special : {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|image|>"})
    EXPECT_TRUE((*tokenizer)->is_special(*(*tokenizer)->find(special))) << special;
}

TEST(BuiltinModel, TheMiniatureOpensWithoutAnyFile) {
  const std::vector<std::string> args = {std::string(kMiniatureName)};
  const auto parsed = parse_serve_command(args);
  const auto model = open_model(*parsed.options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_FALSE(model->is_default);
  EXPECT_FALSE(model->source);
  EXPECT_EQ(model->context_length, 32768);
}

TEST(BuiltinModel, TheDefaultIsNanoWhereItIsBuiltIn) {
  const auto parsed = parse_serve_command({});
  auto model = open_model(*parsed.options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->is_default);
  EXPECT_EQ(model->name, default_model_name());
  if (!find_builtin_model(kNanoName)) {
    EXPECT_EQ(model->name, kMiniatureName);
    GTEST_SKIP() << "models/nano/base had no weights when this was built";
  }
  EXPECT_EQ(model->name, kNanoName);
  EXPECT_EQ(model->family, ChatFamily::kSmall);
  EXPECT_TRUE(model->config.vision && model->config.audio);
  const Tokenizer& tokenizer = *model->tokenizer;
  EXPECT_EQ(tokenizer.vocab_size(), model->config.text.vocab_size);
  EXPECT_THAT(model->end_token_ids, testing::UnorderedElementsAre(tokenizer.eos(), tokenizer.find("<turn|>"),
                                                                  tokenizer.find("<|tool_response>")));
  ASSERT_TRUE(load_contents(*parsed.options, false, *model));
  EXPECT_EQ(model->weights->layers.size(), static_cast<size_t>(model->config.text.num_layers));
  EXPECT_TRUE(model->encoders.vision && model->encoders.audio);
}

TEST(BuiltinModel, WhereNoWeightsAreWantedTheMiniatureIsTheDefault) {
  const std::vector<std::string> args = {"--load-format", "dummy"};
  const auto model = open_model(*parse_serve_command(args).options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_TRUE(model->is_default);
  EXPECT_EQ(model->name, kMiniatureName);
}

TEST(BuiltinModel, PublishedNamesNeedNoFilesWithoutWeights) {
  const std::vector<std::string> args = {"google/gemma-4-31B-it",
                                         "--load-format",
                                         "dummy",
                                         "--context-length",
                                         "1000",
                                         "--json-model-override-args",
                                         R"({"text_config": {"sliding_window": 512}})"};
  const auto parsed = parse_serve_command(args);
  const auto model = open_model(*parsed.options);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(model->config.text.vocab_size, 262144);
  EXPECT_EQ(model->config.text.sliding_window, 512);
  EXPECT_EQ(model->context_length, 1000);
  EXPECT_EQ(model->family, ChatFamily::kBig);
}

TEST(BuiltinModel, WithoutEncodersAModelNeitherSeesNorHears) {
  std::vector<std::string> args = {"google/gemma-4-E2B-it", "--load-format", "dummy"};
  const auto whole = open_model(*parse_serve_command(args).options);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_TRUE(whole->config.vision && whole->config.audio);
  args.push_back("--language-model-only");
  const auto text = open_model(*parse_serve_command(args).options);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_FALSE(text->config.vision || text->config.audio);
}

/// The ends that a folder with these files has.
std::vector<TokenId> end_tokens(Json eos_in_config, bool has_template) {
  std::string name = (std::filesystem::temp_directory_path() / "carat_model_XXXXXX").string();
  if (!mkdtemp(name.data())) return {};
  const std::filesystem::path folder = name;
  const auto write = [&](const char* file, const std::string& text) { std::ofstream(folder / file) << text; };
  Json config = miniature_config_json();
  config.set("eos_token_id", std::move(eos_in_config));
  write("config.json", config.dump());
  write("tokenizer.json", miniature_tokenizer_json());
  write("tokenizer_config.json", miniature_tokenizer_config_json());
  if (has_template) write("chat_template.jinja", "{{ messages }}");
  const std::vector<std::string> args = {name, "--load-format", "dummy"};
  const auto model = open_model(*parse_serve_command(args).options);
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(model) << (model ? "" : model.error().message);
  return model ? model->end_token_ids : std::vector<TokenId>();
}

TEST(EndTokens, ChatModelsStopAtTurnsAndTools) {
  EXPECT_THAT(end_tokens(Json::array({1, 106}), true), testing::UnorderedElementsAre(1, 50, 106));
  EXPECT_THAT(end_tokens(Json::array({1, 106}), false), testing::UnorderedElementsAre(1, 50, 106));
  EXPECT_THAT(end_tokens(1, true), testing::UnorderedElementsAre(1, 50, 106));
}

TEST(EndTokens, BaseModelsStopAtTheEndOfTheText) { EXPECT_THAT(end_tokens(1, false), testing::ElementsAre(1)); }

TEST(BuiltinModel, Refusals) {
  const auto error_of = [](std::vector<std::string> args) {
    const auto model = open_model(*parse_serve_command(args).options);
    return model ? std::string() : model.error().message;
  };
  EXPECT_NE(error_of({"no/such-model"}), "");
  EXPECT_NE(error_of({std::string(kMiniatureName), "--context-length", "100k"}).find("above the configuration's 32768"),
            std::string::npos);
  EXPECT_NE(error_of({"--json-model-override-args", R"({"text_config": {"num_hidden_layers": "x"}})"}), "");
  EXPECT_NE(error_of({"--chat-template", "/no/such/file"}).find("can't open"), std::string::npos);
}

TEST(MergeJson, ObjectsMemberByMember) {
  Json config = *parse_json(R"({"a": {"b": 1, "c": 2}, "d": [1]})");
  merge_json(config, *parse_json(R"({"a": {"c": 3, "e": 4}, "d": 5})"));
  EXPECT_EQ(config.dump(), R"({"a":{"b":1,"c":3,"e":4},"d":5})");
}

}  // namespace
}  // namespace carat
