#pragma once
// Answers of POST /v1/messages, Anthropic's Messages API.

#include <memory>
#include <string>

#include "api/generation.h"

namespace carat {

struct MessagesAnswerOptions {
  std::string id;
  std::string model;
  bool stream = false;
};

std::unique_ptr<AnswerWriter> make_messages_writer(WriterContext context, MessagesAnswerOptions options);

}  // namespace carat
