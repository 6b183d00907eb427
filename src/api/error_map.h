#pragma once
// The only place that turns an Error into a status and a body. Source: spec api.md section 2.

#include <string>
#include <string_view>

#include "base/result.h"

namespace carat {

/// Which family of routes answers: their error bodies differ.
enum class ErrorStyle { kOpenAi, kNative, kResponses, kAnthropic, kOllama, kPlain };

/// The end of every OpenAI-like stream.
inline constexpr std::string_view kDoneEvent = "data: [DONE]\n\n";

struct ErrorReply {
  int status = 500;
  std::string body;
};

int http_status(Errc code);

/// The body broke the schema: bad JSON, wrong types, missing fields. Always 400.
ErrorReply schema_error(ErrorStyle style, const Error& error);
/// Anything later.
ErrorReply request_error(ErrorStyle style, const Error& error);
/// The event of a stream that has already begun, whole but for what ends the stream (AnswerWriter::stream_end()).
std::string stream_error_event(ErrorStyle style, const Error& error);

ErrorReply unauthorized();
ErrorReply forbidden();
ErrorReply unknown_model(std::string_view model);
ErrorReply unknown_path(std::string_view path);
ErrorReply wrong_method(std::string_view method, std::string_view path);
/// An endpoint of SGLang that this build does not have: 501.
ErrorReply missing_endpoint(ErrorStyle style, std::string_view path);
/// What the HTTP layer refuses by itself.
ErrorReply http_error(int status, std::string_view reason);

}  // namespace carat
