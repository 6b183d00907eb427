#include "config/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdlib.h>  // mkdtemp

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/str.h"
#include "config/members.h"

namespace carat {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

MemberSpec small_moe() {
  MemberSpec spec = published_member("26B-A4B");
  spec.hidden_size = 64;
  spec.intermediate_size = 96;
  spec.num_layers = 6;
  spec.num_heads = 4;
  spec.num_kv_heads = 2;
  spec.num_global_kv_heads = 1;
  spec.moe = {.num_experts = 8, .top_k = 2, .intermediate_size = 16};
  spec.vocab_size = 512;
  return spec;
}

void expect_same(const ModelConfig& a, const ModelConfig& b) {
  EXPECT_EQ(a.model_type, b.model_type);
  EXPECT_EQ(a.architectures, b.architectures);
  EXPECT_EQ(a.variant, b.variant);
  EXPECT_TRUE(a.vision == b.vision);
  EXPECT_TRUE(a.audio == b.audio);
  EXPECT_TRUE(a.text == b.text);
  EXPECT_TRUE(a.generation == b.generation);
  EXPECT_TRUE(a.media == b.media);
}

// ---- the table of members

TEST(Members, EveryPublishedNameHasAConfigurationThatParses) {
  const auto names = builtin_model_names();
  EXPECT_EQ(names.size(), 20u);
  for (const std::string& name : names) {
    const auto config = builtin_model_config(name);
    ASSERT_TRUE(config) << name;
    EXPECT_THAT(name, HasSubstr(config->variant + (name.find("-it") != std::string::npos ? "-it" : "")));
    for (const ConfigLayout layout : {ConfigLayout::kPublished, ConfigLayout::kPerLayer}) {
      const Json generation = to_generation_json(config->generation);
      const auto parsed = parse_model_config(to_config_json(*config, layout), &generation);
      ASSERT_TRUE(parsed) << name << ": " << parsed.error().message;
      expect_same(*parsed, *config);
    }
  }
  EXPECT_FALSE(builtin_model_config("google/gemma-4-E2B-it-assistant"));
  EXPECT_FALSE(builtin_model_config("gemma-4-E2B-it"));
  EXPECT_FALSE(builtin_model_config(""));
}

TEST(Members, LayersOfE2b) {
  const TextConfig t = builtin_model_config("google/gemma-4-E2B-it")->text;
  ASSERT_EQ(t.layers.size(), 35u);
  EXPECT_EQ(t.first_shared_layer, 15);
  for (int i = 0; i < 35; ++i) {
    const LayerConfig& l = t.layers[static_cast<size_t>(i)];
    const bool full = i % 5 == 4;
    EXPECT_EQ(l.kind == AttentionKind::kFull, full);
    EXPECT_EQ(l.head_dim, full ? 512 : 256);
    EXPECT_EQ(l.num_kv_heads, 1);
    EXPECT_FALSE(l.k_is_v);
    EXPECT_EQ(l.kv_source, i < 15 ? i : full ? 14 : 13);
    EXPECT_EQ(l.intermediate_size, i < 15 ? 6144 : 12288);
  }
  EXPECT_EQ(t.rope_full.partial_rotary_factor, 0.25);
  EXPECT_FALSE(t.bidirectional_vision);
}

TEST(Members, LayersOf31b) {
  const TextConfig t = builtin_model_config("google/gemma-4-31B")->text;
  EXPECT_EQ(t.layers[5].num_kv_heads, 4);
  EXPECT_TRUE(t.layers[5].k_is_v);
  EXPECT_EQ(t.layers[4].num_kv_heads, 16);
  EXPECT_FALSE(t.layers[4].k_is_v);
  EXPECT_EQ(t.layers[59].kv_source, 59);
  EXPECT_TRUE(t.bidirectional_vision);
}

TEST(Members, EndTokensAndSuppression) {
  EXPECT_THAT(builtin_model_config("google/gemma-4-E4B-it")->generation.eos_token_ids, ElementsAre(1, 50, 106));
  EXPECT_THAT(builtin_model_config("google/gemma-4-E4B")->generation.eos_token_ids, ElementsAre(1));
  EXPECT_THAT(builtin_model_config("google/gemma-4-12B")->generation.suppress_token_ids, ElementsAre(258883, 258882));
  EXPECT_THAT(builtin_model_config("google/gemma-4-31B-it")->generation.suppress_token_ids, ElementsAre());
}

TEST(Members, SmallModelsAreCustom) {
  const ModelConfig config = make_model_config(small_moe());
  EXPECT_EQ(config.variant, "custom");
  EXPECT_EQ(config.media.video, 511);
  const auto parsed = parse_model_config(config.raw, nullptr);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_TRUE(parsed->text == config.text);
}

// ---- reading

TEST(ParseModelConfig, EndTokensAreTheUnionOfBothFiles) {
  Json config = make_model_config(small_moe()).raw;
  config.set("eos_token_id", Json::array({1, 106}));
  const Json generation = Json::object({{"eos_token_id", Json::array({106, 50})}, {"temperature", 0.7}, {"top_k", 5}});
  auto parsed = parse_model_config(config, &generation);
  ASSERT_TRUE(parsed);
  EXPECT_THAT(parsed->generation.eos_token_ids, ElementsAre(1, 50, 106));
  EXPECT_EQ(parsed->generation.temperature, 0.7);
  EXPECT_EQ(parsed->generation.top_k, 5);
  EXPECT_FALSE(parsed->generation.top_p);
  // The text part speaks only where nothing else does.
  config.find("text_config")->set("eos_token_id", 7);
  parsed = parse_model_config(config, nullptr);
  EXPECT_THAT(parsed->generation.eos_token_ids, ElementsAre(1, 106));
  config.erase("eos_token_id");
  parsed = parse_model_config(config, nullptr);
  EXPECT_THAT(parsed->generation.eos_token_ids, ElementsAre(7));
}

TEST(ParseModelConfig, StaleGlobalHeadsAreIgnoredWithoutKEqV) {
  Json config = make_model_config(published_member("E2B")).raw;
  config.find("text_config")->set("num_global_key_value_heads", 3);
  const auto parsed = parse_model_config(config, nullptr);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->variant, "E2B");
}

TEST(ParseModelConfig, TextOnlyCheckpoint) {
  for (const char* name : {"E2B", "12B"}) {
    ModelConfig config = make_model_config(published_member(name));
    config.model_type += "_text";
    const auto parsed = parse_model_config(to_config_json(config), nullptr);
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_TRUE(parsed->text == config.text);
    EXPECT_FALSE(parsed->vision);
    EXPECT_EQ(parsed->variant, name);
  }
}

TEST(ParseModelConfig, AbsentKeysTakeTheClassDefaults) {
  const auto parsed = parse_model_config(
      *parse_json(R"({"model_type":"gemma4_text","vocab_size":512,"hidden_size":64,"intermediate_size":64,
        "num_hidden_layers":12,"num_attention_heads":4,"num_key_value_heads":2})"),
      nullptr);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->text.layers[5].kind, AttentionKind::kFull);
  EXPECT_EQ(parsed->text.layers[5].head_dim, 512);
  EXPECT_EQ(parsed->text.layers[4].head_dim, 256);
  EXPECT_EQ(parsed->text.sliding_window, 512);
  EXPECT_EQ(parsed->text.ple_size, 256);
  EXPECT_EQ(parsed->text.final_logit_softcapping, 0);
  EXPECT_TRUE(parsed->generation.eos_token_ids.empty());
}

TEST(ParseModelConfig, NullBidirectionalAttentionIsCausalAlsoInUnifiedModels) {
  Json config = make_model_config(published_member("12B")).raw;
  config.find("text_config")->set("use_bidirectional_attention", Json());
  EXPECT_FALSE(parse_model_config(config, nullptr)->text.bidirectional_vision);
  config.find("text_config")->erase("use_bidirectional_attention");
  EXPECT_TRUE(parse_model_config(config, nullptr)->text.bidirectional_vision);
}

// ---- refusals: each changes one key of a good configuration

struct Refusal {
  std::string key;   // in text_config unless it starts with '/'
  std::string json;  // "" erases the key
  Errc code;
  std::vector<std::string> says;
};

class Refusals : public testing::TestWithParam<Refusal> {};

TEST_P(Refusals, NameKeyValueAndWhatIsAllowed) {
  const Refusal& c = GetParam();
  Json config = make_model_config(small_moe()).raw;
  Json* target = &config;
  std::string key = c.key;
  if (key[0] == '/')
    key = key.substr(1);
  else
    target = config.find("text_config");
  if (c.json.empty())
    target->erase(key);
  else
    target->set(key, *parse_json(c.json));
  if (key == "vocab_size_per_layer_input") target->set("hidden_size_per_layer_input", 16);
  const auto parsed = parse_model_config(config, nullptr);
  ASSERT_FALSE(parsed) << c.key << " = " << c.json;
  EXPECT_EQ(parsed.error().code, c.code) << parsed.error().message;
  EXPECT_THAT(parsed.error().message, HasSubstr("config.json"));
  EXPECT_THAT(parsed.error().message, HasSubstr(key));
  for (const std::string& text : c.says) EXPECT_THAT(parsed.error().message, HasSubstr(text));
}

INSTANTIATE_TEST_SUITE_P(
    Values, Refusals,
    testing::Values(
        Refusal{"hidden_size", "", Errc::kInvalidArgument, {"missing", "from 1 to"}},
        Refusal{"hidden_size", "0", Errc::kInvalidArgument, {"is 0", "from 1 to"}},
        Refusal{"hidden_size", "-64", Errc::kInvalidArgument, {"-64"}},
        Refusal{"hidden_size", "1e300", Errc::kInvalidArgument, {}},
        Refusal{"hidden_size", "64.5", Errc::kInvalidArgument, {"64.5"}},
        Refusal{"hidden_size", "\"64\"", Errc::kInvalidArgument, {"\"64\""}},
        Refusal{"hidden_size", "9223372036854775808", Errc::kInvalidArgument, {"9223372036854775808"}},
        Refusal{"hidden_size", "[64]", Errc::kInvalidArgument, {"an array of 1"}},
        Refusal{"vocab_size", "1000000000", Errc::kInvalidArgument, {"1000000000"}},
        Refusal{"num_hidden_layers", "100000", Errc::kInvalidArgument, {"1024"}},
        Refusal{"num_hidden_layers", "0", Errc::kInvalidArgument, {}},
        Refusal{"intermediate_size", "0", Errc::kInvalidArgument, {}},
        Refusal{"num_attention_heads", "0", Errc::kInvalidArgument, {}},
        Refusal{"num_attention_heads", "3", Errc::kInvalidArgument, {"multiple of the 2"}},
        Refusal{"num_key_value_heads", "0", Errc::kInvalidArgument, {}},
        Refusal{"num_global_key_value_heads", "0", Errc::kInvalidArgument, {}},
        Refusal{"head_dim", "0", Errc::kInvalidArgument, {}},
        Refusal{"head_dim", "33", Errc::kInvalidArgument, {"odd"}},
        Refusal{"global_head_dim", "1000000", Errc::kInvalidArgument, {}},
        Refusal{"layer_types", "\"full_attention\"", Errc::kInvalidArgument, {"array"}},
        Refusal{"layer_types", R"(["full_attention"])", Errc::kInvalidArgument, {"num_hidden_layers = 6"}},
        Refusal{"layer_types",
                R"(["full_attention","full_attention","full_attention","full_attention","chunked","full_attention"])",
                Errc::kUnsupported,
                {"chunked", "sliding_attention"}},
        Refusal{"layer_types",
                R"(["full_attention","full_attention","full_attention","full_attention",1,"full_attention"])",
                Errc::kUnsupported,
                {}},
        Refusal{
            "layer_types",
            R"(["full_attention","full_attention","full_attention","full_attention","full_attention","sliding_attention"])",
            Errc::kInvalidArgument,
            {"last layer"}},
        Refusal{"sliding_window", "0", Errc::kInvalidArgument, {"from 1 to"}},
        Refusal{"num_kv_shared_layers", "6", Errc::kInvalidArgument, {"0 to 5"}},
        Refusal{"num_kv_shared_layers", "-1", Errc::kInvalidArgument, {}},
        Refusal{"num_kv_shared_layers", "1", Errc::kInvalidArgument, {"layer 5", "no earlier layer"}},
        Refusal{"attention_k_eq_v", "1", Errc::kInvalidArgument, {"true or false"}},
        Refusal{"use_double_wide_mlp", "\"yes\"", Errc::kInvalidArgument, {}},
        Refusal{"use_bidirectional_attention", "\"all\"", Errc::kUnsupported, {"vision"}},
        Refusal{"max_position_embeddings", "0", Errc::kInvalidArgument, {}},
        Refusal{"rms_norm_eps", "0", Errc::kInvalidArgument, {}},
        Refusal{"rms_norm_eps", "-1e-6", Errc::kInvalidArgument, {}},
        Refusal{"hidden_activation", "\"silu\"", Errc::kUnsupported, {"gelu_pytorch_tanh"}},
        Refusal{"hidden_activation", "3", Errc::kInvalidArgument, {}},
        Refusal{"final_logit_softcapping", "-30", Errc::kInvalidArgument, {}},
        Refusal{"attention_bias", "true", Errc::kUnsupported, {"false"}},
        Refusal{"tie_word_embeddings", "false", Errc::kUnsupported, {"true"}},
        Refusal{"/tie_word_embeddings", "false", Errc::kUnsupported, {"true"}},
        Refusal{"dtype", "\"float16\"", Errc::kUnsupported, {"bfloat16"}},
        Refusal{"/dtype", "\"float32\"", Errc::kUnsupported, {"bfloat16"}},
        Refusal{"/quantization_config", R"({"quant_method":"fp8"})", Errc::kUnsupported, {"bf16"}},
        Refusal{"rope_parameters", "[]", Errc::kInvalidArgument, {"object"}},
        Refusal{"rope_parameters", "{}", Errc::kInvalidArgument, {"sliding_attention", "missing"}},
        Refusal{"rope_parameters",
                R"({"sliding_attention":{"rope_type":"yarn","rope_theta":1e4}})",
                Errc::kUnsupported,
                {"yarn", "proportional"}},
        Refusal{"rope_parameters",
                R"({"sliding_attention":{"rope_type":"default"}})",
                Errc::kInvalidArgument,
                {"rope_theta", "missing"}},
        Refusal{"rope_parameters",
                R"({"sliding_attention":{"rope_theta":1e4,"partial_rotary_factor":0.5}})",
                Errc::kUnsupported,
                {"partial_rotary_factor"}},
        Refusal{"num_experts", "null", Errc::kInvalidArgument, {}},
        Refusal{"top_k_experts", "9", Errc::kInvalidArgument, {"1 to 8"}},
        Refusal{"moe_intermediate_size", "0", Errc::kInvalidArgument, {}},
        Refusal{"hidden_size_per_layer_input", "-1", Errc::kInvalidArgument, {}},
        Refusal{"vocab_size_per_layer_input", "100", Errc::kInvalidArgument, {"from 512"}},
        Refusal{"per_layer_config", "[]", Errc::kInvalidArgument, {"object"}},
        Refusal{"per_layer_config", R"({"6":{"head_dim":64}})", Errc::kInvalidArgument, {"0 to 5", "\"6\""}},
        Refusal{"per_layer_config", R"({"-1":{"head_dim":64}})", Errc::kInvalidArgument, {}},
        Refusal{"per_layer_config", R"({"x":{"head_dim":64}})", Errc::kInvalidArgument, {}},
        Refusal{
            "per_layer_config", R"({"5":{"head_dim":64},"05":{"head_dim":64}})", Errc::kInvalidArgument, {"distinct"}},
        Refusal{"per_layer_config", R"({"99999999999999999999":{}})", Errc::kInvalidArgument, {}},
        Refusal{"per_layer_config", R"({"5":7})", Errc::kInvalidArgument, {"object"}},
        Refusal{"per_layer_config", R"({"5":{"head_dim":0}})", Errc::kInvalidArgument, {"5.head_dim"}},
        Refusal{"per_layer_config", R"({"5":{"sliding_window":3}})", Errc::kUnsupported, {"sliding_window"}},
        Refusal{"model_type", "\"llama\"", Errc::kUnsupported, {"gemma4_text"}},
        Refusal{"/model_type", "\"llama\"", Errc::kUnsupported, {"llama", "gemma4_unified"}},
        Refusal{"/model_type", "", Errc::kInvalidArgument, {"missing"}},
        Refusal{"/model_type", "4", Errc::kInvalidArgument, {}},
        Refusal{"/model_type", "\"gemma4_assistant\"", Errc::kUnsupported, {"drafter", "target"}},
        Refusal{"/model_type", "\"gemma4_unified_assistant\"", Errc::kUnsupported, {"drafter"}},
        Refusal{"/text_config", "", Errc::kInvalidArgument, {"missing"}},
        Refusal{"/text_config", "[]", Errc::kInvalidArgument, {"object"}},
        Refusal{"/vision_config", "3", Errc::kInvalidArgument, {"object or null"}},
        Refusal{"/architectures", "3", Errc::kInvalidArgument, {"array"}},
        Refusal{"/architectures", "[3]", Errc::kInvalidArgument, {"array"}},
        Refusal{"/eos_token_id", "512", Errc::kInvalidArgument, {"0 to 511"}},
        Refusal{"/eos_token_id", "[1, -1]", Errc::kInvalidArgument, {"-1"}},
        Refusal{"/eos_token_id", "\"<eos>\"", Errc::kInvalidArgument, {}},
        Refusal{"/image_token_id", "258880", Errc::kInvalidArgument, {"vocab_size"}}));

// ---- vision_config and the processors' settings

Result<ModelConfig> with_vision(std::string_view member, const std::string& key, const std::string& json) {
  Json config = make_model_config(published_member(member)).raw;
  Json* vision = config.find("vision_config");
  if (json.empty())
    vision->erase(key);
  else
    vision->set(key, *parse_json(json));
  return parse_model_config(config, nullptr);
}

TEST(ParseVisionConfig, PublishedForms) {
  const auto tower = [](const char* name) {
    return std::get<VisionTowerConfig>(builtin_model_config(name)->vision->encoder);
  };
  EXPECT_EQ(tower("google/gemma-4-E4B-it").head_dim(), 64);
  EXPECT_TRUE(tower("google/gemma-4-E4B-it").clipped_linears);
  EXPECT_EQ(tower("google/gemma-4-31B").head_dim(), 72);
  EXPECT_TRUE(tower("google/gemma-4-26B-A4B-it").standardize);
  const VisionConfig embedder = *builtin_model_config("google/gemma-4-12B-it")->vision;
  EXPECT_EQ(std::get<PatchEmbedderConfig>(embedder.encoder).hidden_size, 3840);
  EXPECT_EQ(embedder.patch_size(), 48);
  EXPECT_EQ(embedder.max_soft_tokens(), 1120);
  EXPECT_EQ(embedder.image_soft_tokens, 280);
  EXPECT_EQ(embedder.frame_soft_tokens, 70);
  EXPECT_EQ(embedder.video_frames, 32);
}

TEST(ParseVisionConfig, AbsentKeysTakeTheClassDefaults) {
  Json config = make_model_config(published_member("E2B")).raw;
  config.set("vision_config", Json::object());
  EXPECT_TRUE(std::get<VisionTowerConfig>(parse_model_config(config, nullptr)->vision->encoder) == VisionTowerConfig{});
  config.set("vision_config", Json());
  EXPECT_FALSE(parse_model_config(config, nullptr)->vision);
  config = make_model_config(published_member("12B")).raw;
  config.set("vision_config", Json::object());
  EXPECT_TRUE(parse_model_config(config, nullptr)->vision == make_model_config(published_member("12B")).vision);
}

TEST(ParseVisionConfig, AxialIsWhatNewerFilesCallTheRotation) {
  EXPECT_TRUE(with_vision("E2B", "rope_parameters", R"({"rope_type": "axial", "rope_theta": 100.0})"));
}

struct VisionRefusal {
  const char* member;
  const char* key;
  const char* json;
  Errc code;
  const char* says;
};

TEST(ParseVisionConfig, RefusalsNameKeyValueAndWhatIsAllowed) {
  const VisionRefusal cases[] = {
      {"E2B", "model_type", "\"siglip\"", Errc::kUnsupported, "gemma4_vision"},
      {"E2B", "hidden_size", "0", Errc::kInvalidArgument, "from 4 to"},
      {"E2B", "hidden_size", "99999999999999999999", Errc::kInvalidArgument, "from 4 to"},
      {"E2B", "hidden_size", "770", Errc::kInvalidArgument, "multiple of 4 * num_attention_heads = 48"},
      {"E2B", "head_dim", "32", Errc::kUnsupported, "supported: hidden_size / num_attention_heads = 64"},
      {"E2B", "num_attention_heads", "0", Errc::kInvalidArgument, "from 1 to"},
      {"E2B", "num_key_value_heads", "4", Errc::kUnsupported, "num_attention_heads = 12"},
      {"E2B", "num_hidden_layers", "0", Errc::kInvalidArgument, "from 1 to 256"},
      {"E2B", "intermediate_size", "-1", Errc::kInvalidArgument, "from 1 to"},
      {"E2B", "patch_size", "14", Errc::kUnsupported, "supported: 16"},
      {"E2B", "pooling_kernel_size", "2", Errc::kUnsupported, "supported: 3"},
      {"E2B", "position_embedding_size", "209", Errc::kInvalidArgument, "at least 210"},
      {"E2B", "use_clipped_linears", "1", Errc::kInvalidArgument, "true or false"},
      {"E2B", "standardize", "\"no\"", Errc::kInvalidArgument, "true or false"},
      {"E2B", "hidden_activation", "\"silu\"", Errc::kUnsupported, "gelu_pytorch_tanh"},
      {"E2B", "attention_bias", "true", Errc::kUnsupported, "false"},
      {"E2B", "rms_norm_eps", "0", Errc::kInvalidArgument, "(0, 0.1]"},
      {"E2B", "rope_parameters", "3", Errc::kInvalidArgument, "object"},
      {"E2B", "rope_parameters", R"({"rope_type": "yarn"})", Errc::kUnsupported, "axial"},
      {"E2B", "rope_parameters", R"({"rope_theta": 0})", Errc::kInvalidArgument, "rope_theta"},
      {"12B", "model_type", "\"gemma4_vision\"", Errc::kUnsupported, "gemma4_unified_vision"},
      {"12B", "model_patch_size", "32", Errc::kUnsupported, "supported: 48"},
      {"12B", "mm_embed_dim", "0", Errc::kInvalidArgument, "from 1 to"},
      {"12B", "mm_posemb_size", "69", Errc::kInvalidArgument, "at least 70"},
      {"12B", "output_proj_dims", "100", Errc::kUnsupported, "mm_embed_dim = 3840"},
  };
  for (const VisionRefusal& c : cases) {
    const auto parsed = with_vision(c.member, c.key, c.json);
    ASSERT_FALSE(parsed) << c.key << " " << c.json;
    EXPECT_EQ(parsed.error().code, c.code) << parsed.error().message;
    EXPECT_THAT(parsed.error().message,
                AllOf(HasSubstr("config.json: vision_config."), HasSubstr(c.key), HasSubstr(c.says)));
  }
}

TEST(ParseVisionConfig, BudgetsComeFromTheProcessor) {
  const Json config = make_model_config(published_member("E2B")).raw;
  const Json processor = *parse_json(R"({"image_processor": {"max_soft_tokens": 1120},
                                         "video_processor": {"max_soft_tokens": 140, "num_frames": 8}})");
  const auto parsed = parse_model_config(config, nullptr, processor);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->vision->image_soft_tokens, 1120);
  EXPECT_EQ(parsed->vision->frame_soft_tokens, 140);
  EXPECT_EQ(parsed->vision->video_frames, 8);
  EXPECT_TRUE(parsed->processor == processor);
}

TEST(ParseVisionConfig, BudgetsFitThePositionTable) {
  Json config = make_model_config(published_member("E2B")).raw;
  config.find("vision_config")->set("position_embedding_size", 500);
  const auto parsed = parse_model_config(config, nullptr);  // 280 would need 840 rows
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(parsed->vision->max_soft_tokens(), 140);
  EXPECT_EQ(parsed->vision->image_soft_tokens, 140);
  const Json processor = *parse_json(R"({"image_processor": {"max_soft_tokens": 280}})");
  const auto refused = parse_model_config(config, nullptr, processor);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("max_soft_tokens is 280"), HasSubstr("at most 140")));
}

TEST(ParseVisionConfig, ProcessorsThatPrepareInAnotherWayAreRefused) {
  const Json config = make_model_config(published_member("31B")).raw;
  const std::pair<const char*, const char*> cases[] = {
      {"max_soft_tokens", R"({"image_processor": {"max_soft_tokens": 256}})"},
      {"max_soft_tokens", R"({"video_processor": {"max_soft_tokens": "many"}})"},
      {"num_frames", R"({"video_processor": {"num_frames": 0}})"},
      {"patch_size", R"({"image_processor": {"patch_size": 14}})"},
      {"pooling_kernel_size", R"({"image_processor": {"pooling_kernel_size": 4}})"},
      {"resample", R"({"image_processor": {"resample": 2}})"},
      {"do_resize", R"({"image_processor": {"do_resize": false}})"},
      {"do_rescale", R"({"video_processor": {"do_rescale": false}})"},
      {"rescale_factor", R"({"image_processor": {"rescale_factor": 0.5}})"},
      {"image_processor", R"({"image_processor": 7})"},
      {"processor_config.json", "[]"},
  };
  for (const auto& [key, text] : cases) {
    const auto parsed = parse_model_config(config, nullptr, *parse_json(text));
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("processor_config.json"), HasSubstr(key)));
  }
}

// ---- audio_config

/// A small model's config.json with one key of audio_config changed, or erased if `json` is empty.
Result<ModelConfig> with_audio(std::string_view member, const std::string& key, const std::string& json) {
  Json config = make_model_config(published_member(member)).raw;
  Json* audio = config.find("audio_config");
  if (json.empty())
    audio->erase(key);
  else
    audio->set(key, *parse_json(json));
  return parse_model_config(config, nullptr);
}

TEST(ParseAudioConfig, PublishedForms) {
  EXPECT_TRUE(std::holds_alternative<ConformerConfig>(*builtin_model_config("google/gemma-4-E4B-it")->audio));
  EXPECT_TRUE(std::holds_alternative<RawAudioConfig>(*builtin_model_config("google/gemma-4-12B")->audio));
  EXPECT_FALSE(builtin_model_config("google/gemma-4-31B-it")->audio);
}

TEST(ParseAudioConfig, AbsentKeysTakeTheClassDefaults) {
  for (const char* name : {"E2B", "12B"}) {
    Json config = make_model_config(published_member(name)).raw;
    config.set("audio_config", Json::object());
    EXPECT_TRUE(parse_model_config(config, nullptr)->audio == make_model_config(published_member(name)).audio);
    config.set("audio_config", Json());
    EXPECT_FALSE(parse_model_config(config, nullptr)->audio);
  }
}

TEST(ParseAudioConfig, OtherSizesAreKept) {
  const auto parsed = with_audio("E2B", "subsampling_conv_channels", "[128, 2]");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::get<ConformerConfig>(*parsed->audio).conv_channels[1], 2);
  const Json again = to_config_json(*parsed);
  EXPECT_TRUE(parse_model_config(again, nullptr)->audio == parsed->audio);
}

struct AudioRefusal {
  const char* member;
  const char* key;
  const char* json;
  Errc code;
  const char* says;
};

TEST(ParseAudioConfig, RefusalsNameKeyValueAndWhatIsAllowed) {
  const AudioRefusal cases[] = {
      {"E2B", "model_type", "\"gemma4_vision\"", Errc::kUnsupported, "gemma4_audio"},
      {"E2B", "hidden_size", "0", Errc::kInvalidArgument, "from 2 to"},
      {"E2B", "hidden_size", "99999999999999999999", Errc::kInvalidArgument, "from 2 to"},
      {"E2B", "hidden_size", "1000", Errc::kInvalidArgument, "multiple of 2 * num_attention_heads = 16"},
      {"E2B", "num_hidden_layers", "0", Errc::kInvalidArgument, "from 1 to 256"},
      {"E2B", "num_attention_heads", "-1", Errc::kInvalidArgument, "from 1 to"},
      {"E2B", "hidden_act", "\"relu\"", Errc::kUnsupported, "silu"},
      {"E2B", "subsampling_conv_channels", "[128]", Errc::kInvalidArgument, "two integers"},
      {"E2B", "subsampling_conv_channels", "[128, 0]", Errc::kInvalidArgument, "two integers"},
      {"E2B", "subsampling_conv_channels", "[128, \"x\"]", Errc::kInvalidArgument, "two integers"},
      {"E2B", "subsampling_conv_channels", "128", Errc::kInvalidArgument, "two integers"},
      {"E2B", "conv_kernel_size", "65", Errc::kInvalidArgument, "from 1 to 64"},
      {"E2B", "residual_weight", "0", Errc::kInvalidArgument, "(0, "},
      {"E2B", "attention_context_left", "1", Errc::kInvalidArgument, "from 2 to"},
      {"E2B", "attention_context_left", "12", Errc::kUnsupported, "attention_context_left - 1"},
      {"E2B", "attention_chunk_size", "24", Errc::kUnsupported, "attention_context_left - 1"},
      {"E2B", "attention_context_right", "2", Errc::kUnsupported, "supported: 0"},
      {"E2B", "attention_logit_cap", "0", Errc::kInvalidArgument, "(0, "},
      {"E2B", "use_clipped_linears", "1", Errc::kInvalidArgument, "true or false"},
      {"E2B", "output_proj_dims", "0", Errc::kInvalidArgument, "from 1 to"},
      {"E2B", "rms_norm_eps", "1", Errc::kInvalidArgument, "(0, 0.1]"},
      {"E2B", "gradient_clipping", "100", Errc::kUnsupported, "1e9"},
      {"12B", "model_type", "\"gemma4_audio\"", Errc::kUnsupported, "gemma4_unified_audio"},
      {"12B", "audio_embed_dim", "320", Errc::kUnsupported, "supported: 640"},
      {"12B", "rms_norm_eps", "0", Errc::kInvalidArgument, "(0, 0.1]"},
  };
  for (const AudioRefusal& c : cases) {
    const auto parsed = with_audio(c.member, c.key, c.json);
    ASSERT_FALSE(parsed) << c.key << " = " << c.json;
    EXPECT_EQ(parsed.error().code, c.code) << parsed.error().message;
    EXPECT_THAT(parsed.error().message,
                AllOf(HasSubstr("config.json: audio_config."), HasSubstr(c.key), HasSubstr(c.says)));
  }
  Json config = make_model_config(published_member("E2B")).raw;
  config.set("audio_config", 3);
  EXPECT_THAT(parse_model_config(config, nullptr).error().message, HasSubstr("object or null"));
}

TEST(ParseModelConfig, LayerTypesMustMatchTheLayers) {
  Json config = make_model_config(small_moe()).raw;
  config.find("text_config")->set("num_hidden_layers", 7);
  const auto parsed = parse_model_config(config, nullptr);
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("layer_types"), HasSubstr("num_hidden_layers = 7")));
}

TEST(ParseModelConfig, NotAnObject) {
  for (const char* text : {"null", "[]", "3", "\"gemma4\""}) {
    const auto parsed = parse_model_config(*parse_json(text), nullptr);
    ASSERT_FALSE(parsed);
    EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("config.json is"), HasSubstr("object")));
  }
}

TEST(ParseModelConfig, GenerationFileIsCheckedToo) {
  const Json config = make_model_config(small_moe()).raw;
  const std::pair<const char*, const char*> cases[] = {
      {"temperature", R"({"temperature": -1})"},
      {"top_p", R"({"top_p": 0})"},
      {"top_p", R"({"top_p": 1.5})"},
      {"top_k", R"({"top_k": -1})"},
      {"min_p", R"({"min_p": 2})"},
      {"repetition_penalty", R"({"repetition_penalty": 0})"},
      {"eos_token_id", R"({"eos_token_id": 512})"},
      {"suppress_tokens", R"({"suppress_tokens": [1, "x"]})"},
      {"pad_token_id", R"({"pad_token_id": -1})"},
      {"bos_token_id", R"({"bos_token_id": 1e9})"},
      {"generation_config.json", "[]"},
  };
  for (const auto& [key, text] : cases) {
    const Json generation = *parse_json(text);
    const auto parsed = parse_model_config(config, &generation);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code, Errc::kInvalidArgument);
    EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("generation_config.json"), HasSubstr(key)));
  }
}

TEST(ParseModelConfig, SharedLayersMustFitTheirSource) {
  Json config = make_model_config(published_member("E2B")).raw;
  config.find("text_config")->set("per_layer_config", Json::object({{"34", Json::object({{"head_dim", 512}})}}));
  const auto parsed = parse_model_config(config, nullptr);
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().message, AllOf(HasSubstr("layer 34"), HasSubstr("layer 14")));
}

// ---- files

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "carat_config_XXXXXX").string();
    ASSERT_TRUE(mkdtemp(name.data()));
    path = name;
  }
  void TearDown() override { std::filesystem::remove_all(path); }
  void write(const char* name, std::string_view text) { std::ofstream(path / name) << text; }
  std::filesystem::path path;
};

TEST_F(Folder, ReadsBothFiles) {
  const ModelConfig config = make_model_config(small_moe());
  write("config.json", config.raw.dump());
  write("generation_config.json", to_generation_json(config.generation).dump());
  const auto loaded = load_model_config(path);
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_same(*loaded, config);
  EXPECT_EQ(loaded->raw, config.raw);
}

TEST_F(Folder, ReadsTheProcessorsFiles) {
  const auto budgets = [&] {
    const auto loaded = load_model_config(path);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return std::pair(loaded->vision->image_soft_tokens, loaded->vision->frame_soft_tokens);
  };
  write("config.json", make_model_config(published_member("E2B")).raw.dump());
  EXPECT_EQ(budgets(), std::pair(280, 70));
  write("preprocessor_config.json", R"({"max_soft_tokens": 560})");
  write("video_preprocessor_config.json", R"({"max_soft_tokens": 140})");
  EXPECT_EQ(budgets(), std::pair(560, 140));
  write("processor_config.json", R"({"image_processor": {"max_soft_tokens": 70}, "video_processor": null})");
  EXPECT_EQ(budgets(), std::pair(70, 140));
  write("processor_config.json", "nope");
  const auto loaded = load_model_config(path);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Errc::kCorruptFile);
  EXPECT_THAT(loaded.error().message, HasSubstr((path / "processor_config.json").string()));
}

TEST_F(Folder, ErrorsNameTheFile) {
  const auto expect_error = [&](Errc code, const char* file, const char* why) {
    const auto loaded = load_model_config(path);
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, code) << loaded.error().message;
    EXPECT_THAT(loaded.error().message, AllOf(HasSubstr((path / file).string()), HasSubstr(why)));
  };
  expect_error(Errc::kNotFound, "config.json", "No such file");
  write("config.json", "");
  expect_error(Errc::kCorruptFile, "config.json", "");
  write("config.json", "{\"model_type\": \"gemma4\"");
  expect_error(Errc::kCorruptFile, "config.json", "");
  write("config.json", "{\"model_type\": \"gem\xff\"}");
  expect_error(Errc::kCorruptFile, "config.json", "");
  write("config.json", "{\"model_type\": \"gemma3\"}");
  expect_error(Errc::kUnsupported, "config.json", "gemma3");
  write("config.json", make_model_config(small_moe()).raw.dump());
  write("generation_config.json", "nope");
  expect_error(Errc::kCorruptFile, "generation_config.json", "");
  std::filesystem::remove(path / "config.json");
  std::filesystem::create_directory(path / "config.json");
  expect_error(Errc::kIo, "config.json", "");
}

TEST_F(Folder, EveryTruncationIsRefused) {
  const std::string text = make_model_config(small_moe()).raw.dump();
  for (size_t n = 0; n < text.size(); n += 7) {
    write("config.json", text.substr(0, n));
    EXPECT_FALSE(load_model_config(path));
  }
}

// Checkpoints made by the reference tool, where the environment names a folder of them.
TEST(OracleCheckpoints, AreRead) {
  const char* root = std::getenv("CARAT_ORACLE_DIR");
  if (!root) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    ++count;
    const auto loaded = load_model_config(entry.path());
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_THAT(loaded->generation.eos_token_ids, ElementsAre(1, 50, 106));
    EXPECT_TRUE(loaded->media.image);
    const auto again = parse_model_config(to_config_json(*loaded, ConfigLayout::kPerLayer), nullptr);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_TRUE(again->text == loaded->text);
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace carat
