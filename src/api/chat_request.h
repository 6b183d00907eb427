#pragma once
// POST /v1/chat/completions as types, all but messages, tools and template switches, which chat/ reads. Source: spec
// api.md section 4.1.

#include <optional>
#include <string>
#include <vector>

#include "api/generation.h"
#include "api/params.h"

namespace carat {

struct ChatRequest {
  std::string model = "default";
  GenerationParams params;
  StreamParams stream;
  RequestIdentity identity;
  std::optional<std::vector<TokenId>> input_ids;  ///< in place of the rendered prompt
  bool return_meta_info = false, return_prompt_ids = false, return_token_ids = false;
  SglextOptions sglext{};
  bool separate_reasoning = true, stream_reasoning = true;
};

/// `defaults` come below the client's values; `markers` are the special tokens of thoughts and calls.
/// Errors: kInvalidArgument for types (schema errors).
Result<ChatRequest> parse_chat_request(const Json& body, const GenerationParams& defaults,
                                       const std::vector<TokenId>& markers);
/// What types alone do not say. `context_length_given`: a limit for max_completion_tokens. Errors: kInvalidArgument.
Result<void> check_chat_request(const Json& body, const ChatRequest& request, int vocab_size,
                                std::optional<int> context_length_given);

}  // namespace carat
