#pragma once
// POST /v1/messages, Anthropic's Messages API, as types: what is its own, and the rest as the body of a chat request.

#include <string>

#include "base/json.h"
#include "base/result.h"

namespace carat {

struct MessagesRequest {
  std::string id;  ///< of the answer and of its run
  std::string model;
  bool stream = false;
  Json chat;  ///< the body of the chat request
};

/// A body that is to be answered has `max_tokens`; one whose tokens are only counted need not.
enum class MessagesPurpose { kAnswer, kCount };
/// Errors: kInvalidArgument naming the member.
Result<MessagesRequest> parse_messages_request(const Json& body, MessagesPurpose purpose);

}  // namespace carat
