#include "api/chat_request.h"

#include <array>

#include "base/str.h"

namespace carat {
namespace {

constexpr auto kUnserved = std::to_array<std::string_view>(
    {"return_hidden_states", "return_routed_experts", "lora_path", "session_params", "custom_logit_processor",
     "custom_params", "watermark", "return_sampling_mask", "return_flat_raw_output_top_logprobs", "images_config",
     "video_config", "mm_processor_kwargs", "max_dynamic_patch", "use_audio_in_video", "task"});

void read_max_tokens(JsonFields& fields, GenerationParams& params) {
  params.max_new_tokens.reset();
  for (const std::string_view key : {"max_tokens", "max_completion_tokens"})
    if (const auto most = fields.integer(key); most && *most != 0) params.max_new_tokens = *most;
}

void read_chat_logprobs(JsonFields& fields, LogprobParams& out) {
  out.enabled = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  if (out.enabled) out.num_top = static_cast<int>(top.value_or(0));
}

Result<void> refuse_with_stream(const ChatRequest& request) {
  if (!request.stream.stream) return {};
  const std::string_view field = request.return_token_ids    ? "return_token_ids"
                                 : request.return_prompt_ids ? "return_prompt_token_ids"
                                 : request.return_meta_info  ? "return_meta_info"
                                                             : "";
  if (field.empty()) return {};
  return Error{Errc::kInvalidArgument, str_cat(field,
                                               " is not supported with streaming. Please set stream=false when "
                                               "using ",
                                               field, "=true.")};
}

}  // namespace

Result<ChatRequest> parse_chat_request(const Json& body, const GenerationParams& defaults,
                                       const std::vector<TokenId>& markers) {
  ChatRequest request;
  request.params = defaults;
  JsonFields fields(body, "");
  CARAT_TRY_VOID(fields.status());
  if (auto model = fields.text("model")) request.model = std::move(*model);
  read_openai_params(fields, request.params);
  const auto preferred = request.params.max_new_tokens;
  read_max_tokens(fields, request.params);
  if (!request.params.max_new_tokens) request.params.max_new_tokens = preferred;
  read_chat_logprobs(fields, request.params.logprobs);
  request.stream = read_stream_params(fields);
  request.identity = read_identity(fields);
  request.input_ids = fields.ids("input_ids");
  const auto on = [&](std::string_view key) { return fields.boolean(key).value_or(false); };
  request.return_meta_info = on("return_meta_info");
  request.return_token_ids = on("return_token_ids");
  request.return_prompt_ids = on("return_prompt_token_ids") || request.return_token_ids;
  request.sglext.cached_tokens = on("return_cached_tokens_details");
  request.sglext.input_ids = on("return_input_ids_in_sglext");
  request.sglext.output_ids = on("return_output_ids_in_sglext");
  request.separate_reasoning = fields.boolean("separate_reasoning").value_or(true);
  request.stream_reasoning = fields.boolean("stream_reasoning").value_or(true);
  request.params.text.markers = markers;
  // With ignore_eos all is shown, since benchmarks count tokens by their text.
  if (request.params.sampling.ignore_eos) request.params.text.skip_special_tokens = false;
  CARAT_TRY_VOID(fields.status());
  return request;
}

Result<void> check_chat_request(const Json& body, const ChatRequest& request, int vocab_size,
                                std::optional<int> context_length_given) {
  const auto bad = [](std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; };
  const auto& most = request.params.max_new_tokens;
  if (most && *most < 0) return bad("max_tokens must be positive");
  if (most && context_length_given && *most > *context_length_given)
    return bad(str_cat("max_completion_tokens is too large: ", *most, ".This model supports at most ",
                       *context_length_given, " completion tokens."));
  if (request.input_ids && request.input_ids->empty()) return bad("input_ids cannot be empty.");
  CARAT_TRY_VOID(refuse_with_stream(request));
  CARAT_TRY_VOID(refuse_unserved(body, kUnserved));
  return check_params(request.params, vocab_size);
}

}  // namespace carat
