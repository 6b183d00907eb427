#include "api/error_map.h"

#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

Json openai_body(std::string_view message, std::string_view type, int status) {
  return Json::object(
      {{"object", "error"}, {"message", message}, {"type", type}, {"param", nullptr}, {"code", status}});
}

std::string public_message(const Error& error) {
  return http_status(error.code) == 500 ? str_cat("Internal server error: ", error.message) : error.message;
}

std::string openai_type(int status) {
  if (status == 500) return "InternalServerError";
  return status == 400 ? "BadRequest" : str_cat(status);
}

std::string_view anthropic_type(int status) {
  switch (status) {
    case 400:
    case 405:
    case 501:
      return "invalid_request_error";
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 503:
      return "overloaded_error";
  }
  return "api_error";
}

Json anthropic_body(std::string_view message, int status) {
  return Json::object(
      {{"type", "error"}, {"error", Json::object({{"type", anthropic_type(status)}, {"message", message}})}});
}

ErrorReply reply(ErrorStyle style, std::string_view message, std::string_view type, int status) {
  switch (style) {
    case ErrorStyle::kOpenAi:
      return {status, openai_body(message, type, status).dump()};
    case ErrorStyle::kResponses: {
      const std::string_view shown = status < 500 ? "invalid_request_error" : type;
      const Json inner = Json::object({{"message", message}, {"type", shown}, {"param", nullptr}, {"code", status}});
      return {status, Json::object({{"error", inner}}).dump()};
    }
    case ErrorStyle::kAnthropic:
      return {status, anthropic_body(message, status).dump()};
    case ErrorStyle::kOllama:
      return {status, Json::object({{"error", message}}).dump()};
    case ErrorStyle::kNative:
      return {status, Json::object({{"error", Json::object({{"message", message}})}}).dump()};
    case ErrorStyle::kPlain:
      return {status, str_cat(message, "\n")};
  }
  return {status, {}};
}

}  // namespace

int http_status(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
    case Errc::kUnsupported:
      return 400;
    case Errc::kNotFound:
      return 404;
    case Errc::kTooLarge:
      return 413;
    case Errc::kOverloaded:
    case Errc::kUnavailable:
      return 503;
    case Errc::kCancelled:
      return 499;
    case Errc::kCorruptFile:
    case Errc::kIo:
    case Errc::kInternal:
      break;
  }
  return 500;
}

ErrorReply schema_error(ErrorStyle style, const Error& error) {
  if (style == ErrorStyle::kNative) return {400, Json::object({{"error", error.message}}).dump()};
  return reply(style, error.message, "Bad Request", 400);
}

ErrorReply request_error(ErrorStyle style, const Error& error) {
  const int status = http_status(error.code);
  return reply(style, public_message(error), openai_type(status), status);
}

std::string stream_error_event(ErrorStyle style, const Error& error) {
  const int status = http_status(error.code);
  const std::string message = public_message(error);
  if (style == ErrorStyle::kAnthropic)
    return str_cat("event: error\ndata: ", anthropic_body(message, status).dump(), "\n\n");
  if (style == ErrorStyle::kOllama) return str_cat(Json::object({{"error", message}}).dump(), "\n");
  const Json inner =
      style == ErrorStyle::kNative
          ? Json::object(
                {{"message", message}, {"type", "invalid_request_error"}, {"code", status}, {"retryable", false}})
          : openai_body(message, openai_type(status), status);
  return str_cat("data: ", Json::object({{"error", inner}}).dump(), "\n\n");
}

ErrorReply unauthorized() { return {401, R"({"error":"Unauthorized"})"}; }
ErrorReply forbidden() { return {403, R"({"error":"Forbidden"})"}; }

ErrorReply unknown_model(std::string_view model) {
  const Json inner = Json::object({{"message", str_cat("The model '", model, "' does not exist")},
                                   {"type", "invalid_request_error"},
                                   {"param", "model"},
                                   {"code", "model_not_found"}});
  return {404, Json::object({{"error", inner}}).dump()};
}

ErrorReply unknown_path(std::string_view path) {
  return reply(ErrorStyle::kOpenAi, str_cat("Not Found: ", path), "404", 404);
}

ErrorReply wrong_method(std::string_view method, std::string_view path) {
  return reply(ErrorStyle::kOpenAi, str_cat("Method Not Allowed: ", method, " ", path), "405", 405);
}

ErrorReply missing_endpoint(ErrorStyle style, std::string_view path) {
  return reply(style, str_cat(path, " is not implemented in this build."), "NotImplementedError", 501);
}

ErrorReply http_error(int status, std::string_view reason) {
  return reply(ErrorStyle::kOpenAi, reason, openai_type(status), status);
}

}  // namespace carat
