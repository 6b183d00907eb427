#pragma once
// What the generation routes have in common: sampling, stopping, log-probabilities, identity.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "api/json_fields.h"
#include "base/json.h"
#include "base/result.h"
#include "config/model_config.h"
#include "output/text_stream.h"
#include "sampling/grammar/grammar_source.h"
#include "sampling/params.h"

namespace carat {

// Limits at the door; docs/api.md lists them.
inline constexpr int kMaxSamplesPerPrompt = 256;
inline constexpr int kMaxPromptsPerRequest = 4096;
inline constexpr int kMaxTopLogprobs = 256;
inline constexpr int kMaxLogprobIds = 4096;
inline constexpr int kMaxStopTokenIds = 1024;
inline constexpr size_t kMaxRequestIdBytes = 256;

/// The form that an answer is to have, before its grammars are compiled (api/answer_form.h).
struct AnswerForm {
  std::optional<GrammarSource> answer;
  std::optional<GrammarSource> calls;  ///< of tool calls
  bool calls_required = false;         ///< the answer is calls; else calls go unconstrained if their grammar fails
  bool single_call = false;
  std::optional<int> thinking_budget;

  bool any() const { return answer || calls || thinking_budget; }
};

/// How one prompt is to be continued.
struct GenerationParams {
  SamplingParams sampling;                      ///< max_new_tokens there is set by the engine's limits, see below
  std::optional<int64_t> max_new_tokens = 128;  ///< as asked; absent: up to the end of the context
  TextOptions text;                             ///< stop_regexes there is made of the next
  std::vector<std::string> stop_regex;
  LogprobParams logprobs;
  int n = 1;
  std::optional<int> stream_interval;
  AnswerForm form;
};

/// Defaults of chat: generation_config.json, or plain sampling with --sampling-defaults openai.
SamplingParams chat_sampling_defaults(const GenerationConfig& generation, bool from_model);

/// Reads native names (spec api.md section 3) over the values in `params`. Errors: unknown and mistyped fields.
Result<void> read_native_params(const Json& sampling_params, GenerationParams& params);
/// Reads the names that chat and completions share (section 4.1): temperature .. seed, stop .. min_tokens, n.
void read_openai_params(JsonFields& fields, GenerationParams& params);
/// Ranges and limits. Errors: kInvalidArgument with SGLang's texts.
Result<void> check_params(const GenerationParams& params, int vocab_size);

struct StreamParams {
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
};
StreamParams read_stream_params(JsonFields& fields);

/// Who a request is, for logs, abort, scheduling and the prefix cache.
struct RequestIdentity {
  std::optional<std::string> rid;
  std::optional<int> priority;
  uint64_t cache_salt = 0;  ///< of extra_key and cache_salt
};
RequestIdentity read_identity(JsonFields& fields);
/// Errors: kInvalidArgument for an empty request id or one above kMaxRequestIdBytes.
Result<void> check_request_id(std::string_view rid);

/// Fields that change results and are not served: refused unless null, false, 0 or empty. Errors: kInvalidArgument.
Result<void> refuse_unserved(const Json& body, std::span<const std::string_view> names);

/// 32 hexadecimal digits, as uuid4().hex.
std::string new_request_id();
/// "call_" and 24 hexadecimal digits.
std::string new_call_id();

}  // namespace carat
