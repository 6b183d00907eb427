#include "api/completion_request.h"

#include <array>

#include "base/str.h"

namespace carat {
namespace {

constexpr auto kUnserved =
    std::to_array<std::string_view>({"return_hidden_states", "return_routed_experts", "lora_path", "session_params",
                                     "custom_logit_processor", "custom_params", "watermark", "return_sampling_mask"});

Result<PromptInput> parse_prompt(const Json& json) {
  if (json.is_string()) return PromptInput(json.as_string());
  CARAT_TRY(auto ids, parse_token_ids(json, "prompt"));
  return PromptInput(std::move(ids));
}

Error bad_prompt(const Json& got) {
  return {
      Errc::kInvalidArgument,
      str_cat("prompt: Input should be a string, a list of strings, a list of token ids or a list of such lists, got ",
              got.kind_name())};
}

Result<std::vector<PromptInput>> parse_prompts(const Json* json) {
  if (!json || json->is_null()) return Error{Errc::kInvalidArgument, "prompt: Field required"};
  std::vector<PromptInput> prompts;
  if (json->is_string()) {
    prompts.emplace_back(json->as_string());
    return prompts;
  }
  if (!json->is_array()) return bad_prompt(*json);
  if (json->size() == 0) return prompts;
  if (json->as_array().front().is_number()) {
    CARAT_TRY(auto ids, parse_token_ids(*json, "prompt"));
    prompts.emplace_back(std::move(ids));
    return prompts;
  }
  for (const Json& item : json->as_array()) {
    if (!item.is_string() && !item.is_array()) return bad_prompt(item);
    CARAT_TRY(auto prompt, parse_prompt(item));
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

bool is_empty(const PromptInput& prompt) {
  return std::visit([](const auto& p) { return p.empty(); }, prompt);
}

}  // namespace

Result<CompletionRequest> parse_completion_request(const Json& body, const GenerationParams& defaults) {
  CompletionRequest request;
  request.params = defaults;
  JsonFields fields(body, "");
  CARAT_TRY_VOID(fields.status());
  if (auto model = fields.text("model")) request.model = std::move(*model);
  read_openai_params(fields, request.params);
  if (const auto most = fields.integer("max_tokens")) request.params.max_new_tokens = *most;
  request.stream = read_stream_params(fields);
  request.identity = read_identity(fields);
  request.echo = fields.boolean("echo").value_or(false);
  request.return_token_ids = fields.boolean("return_token_ids").value_or(false);
  request.return_cached_tokens_details = fields.boolean("return_cached_tokens_details").value_or(false);
  if (const auto top = fields.integer("logprobs", 0, kMaxTopLogprobs)) {
    request.params.logprobs.enabled = true;
    request.params.logprobs.num_top = static_cast<int>(*top);
    if (request.echo) request.params.logprobs.prompt_start = 0;
  }
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY(request.prompts, parse_prompts(body.find("prompt")));
  return request;
}

Result<void> check_completion_request(const Json& body, const CompletionRequest& request, int vocab_size) {
  if (request.prompts.empty()) return Error{Errc::kInvalidArgument, "Prompt cannot be empty"};
  if (request.prompts.size() > kMaxPromptsPerRequest)
    return Error{Errc::kInvalidArgument,
                 str_cat("at most ", kMaxPromptsPerRequest, " prompts are allowed, got ", request.prompts.size())};
  for (const PromptInput& prompt : request.prompts)
    if (is_empty(prompt)) return Error{Errc::kInvalidArgument, "Prompt cannot be empty"};
  if (request.params.max_new_tokens && *request.params.max_new_tokens <= 0)
    return Error{Errc::kInvalidArgument, "max_tokens must be positive"};
  CARAT_TRY_VOID(refuse_unserved(body, kUnserved));
  return check_params(request.params, vocab_size);
}

}  // namespace carat
