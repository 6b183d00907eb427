#include "base/json.h"
#include "base/str.h"
#include "client/chat_backend.h"

namespace carat {
namespace {

std::string string_at(const Json* value) { return value != nullptr && value->is_string() ? value->as_string() : ""; }

std::optional<int> int_at(const Json& object, std::string_view key) {
  const auto* value = object.find(key);
  return value != nullptr && value->is_int() ? std::optional(static_cast<int>(value->as_int())) : std::nullopt;
}

/// "message" of an error object, wherever the API's forms of it have it.
std::string error_message(const Json& body) {
  const auto* error = body.find("error");
  if (error != nullptr && error->is_string()) return error->as_string();
  const auto nested = error != nullptr ? string_at(error->find("message")) : "";
  return nested.empty() ? string_at(body.find("message")) : nested;
}

Error refusal(const HttpClientResponse& response) {
  const auto body = parse_json(response.body);
  const auto message = body ? error_message(*body) : response.body;
  return {Errc::kUnavailable, str_cat("the server answers ", response.status(), " ", response.head.reason,
                                      message.empty() ? "" : ": ", message)};
}

class HttpChatBackend final : public DialogBackend {
 public:
  HttpChatBackend(const HttpUrl& base, std::string model, const std::string& api_key)
      : client_(base), model_(std::move(model)) {
    if (!api_key.empty()) headers_.push_back({"Authorization", str_cat("Bearer ", api_key)});
  }

  Result<std::string> model() override {
    if (!model_.empty()) return model_;
    CARAT_TRY(const auto response, client_.request({.target = "/v1/models", .headers = headers_}));
    if (response.status() != 200) return refusal(response);
    const auto body = parse_json(response.body);
    const auto* models = body ? body->find("data") : nullptr;
    if (models != nullptr && models->is_array() && models->size() > 0)
      model_ = string_at(models->as_array()[0].find("id"));
    if (model_.empty()) return Error{Errc::kUnavailable, "/v1/models names no model; --model does"};
    return model_;
  }

  Result<DialogAnswer> answer(const DialogRequest& request,
                              const std::function<void(std::string_view, std::string_view)>& on_piece,
                              const std::atomic<bool>& stop) override {
    CARAT_TRY(const auto name, model());
    DialogAnswer answer;
    std::optional<Error> error;
    const auto on_event = [&](std::string_view, std::string_view data) {
      if (data == "[DONE]") return true;
      auto taken = take(data, on_piece, answer);
      if (!taken && !error) error = std::move(taken).error();
      return true;
    };
    CARAT_TRY(const auto response, client_.stream({.method = "POST",
                                                   .target = "/v1/chat/completions",
                                                   .headers = headers_,
                                                   .body = dialog_body(request, name).dump()},
                                                  on_event, &stop));
    if (response.status() != 200) return refusal(response);
    if (error) return *error;
    return answer;
  }

 private:
  static Result<void> take(std::string_view data,
                           const std::function<void(std::string_view, std::string_view)>& on_piece,
                           DialogAnswer& answer) {
    CARAT_TRY(const auto event, parse_json(data));
    if (event.contains("error")) return Error{Errc::kUnavailable, error_message(event)};
    if (const auto* usage = event.find("usage"); usage != nullptr && usage->is_object()) {
      answer.prompt_tokens = int_at(*usage, "prompt_tokens");
      answer.completion_tokens = int_at(*usage, "completion_tokens");
    }
    const auto* choices = event.find("choices");
    if (choices == nullptr || !choices->is_array() || choices->size() == 0) return {};
    const auto& choice = choices->as_array()[0];
    if (const auto reason = string_at(choice.find("finish_reason")); !reason.empty()) answer.finish_reason = reason;
    const auto* delta = choice.find("delta");
    if (delta == nullptr) return {};
    auto reasoning = string_at(delta->find("reasoning_content"));
    if (reasoning.empty()) reasoning = string_at(delta->find("reasoning"));
    if (!reasoning.empty()) on_piece(reasoning, "");
    if (const auto content = string_at(delta->find("content")); !content.empty()) on_piece("", content);
    return {};
  }

  HttpClient client_;
  std::string model_;
  std::vector<HttpHeader> headers_;
};

}  // namespace

Json dialog_body(const DialogRequest& request, const std::string& model) {
  Json messages = Json::array();
  for (const auto& m : request.messages) messages.push_back(Json::object({{"role", m.role}, {"content", m.content}}));
  Json body = Json::object({{"model", model},
                            {"messages", std::move(messages)},
                            {"stream", true},
                            {"stream_options", Json::object({{"include_usage", true}})}});
  if (request.thinking) body.set("chat_template_kwargs", Json::object({{"enable_thinking", *request.thinking}}));
  if (request.max_tokens) body.set("max_completion_tokens", *request.max_tokens);
  if (request.temperature) body.set("temperature", *request.temperature);
  if (request.top_p) body.set("top_p", *request.top_p);
  return body;
}

std::unique_ptr<DialogBackend> make_chat_http(const HttpUrl& base, std::string model, std::string api_key) {
  return std::make_unique<HttpChatBackend>(base, std::move(model), api_key);
}

}  // namespace carat
