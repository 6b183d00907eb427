#pragma once
// Answers of POST /v1/responses. Source: spec api.md section 7.

#include <memory>
#include <string>

#include "api/generation.h"
#include "api/response_store.h"
#include "base/json.h"

namespace carat {

struct ResponsesAnswerOptions {
  std::string id;
  bool stream = false;
  bool logprobs = false;             ///< of the output text; not with streams
  bool encrypted_reasoning = false;  ///< fill reasoning.encrypted_content
  bool summarize_reasoning = false;
  Json response;                   ///< of new_response(): without output, usage and outcome
  ResponseStore* store = nullptr;  ///< where to keep the response; may be null
  Json items;                      ///< the conversation that it answers, if it is kept
};

/// A response as it looks while it runs. `echo`: members that repeat the request's, with `model`, `temperature` and
/// `top_p` among them; `store` whether it will be kept.
Json new_response(std::string_view id, const Json& echo, bool store);
/// The response after its run has failed.
Json failed_response(Json response, std::string_view message);

std::unique_ptr<AnswerWriter> make_responses_writer(WriterContext context, ResponsesAnswerOptions options);

}  // namespace carat
