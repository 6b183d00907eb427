#pragma once
// Answers of POST /v1/chat/completions. Source: spec api.md sections 4.2 and 4.3.

#include <memory>
#include <string>

#include "api/generation.h"

namespace carat {

struct ChatAnswerOptions {
  std::string id;
  std::string model;
  StreamParams stream;
  bool logprobs = false;
  // Members of choices; not with streams.
  bool return_meta_info = false, return_prompt_ids = false, return_token_ids = false;
  SglextOptions sglext{};
};

std::unique_ptr<AnswerWriter> make_chat_writer(WriterContext context, ChatAnswerOptions options);

}  // namespace carat
