#include "api/prepare.h"

#include <algorithm>
#include <utility>

#include "api/answer_form.h"
#include "api/chat_request.h"
#include "api/chat_writer.h"
#include "api/completion_request.h"
#include "api/completion_writer.h"
#include "api/messages_request.h"
#include "api/messages_writer.h"
#include "api/native_request.h"
#include "api/native_writer.h"
#include "api/ollama_request.h"
#include "api/ollama_writer.h"
#include "api/responses_request.h"
#include "api/responses_writer.h"
#include "base/str.h"
#include "chat/parse_chat.h"

namespace carat {
namespace {

WriterContext writer_context(const PrepareContext& context) {
  return {context.model.tokenizer, context.settings.weight_version, context.settings.cache_report,
          context.settings.incremental_streaming_output};
}

/// A route's defaults with --preferred-sampling-params over them.
Result<GenerationParams> defaults_for(const PrepareContext& context, SamplingParams sampling,
                                      std::optional<int64_t> max_new_tokens) {
  GenerationParams params;
  params.sampling = std::move(sampling);
  params.max_new_tokens = max_new_tokens;
  if (context.settings.preferred_sampling_params.is_object())
    CARAT_TRY_VOID(read_native_params(context.settings.preferred_sampling_params, params));
  return params;
}

Result<int> priority_of(const PrepareContext& context, const RequestIdentity& identity) {
  const ApiSettings& settings = context.settings;
  if (!settings.priority_scheduling) {
    if (identity.priority && settings.abort_on_priority_when_disabled)
      return Error{Errc::kInvalidArgument,
                   "Using priority is disabled for this server. Please send a new request without a priority."};
    return 0;
  }
  const int priority = identity.priority.value_or(settings.default_priority.value_or(0));
  return settings.low_priority_values_first ? -priority : priority;
}

/// Compiles the stop expressions, or takes those of the prompt before if they are the same.
Result<void> compile_stop_regexes(GenerationParams& params, const PreparedPrompt* before) {
  if (params.stop_regex.empty()) return {};
  if (before && before->params.stop_regex == params.stop_regex) {
    params.text.stop_regexes = before->params.text.stop_regexes;
    return {};
  }
  CARAT_TRY(params.text.stop_regexes, StopRegexes::compile(params.stop_regex));
  return {};
}

/// `before`: the prompt before of a batch, if any.
Result<PreparedPrompt> make_prompt(const PrepareContext& context, std::string id, PromptTokens tokens,
                                   GenerationParams params, const RequestIdentity& identity,
                                   const PreparedPrompt* before = nullptr) {
  CARAT_TRY_VOID(compile_stop_regexes(params, before));
  PreparedPrompt prompt;
  prompt.id = std::move(id);
  prompt.ids = std::move(tokens.ids);
  prompt.to_load = std::move(tokens.media);
  prompt.params = std::move(params);
  prompt.cache_salt = identity.cache_salt;
  CARAT_TRY(prompt.priority, priority_of(context, identity));
  if (prompt.to_load.empty()) CARAT_TRY_VOID(settle_prompt(prompt, context.model, context.settings));
  return prompt;
}

const PreparedPrompt* last_of(const std::vector<PreparedPrompt>& prompts) {
  return prompts.empty() ? nullptr : &prompts.back();
}

StreamParams with_default_usage(const PrepareContext& context, StreamParams stream) {
  stream.include_usage |= context.settings.stream_default_include_usage;
  return stream;
}

/// Whether the reply to a chat request has calls. Required ones are read with and without --tool-call-parser.
bool may_have_calls(const ApiSettings& settings, const ChatInput& input) {
  using Mode = ChatToolChoice::Mode;
  const Mode mode = input.tool_choice.mode;
  if (mode == Mode::kRequired || mode == Mode::kNamed) return true;
  return mode == Mode::kAuto && settings.tool_call_parser && !input.tools.empty();
}

MessageParserOptions message_options(const PrepareContext& context, const ChatRequest& request, ChatInput input,
                                     std::span<const TokenId> prompt) {
  using Start = MessageParserOptions::Start;
  MessageParserOptions options;
  options.separate_reasoning = context.settings.reasoning_parser && request.separate_reasoning;
  options.stream_reasoning = request.stream_reasoning;
  options.nonempty_content = input.options.force_nonempty_content;
  if (context.model.markers.ends_in_thought(prompt))
    options.start = Start::kThought;
  else if (input.options.enable_thinking)
    options.start = Start::kUndecided;
  options.parse_calls = may_have_calls(context.settings, input);
  options.tools = tool_schemas(std::move(input.tools));
  return options;
}

PreparedGeneration one_run(const PrepareContext& context, PreparedChat chat, std::unique_ptr<AnswerWriter> writer) {
  PreparedGeneration out;
  out.prompts.push_back(std::move(chat.prompt));
  out.writer = std::move(writer);
  out.stream_interval = context.settings.stream_interval;
  return out;
}

/// To at most `length` ids, none of them of a medium that does not fit as a whole.
void cut_prompt(PreparedPrompt& prompt, int length) {
  while (!prompt.media.empty() && prompt.media.back().begin + prompt.media.back().input->num_tokens > length) {
    length = std::min(length, prompt.media.back().begin);
    prompt.media.pop_back();
  }
  prompt.ids.resize(static_cast<size_t>(length));
}

std::string echo_text(const PrepareContext& context, const PromptInput& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  return context.model.tokenizer->decode(std::get<std::vector<TokenId>>(prompt), true);
}

}  // namespace

Result<void> settle_prompt(PreparedPrompt& prompt, const ServedModel& model, const ApiSettings& settings) {
  CARAT_TRY_VOID(
      fit_to_context(prompt, model.context_length, model.engine->max_sequence_tokens(), settings.allow_auto_truncate));
  const auto& start = prompt.params.logprobs.prompt_start;
  if (start && *start > static_cast<int>(prompt.ids.size()))
    return Error{Errc::kInvalidArgument,
                 str_cat("logprob_start_len (", *start, ") is higher than the number of input tokens (",
                         prompt.ids.size(), ").")};
  return {};
}

Result<void> add_loaded_media(PreparedPrompt& prompt, std::span<const LoadedMedium> loaded, const ServedModel& model,
                              const ApiSettings& settings) {
  const PromptTokens before{std::move(prompt.ids), std::exchange(prompt.to_load, {})};
  auto expanded = expand_media(before, loaded, model.config->media, *model.tokenizer);
  prompt.ids = std::move(expanded.ids);
  prompt.media = std::move(expanded.media);
  for (const LoadedMedium& medium : loaded) prompt.counted_media.push_back(medium.counted);
  return settle_prompt(prompt, model, settings);
}

Result<void> fit_to_context(PreparedPrompt& prompt, int context_length, int max_sequence_tokens, bool truncate) {
  const int64_t room = context_length;
  int64_t given = static_cast<int64_t>(prompt.ids.size());
  auto& wanted = prompt.params.max_new_tokens;
  if (given >= room) {
    if (!truncate)
      return Error{
          Errc::kInvalidArgument,
          str_cat("The input (", given, " tokens) is longer than the model's context length (", room, " tokens).")};
    cut_prompt(prompt, static_cast<int>(room - 1));
    given = static_cast<int64_t>(prompt.ids.size());
  }
  if (wanted && given + *wanted > room) {
    if (!truncate)
      return Error{
          Errc::kInvalidArgument,
          str_cat("Requested token count exceeds the model's maximum context length of ", room,
                  " tokens. You requested a total of ", given + *wanted, " tokens: ", given,
                  " tokens from the input messages and ", *wanted,
                  " tokens for the completion. Please reduce the number of tokens in the input messages or the "
                  "completion to fit within the limit.")};
    wanted = room - given;
  }
  // One position stays free, as in SGLang, but a prompt that just fits still gets its one token.
  const int64_t possible = std::max<int64_t>(std::min<int64_t>(room - 1, max_sequence_tokens) - given - 1, 1);
  prompt.params.sampling.max_new_tokens = static_cast<int>(std::min(wanted.value_or(possible), possible));
  auto& least = prompt.params.sampling.min_new_tokens;
  least = std::min(least, prompt.params.sampling.max_new_tokens);
  return {};
}

Result<std::vector<TokenId>> encode_prompt(const ServedModel& model, const PromptInput& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    auto ids = model.tokenizer->encode(*text, true);
    if (ids.empty()) return Error{Errc::kInvalidArgument, "Prompt cannot be empty"};
    return ids;
  }
  const auto& ids = std::get<std::vector<TokenId>>(prompt);
  for (const TokenId id : ids)
    if (id < 0 || id >= model.config->text.vocab_size)
      return Error{Errc::kInvalidArgument, str_cat("The input_ids contain ", id, ", which is outside the vocabulary (",
                                                   model.config->text.vocab_size, " tokens).")};
  return ids;
}

Result<ChatInput> read_chat_input(const PrepareContext& context, const Json& body,
                                  std::optional<bool> add_generation_prompt) {
  ChatParseOptions options;
  options.default_template_kwargs = context.settings.default_chat_template_kwargs;
  options.add_generation_prompt = add_generation_prompt;
  return parse_chat_input(body, options);
}

std::shared_ptr<const ToolSchemas> tool_schemas(std::vector<ChatTool> tools) {
  ToolSchemas schemas;
  for (ChatTool& tool : tools) schemas.insert_or_assign(std::move(tool.name), std::move(tool.parameters));
  return std::make_shared<const ToolSchemas>(std::move(schemas));
}

Result<PromptTokens> encode_chat_prompt(const PrepareContext& context, const ChatInput& input) {
  const ServedModel& model = context.model;
  CARAT_TRY(const auto rendered, render_chat(input, model.family));
  CARAT_TRY(auto prompt, place_chat_media(encode_chat(*model.tokenizer, rendered), rendered, all_media(input).size(),
                                          model.config->media));
  CARAT_TRY_VOID(context.media.check(prompt.media));
  return prompt;
}

namespace {

/// Ids that a client gave, with the media of its messages.
Result<PromptTokens> place_given_media(const PrepareContext& context, std::vector<TokenId> ids,
                                       std::span<const MediaPart> media) {
  CARAT_TRY(auto prompt, place_media(std::move(ids), media, context.model.config->media));
  CARAT_TRY_VOID(context.media.check(prompt.media));
  return prompt;
}

Result<PromptTokens> encode_chat_request(const PrepareContext& context, ChatRequest& request, const ChatInput& input) {
  if (!request.input_ids) return encode_chat_prompt(context, input);
  CARAT_TRY(auto ids, encode_prompt(context.model, std::move(*request.input_ids)));
  return place_given_media(context, std::move(ids), all_media(input));
}

}  // namespace

Result<PreparedChat> prepare_chat_body(const PrepareContext& context, const Json& body, RequestStage& stage) {
  stage = RequestStage::kSchema;
  const ModelConfig& config = *context.model.config;
  CARAT_TRY(const auto defaults,
            defaults_for(context, chat_sampling_defaults(config.generation, context.settings.model_sampling_defaults),
                         std::nullopt));
  PreparedChat out;
  CARAT_TRY(out.request, parse_chat_request(body, defaults, context.model.markers.all()));
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_chat_request(body, out.request, config.text.vocab_size, context.settings.context_length_given));
  CARAT_TRY(auto input, read_chat_input(context, body));
  AnswerForm& form = out.request.params.form;
  CARAT_TRY_VOID(read_answer_form(body, form));
  if (input.options.enable_thinking) form.thinking_budget = context.settings.default_thinking_budget;
  CARAT_TRY_VOID(read_thinking_budget(body, form));
  CARAT_TRY_VOID(add_call_form(input, context.settings.constrain_auto_calls, form));
  CARAT_TRY(auto tokens, encode_chat_request(context, out.request, input));
  const RequestIdentity& identity = out.request.identity;
  CARAT_TRY(out.prompt, make_prompt(context, identity.rid.value_or(new_request_id()), std::move(tokens),
                                    out.request.params, identity));
  out.prompt.thinking = input.options.enable_thinking;
  out.prompt.message = message_options(context, out.request, std::move(input), out.prompt.ids);
  return out;
}

Result<PreparedGeneration> prepare_chat(const PrepareContext& context, const Json& body, RequestStage& stage) {
  CARAT_TRY(auto chat, prepare_chat_body(context, body, stage));
  const ChatRequest& request = chat.request;
  ChatAnswerOptions answer{chat.prompt.id,
                           request.model,
                           with_default_usage(context, request.stream),
                           request.params.logprobs.enabled,
                           request.return_meta_info,
                           request.return_prompt_ids,
                           request.return_token_ids,
                           request.sglext};
  answer.sglext.input_ids |= context.sglext.input_ids || context.settings.return_input_ids;
  answer.sglext.output_ids |= context.sglext.output_ids || context.settings.return_output_ids;
  answer.sglext.framed_ids = context.sglext.framed_ids;
  return one_run(context, std::move(chat), make_chat_writer(writer_context(context), std::move(answer)));
}

namespace {

/// The request's own value, else the default that takes its place, with as many digits as a float has.
Json effective_number(const Json& body, std::string_view key, float otherwise) {
  if (const Json* given = body.find(key); given && given->is_number()) return *given;
  double rounded = 0;
  return parse_float(str_cat(otherwise), rounded) ? Json(rounded) : Json();
}

/// Puts the items of the response that the request goes on from in front of its own.
Result<void> prepend_previous(const PrepareContext& context, ResponsesRequest& request) {
  if (!request.previous_response_id) return {};
  CARAT_TRY(Json items, context.responses->conversation(*request.previous_response_id));
  for (Json& item : request.items.as_array()) items.push_back(std::move(item));
  request.items = std::move(items);
  return {};
}

}  // namespace

Result<PreparedGeneration> prepare_responses(const PrepareContext& context, const Json& body, RequestStage& stage) {
  stage = RequestStage::kSchema;
  CARAT_TRY(auto request, parse_responses_request(body));
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_responses_request(request, context.settings.served_model_name, context.responses != nullptr));
  CARAT_TRY_VOID(prepend_previous(context, request));
  CARAT_TRY(auto messages, responses_messages(request.instructions, request.items));
  request.chat.set("messages", std::move(messages));
  CARAT_TRY(auto chat, prepare_chat_body(context, request.chat, stage));
  const SamplingParams& sampling = chat.request.params.sampling;
  request.echo.set("model", context.settings.served_model_name);
  request.echo.set("temperature", effective_number(body, "temperature", sampling.temperature));
  request.echo.set("top_p", effective_number(body, "top_p", sampling.top_p));
  ResponsesAnswerOptions answer;
  answer.id = request.id;
  answer.stream = request.stream;
  answer.logprobs = request.include_logprobs;
  answer.encrypted_reasoning = request.include_encrypted_reasoning;
  answer.summarize_reasoning = request.summarize_reasoning;
  answer.store = request.store ? context.responses : nullptr;
  answer.response = new_response(request.id, request.echo, answer.store != nullptr);
  if (answer.store) answer.items = std::move(request.items);
  std::optional<Json> background;
  if (request.background) background = answer.response;
  auto out = one_run(context, std::move(chat), make_responses_writer(writer_context(context), std::move(answer)));
  out.background = std::move(background);
  return out;
}

Result<PreparedGeneration> prepare_messages(const PrepareContext& context, const Json& body, RequestStage& stage) {
  stage = RequestStage::kSchema;
  CARAT_TRY(auto request, parse_messages_request(body, MessagesPurpose::kAnswer));
  CARAT_TRY(auto chat, prepare_chat_body(context, request.chat, stage));
  return one_run(context, std::move(chat),
                 make_messages_writer(writer_context(context), {request.id, request.model, request.stream}));
}

namespace {

Result<PreparedGeneration> prepare_ollama(const PrepareContext& context, const OllamaRequest& request, bool is_chat,
                                          RequestStage& stage) {
  auto writer = make_ollama_writer({request.model, request.stream, is_chat, request.empty});
  if (request.empty) {
    PreparedGeneration nothing;
    nothing.writer = std::move(writer);
    return nothing;
  }
  CARAT_TRY(auto chat, prepare_chat_body(context, request.chat, stage));
  return one_run(context, std::move(chat), std::move(writer));
}

}  // namespace

Result<PreparedGeneration> prepare_ollama_chat(const PrepareContext& context, const Json& body, RequestStage& stage) {
  CARAT_TRY(const auto request, parse_ollama_chat(body));
  return prepare_ollama(context, request, true, stage);
}

Result<PreparedGeneration> prepare_ollama_generate(const PrepareContext& context, const Json& body,
                                                   RequestStage& stage) {
  CARAT_TRY(const auto request, parse_ollama_generate(body));
  return prepare_ollama(context, request, false, stage);
}

Result<PreparedGeneration> prepare_completion(const PrepareContext& context, const Json& body, RequestStage& stage) {
  stage = RequestStage::kSchema;
  CARAT_TRY(const auto defaults, defaults_for(context, {}, 16));
  CARAT_TRY(auto request, parse_completion_request(body, defaults));
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_completion_request(body, request, context.model.config->text.vocab_size));
  CARAT_TRY_VOID(read_answer_form(body, request.params.form));
  CARAT_TRY_VOID(read_thinking_budget(body, request.params.form));
  const std::string id = request.identity.rid.value_or(new_request_id());
  CompletionAnswerOptions answer{id,
                                 std::move(request.model),
                                 with_default_usage(context, request.stream),
                                 request.echo,
                                 request.params.logprobs.enabled,
                                 request.return_token_ids,
                                 {},
                                 {.cached_tokens = request.return_cached_tokens_details}};
  PreparedGeneration out;
  const bool batch = request.prompts.size() > 1;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    if (request.echo) answer.prompt_texts.push_back(echo_text(context, request.prompts[i]));
    CARAT_TRY(auto ids, encode_prompt(context.model, request.prompts[i]));
    CARAT_TRY(auto ready, make_prompt(context, batch ? str_cat(id, "_", i) : id, {std::move(ids)}, request.params,
                                      request.identity, last_of(out.prompts)));
    out.prompts.push_back(std::move(ready));
  }
  out.stream_interval = context.settings.stream_interval;
  out.writer = make_completion_writer(writer_context(context), std::move(answer));
  return out;
}

namespace {

Result<PreparedGeneration> prepare_native_as(const PrepareContext& context, const Json& body, RequestStage& stage,
                                             NativeAnswerOptions answer) {
  stage = RequestStage::kSchema;
  CARAT_TRY(const auto defaults, defaults_for(context, {}, 128));
  CARAT_TRY(auto request, parse_native_request(body, defaults));
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_native_request(body, request, context.model.config->text.vocab_size));
  for (size_t i = 0; i < request.items.size(); ++i) {
    AnswerForm& form = request.items[i].params.form;
    if (const Json* sampling = native_sampling_params(body, i)) CARAT_TRY_VOID(read_answer_form(*sampling, form));
    CARAT_TRY_VOID(read_thinking_budget(body, form));
  }
  PreparedGeneration out;
  answer.stream = request.stream;
  answer.list = request.batch || request.items.front().params.n > 1;
  answer.return_prompt_ids = request.return_prompt_ids;
  out.count_metrics = request.log_metrics;
  out.stream_interval = request.items.front().params.stream_interval.value_or(context.settings.stream_interval);
  for (NativeItem& item : request.items) {
    answer.logprobs.push_back({item.params.logprobs.enabled, item.text_in_logprobs});
    CARAT_TRY(auto ids, encode_prompt(context.model, item.prompt));
    CARAT_TRY(auto tokens, place_given_media(context, std::move(ids), item.media));
    CARAT_TRY(auto ready, make_prompt(context, item.identity.rid.value_or(new_request_id()), std::move(tokens),
                                      std::move(item.params), item.identity, last_of(out.prompts)));
    out.prompts.push_back(std::move(ready));
  }
  out.writer = make_native_writer(writer_context(context), std::move(answer));
  return out;
}

}  // namespace

Result<PreparedGeneration> prepare_native(const PrepareContext& context, const Json& body, RequestStage& stage) {
  return prepare_native_as(context, body, stage, {});
}

Result<PreparedGeneration> prepare_vertex(const PrepareContext& context, const Json& body, RequestStage& stage) {
  stage = RequestStage::kSchema;
  CARAT_TRY(const auto native, vertex_to_native(body));
  NativeAnswerOptions answer;
  answer.predictions = true;
  return prepare_native_as(context, native, stage, std::move(answer));
}

}  // namespace carat
