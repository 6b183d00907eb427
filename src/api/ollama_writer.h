#pragma once
// Answers of Ollama's POST /api/chat and /api/generate: a JSON object, or one per line.

#include <memory>
#include <string>

#include "api/generation.h"

namespace carat {

struct OllamaAnswerOptions {
  std::string model;
  bool stream = true;
  bool chat = true;    ///< a message; else /api/generate's plain text
  bool empty = false;  ///< there is no prompt and nothing to say
};

std::unique_ptr<AnswerWriter> make_ollama_writer(OllamaAnswerOptions options);

/// Now as RFC 3339, in UTC.
std::string rfc3339_now();

}  // namespace carat
