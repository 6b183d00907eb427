#pragma once
// POST /v1/responses as types: what is the Responses API's own, and the rest as the body of a chat request. Source:
// spec api.md section 7.

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace carat {

struct ResponsesRequest {
  std::string id;                    ///< of the response and of its run
  std::optional<std::string> model;  ///< absent: whatever is served
  bool stream = false, store = true, background = false;
  std::optional<std::string> previous_response_id;
  bool include_logprobs = false;
  bool include_encrypted_reasoning = false;
  bool summarize_reasoning = false;  ///< the thought is shown as a summary, too
  std::string instructions;          ///< may be empty
  Json items;                        ///< `input` as a list of items
  Json chat;                         ///< the body of the chat request, without messages
  Json echo;                         ///< members of the answer that repeat the request's
};

/// Errors: kInvalidArgument for types (schema errors).
Result<ResponsesRequest> parse_responses_request(const Json& body);
/// What types alone do not say. `store_enabled`: --enable-response-store. Errors: kInvalidArgument; kNotFound for a
/// model that is not served.
Result<void> check_responses_request(const ResponsesRequest& request, std::string_view served_model,
                                     bool store_enabled);
/// The chat messages of `instructions` and the conversation's items: those of the previous response, if any, and the
/// request's own. Errors: kInvalidArgument naming the item.
Result<Json> responses_messages(std::string_view instructions, const Json& items);

/// A thought as `encrypted_content`, which clients of a server without a store hand back: opaque, not secret.
std::string encode_reasoning(std::string_view text);

}  // namespace carat
