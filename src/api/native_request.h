#pragma once
// POST /generate as types. Source: spec api.md section 6.

#include <optional>
#include <string>
#include <vector>

#include "api/completion_request.h"
#include "api/params.h"
#include "chat/chat_input.h"

namespace carat {

/// One prompt of the batch.
struct NativeItem {
  PromptInput prompt;
  std::vector<MediaPart> media;  ///< images, then sounds, then videos, each kind in the order of its placeholders
  GenerationParams params;
  RequestIdentity identity;
  bool text_in_logprobs = false;
};

struct NativeRequest {
  std::vector<NativeItem> items;
  bool batch = false;  ///< the answer is a list
  bool stream = false;
  bool return_prompt_ids = false;
  bool log_metrics = true;  ///< false: leaves no trace in /metrics
};

/// Google Vertex' form of a batch, {"instances": [{"text", "image_data"}...], "parameters": {...}}, as a /generate
/// body. Errors: kInvalidArgument.
Result<Json> vertex_to_native(const Json& body);
/// The body's `stream`, as far as it can be told: decides the form of errors.
bool native_streams(const Json& body);
/// The sampling_params of prompt `i`; null where there are none.
const Json* native_sampling_params(const Json& body, size_t i);
/// Errors: kInvalidArgument for what breaks the schema.
Result<NativeRequest> parse_native_request(const Json& body, const GenerationParams& defaults);
/// What types alone do not say. Errors: kInvalidArgument.
Result<void> check_native_request(const Json& body, const NativeRequest& request, int vocab_size);

}  // namespace carat
