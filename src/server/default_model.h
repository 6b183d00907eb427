#pragma once
// What is served without --model-path: a miniature of the E2B form with seeded random weights, and a tokenizer of bytes
// with Gemma 4's special tokens. It answers nonsense; every other part of the server is the real thing.

#include <string>

#include "base/json.h"

namespace carat {

inline constexpr std::string_view kDefaultModelName = "carat/gemma-4-e2b-miniature";
inline constexpr int kDefaultVocabSize = 512;

/// config.json and generation_config.json of the miniature.
Json default_model_config_json();
Json default_generation_config_json();

/// tokenizer.json and tokenizer_config.json: special tokens at Gemma 4's ids, one token per ASCII character, bytes for
/// the rest, no merges.
std::string default_tokenizer_json();
std::string default_tokenizer_config_json();

}  // namespace carat
