#pragma once
// Models inside the program, by name: carat-nano, which answers, and a miniature for trying the interface.

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "config/model_config.h"

namespace carat {

/// carat-nano: a small trained Gemma 4 (models/nano). Built in where its weights were there when the program was built.
inline constexpr std::string_view kNanoName = "carat/carat-nano";
/// The E2B form with seeded random weights, and a tokenizer of bytes with Gemma 4's special tokens. It answers
/// nonsense; every other part of the server is the real thing.
inline constexpr std::string_view kMiniatureName = "carat/gemma-4-e2b-miniature";
inline constexpr int kMiniatureVocabSize = 512;

/// What a model's folder would hold. Texts are empty where there would be no such file.
struct BuiltinModel {
  std::string_view name;
  std::string config, generation, processor;  ///< config.json, generation_config.json, processor_config.json
  std::string tokenizer, tokenizer_config, chat_template;
  std::span<const std::byte> weights;  ///< model.safetensors; empty: random ones are made

  Result<ModelConfig> parse_config() const;
};

/// Null for a name that is not built in.
std::optional<BuiltinModel> find_builtin_model(std::string_view name);
/// What is served without --model-path: carat-nano, or the miniature where that is not built in. (Where no weights are
/// wanted, as with --load-format scripted, it is the miniature.)
std::string_view default_model_name();

/// tokenizer.json of the miniature, whose tokens are bytes; also for models of which only the shapes are known.
std::string miniature_tokenizer_json();
std::string miniature_tokenizer_config_json();
/// config.json and generation_config.json of the miniature.
Json miniature_config_json();
Json miniature_generation_json();

}  // namespace carat
