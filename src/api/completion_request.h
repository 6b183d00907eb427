#pragma once
// POST /v1/completions as types. Source: spec api.md section 5.

#include <string>
#include <variant>
#include <vector>

#include "api/params.h"

namespace carat {

using PromptInput = std::variant<std::string, std::vector<TokenId>>;

struct CompletionRequest {
  std::string model = "default";
  std::vector<PromptInput> prompts;
  GenerationParams params;
  StreamParams stream;
  RequestIdentity identity;
  bool echo = false;
  bool return_token_ids = false;
  bool return_cached_tokens_details = false;
};

/// `defaults` come below the client's values. Errors: kInvalidArgument for types and missing fields (schema errors).
Result<CompletionRequest> parse_completion_request(const Json& body, const GenerationParams& defaults);
/// What types alone do not say. Errors: kInvalidArgument.
Result<void> check_completion_request(const Json& body, const CompletionRequest& request, int vocab_size);

}  // namespace carat
