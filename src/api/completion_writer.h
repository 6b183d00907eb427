#pragma once
// Answers of POST /v1/completions. Source: spec api.md section 5.

#include <memory>
#include <string>
#include <vector>

#include "api/generation.h"

namespace carat {

struct CompletionAnswerOptions {
  std::string id;
  std::string model;
  StreamParams stream;
  bool echo = false;
  bool logprobs = false;
  bool return_token_ids = false;
  std::vector<std::string> prompt_texts;  ///< per prompt, with echo
  SglextOptions sglext{};                 ///< without ids
};

std::unique_ptr<AnswerWriter> make_completion_writer(WriterContext context, CompletionAnswerOptions options);

}  // namespace carat
