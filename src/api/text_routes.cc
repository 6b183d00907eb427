// Endpoints that only turn texts into something else. Source: spec api.md section 8, parsers.md section 6.

#include "api/api_impl.h"
#include "api/messages_request.h"
#include "base/str.h"
#include "output/message_parser.h"

namespace carat {
namespace {

Json ids_json(std::span<const TokenId> ids) {
  Json out = Json::array();
  for (const TokenId id : ids) out.push_back(id);
  return out;
}

Result<std::vector<TokenId>> tokenize_text(const ServedModel& model, const Json& prompt, bool add_special) {
  if (!prompt.is_string())
    return Error{Errc::kInvalidArgument,
                 str_cat("prompt: Input should be a string or a list of strings, got ", prompt.kind_name())};
  return model.tokenizer->encode(prompt.as_string(), add_special);
}

Result<TextAnswer> tokenize_body(const PrepareContext& context, const Json& body, RequestStage& stage) {
  JsonFields fields(body, "");
  const bool add_special = fields.boolean("add_special_tokens").value_or(true);
  const auto add_generation_prompt = fields.boolean("add_generation_prompt");
  CARAT_TRY_VOID(fields.status());
  const Json* prompt = fields.find("prompt");
  const Json* messages = fields.find("messages");
  if ((prompt != nullptr) == (messages != nullptr))
    return Error{Errc::kInvalidArgument, "Exactly one of prompt and messages must be given."};
  const auto answer = [max = context.model.context_length](Json tokens, Json count) {
    return Json::object({{"tokens", std::move(tokens)}, {"count", std::move(count)}, {"max_model_len", max}});
  };
  if (messages) {
    stage = RequestStage::kRequest;
    CARAT_TRY(const auto input, read_chat_input(context, body, add_generation_prompt));
    CARAT_TRY(auto tokens, encode_chat_prompt(context, input));
    return TextAnswer(AnswerOfIds{
        std::move(tokens), [answer](std::span<const TokenId> ids) { return answer(ids_json(ids), ids.size()); }});
  }
  if (!prompt->is_array()) {
    CARAT_TRY(const auto ids, tokenize_text(context.model, *prompt, add_special));
    return TextAnswer(answer(ids_json(ids), ids.size()));
  }
  Json tokens = Json::array(), count = Json::array();
  for (const Json& item : prompt->as_array()) {
    CARAT_TRY(const auto ids, tokenize_text(context.model, item, add_special));
    tokens.push_back(ids_json(ids));
    count.push_back(ids.size());
  }
  return TextAnswer(answer(std::move(tokens), std::move(count)));
}

Result<TextAnswer> detokenize_body(const PrepareContext& context, const Json& body, RequestStage&) {
  JsonFields fields(body, "");
  const bool skip = fields.boolean("skip_special_tokens").value_or(true);
  CARAT_TRY_VOID(fields.status());
  const Json* tokens = fields.find("tokens");
  if (!tokens) return Error{Errc::kInvalidArgument, "tokens: Field required"};
  const bool nested = tokens->is_array() && tokens->size() > 0 && tokens->as_array().front().is_array();
  Json text = Json::array();
  if (!nested) {
    CARAT_TRY(const auto ids, parse_token_ids(*tokens, "tokens"));
    text = context.model.tokenizer->decode(ids, skip);
  } else {
    for (const Json& item : tokens->as_array()) {
      CARAT_TRY(const auto ids, parse_token_ids(item, "tokens"));
      text.push_back(context.model.tokenizer->decode(ids, skip));
    }
  }
  return TextAnswer(Json::object({{"text", std::move(text)}}));
}

/// There is one parser; `auto` means it too.
Result<void> check_parser(const std::optional<std::string>& name, std::string_view field) {
  if (!name || *name == "gemma4" || *name == "auto") return {};
  return Error{Errc::kInvalidArgument, str_cat(field, ": '", *name, "' is not supported, it can be gemma4 or auto")};
}

Result<std::string> required_text(JsonFields& fields) {
  auto text = fields.text("text");
  CARAT_TRY_VOID(fields.status());
  if (!text) return Error{Errc::kInvalidArgument, "text: Field required"};
  return std::move(*text);
}

/// The parts of a text in which markers are spelled.
std::vector<MessagePart> parse_text(const MessageParserOptions& options, std::string_view text) {
  MarkerScanner scanner;
  std::string marked;
  scanner.push(text, marked);
  scanner.finish(marked);
  return parse_message(options, marked, /*truncated=*/false);
}

Result<TextAnswer> function_call_body(const PrepareContext& context, const Json& body, RequestStage& stage) {
  JsonFields fields(body, "");
  CARAT_TRY(const auto text, required_text(fields));
  const auto parser = fields.text("tool_call_parser");
  CARAT_TRY_VOID(fields.status());
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_parser(parser, "tool_call_parser"));
  // As in a chat request, so that tools are checked and normalised alike.
  const Json* tools = fields.find("tools");
  const Json chat = Json::object({{"messages", Json::array({Json::object({{"role", "user"}, {"content", ""}})})},
                                  {"tools", tools ? *tools : Json()}});
  CARAT_TRY(auto input, read_chat_input(context, chat));
  MessageParserOptions options;
  options.separate_reasoning = false;
  options.parse_calls = true;
  options.tools = tool_schemas(std::move(input.tools));
  const Message message = collect_message(parse_text(options, text));
  Json calls = Json::array();
  for (const Message::Call& call : message.calls)
    calls.push_back(Json::object(
        {{"tool_index", calls.size()}, {"name", call.name}, {"parameters", call.arguments.value_or("{}")}}));
  return TextAnswer(Json::object({{"normal_text", message.content}, {"calls", std::move(calls)}}));
}

Result<TextAnswer> separate_reasoning_body(const PrepareContext&, const Json& body, RequestStage& stage) {
  JsonFields fields(body, "");
  CARAT_TRY(const auto text, required_text(fields));
  const auto parser = fields.text("reasoning_parser");
  const bool return_blocks = fields.boolean("return_blocks").value_or(false);
  CARAT_TRY_VOID(fields.status());
  if (!parser) return Error{Errc::kInvalidArgument, "reasoning_parser: Field required"};
  stage = RequestStage::kRequest;
  CARAT_TRY_VOID(check_parser(parser, "reasoning_parser"));
  const auto parts = parse_text({}, text);
  Json reasoning_blocks = Json::array(), text_blocks = Json::array(), blocks = Json::array();
  for (const MessagePart& part : parts) {
    const bool thought = part.kind == MessagePart::Kind::kReasoning;
    (thought ? reasoning_blocks : text_blocks).push_back(part.text);
    blocks.push_back(Json::object({{"type", thought ? "reasoning" : "text"}, {"text", part.text}}));
  }
  const Message message = collect_message(parts);
  Json out = Json::object({{"reasoning_text", message.reasoning}, {"text", message.content}});
  if (!return_blocks) return TextAnswer(std::move(out));
  out.set("reasoning_blocks", std::move(reasoning_blocks));
  out.set("text_blocks", std::move(text_blocks));
  out.set("blocks", std::move(blocks));
  return TextAnswer(std::move(out));
}

Result<TextAnswer> message_tokens_body(const PrepareContext& context, const Json& body, RequestStage& stage) {
  CARAT_TRY(const auto request, parse_messages_request(body, MessagesPurpose::kCount));
  stage = RequestStage::kRequest;
  CARAT_TRY(const auto input, read_chat_input(context, request.chat));
  CARAT_TRY(auto tokens, encode_chat_prompt(context, input));
  return TextAnswer(AnswerOfIds{std::move(tokens), [](std::span<const TokenId> ids) {
                                  return Json::object({{"input_tokens", ids.size()}});
                                }});
}

}  // namespace

void Api::Impl::tokenize(HttpRequest request, ReplyPtr reply) {
  answer_text(ErrorStyle::kOpenAi, &tokenize_body, request, reply);
}

void Api::Impl::detokenize(HttpRequest request, ReplyPtr reply) {
  answer_text(ErrorStyle::kOpenAi, &detokenize_body, request, reply);
}

void Api::Impl::parse_function_call(HttpRequest request, ReplyPtr reply) {
  answer_text(ErrorStyle::kOpenAi, &function_call_body, request, reply);
}

void Api::Impl::separate_reasoning(HttpRequest request, ReplyPtr reply) {
  answer_text(ErrorStyle::kOpenAi, &separate_reasoning_body, request, reply);
}

void Api::Impl::count_message_tokens(HttpRequest request, ReplyPtr reply) {
  answer_text(ErrorStyle::kAnthropic, &message_tokens_body, request, reply);
}

void Api::Impl::answer_text(ErrorStyle style, TextFunction function, HttpRequest& request, const ReplyPtr& reply) {
  auto gone = std::make_shared<std::atomic<bool>>(false);
  reply->on_disconnect([gone] { gone->store(true); });
  on_prep(style, reply, [this, style, function, reply, gone, text = std::move(request.body)] {
    RequestStage stage = RequestStage::kSchema;
    const auto body = parse_json(text);
    auto answer = body ? function(prepare_context(), *body, stage) : Result<TextAnswer>(body.error());
    if (!answer)
      return send_error(*reply, stage == RequestStage::kSchema ? schema_error(style, answer.error())
                                                               : request_error(style, answer.error()));
    if (const auto* ready = std::get_if<Json>(&*answer))
      return reply->send({200, "application/json", ready->dump(), {}});
    answer_of_ids(style, std::move(std::get<AnswerOfIds>(*answer)), gone, reply);
  });
}

void Api::Impl::answer_of_ids(ErrorStyle style, AnswerOfIds answer, std::shared_ptr<const std::atomic<bool>> cancelled,
                              const ReplyPtr& reply) {
  std::vector<MediaPart> parts;
  for (PlacedMedium& medium : answer.prompt.media) parts.push_back(medium.take_part());
  const auto send = [this, answer = std::move(answer), style, reply](auto loaded) {
    if (!loaded) return send_error(*reply, request_error(style, loaded.error()));
    const auto expanded = expand_media(answer.prompt, *loaded, model()->config->media, *model()->tokenizer);
    reply->send({200, "application/json", answer.body(expanded.ids).dump(), {}});
  };
  if (parts.empty()) return send(Result<std::vector<LoadedMedium>>(std::vector<LoadedMedium>{}));
  media_pool->load(std::move(parts), std::move(cancelled), send);
}

}  // namespace carat
