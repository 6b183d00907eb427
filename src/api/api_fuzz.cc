// Bodies of all generation routes: any bytes give a request or an error, never a crash, and what was accepted passes
// the checks or is refused by them.

#include <cstddef>
#include <cstdint>

#include "api/chat_request.h"
#include "api/completion_request.h"
#include "api/error_map.h"
#include "api/messages_request.h"
#include "api/native_request.h"
#include "api/ollama_request.h"
#include "api/responses_request.h"
#include "base/check.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {
constexpr int kVocab = 1000;

void use(const Error& error) {
  for (const auto style : {ErrorStyle::kOpenAi, ErrorStyle::kNative, ErrorStyle::kResponses, ErrorStyle::kAnthropic,
                           ErrorStyle::kOllama}) {
    const auto reply = schema_error(style, error);
    CARAT_CHECK(parse_json(reply.body).has_value(), "an error's body is JSON");
  }
}

void use_chat_body(const Json& body) {
  if (const auto request = parse_chat_request(body, {}, {}); !request)
    use(request.error());
  else if (const auto ok = check_chat_request(body, *request, kVocab, 100); !ok)
    use(ok.error());
  if (const auto input = parse_chat_input(body); !input)
    use(input.error());
  else if (const auto prompt = render_chat(*input, ChatFamily::kBig); !prompt)
    use(prompt.error());
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto body = parse_json({reinterpret_cast<const char*>(data), size});
  if (!body) {
    use(body.error());
    return 0;
  }
  use_chat_body(*body);
  if (const auto request = parse_completion_request(*body, {}); !request)
    use(request.error());
  else if (const auto ok = check_completion_request(*body, *request, kVocab); !ok)
    use(ok.error());
  if (const auto request = parse_native_request(*body, {}); !request)
    use(request.error());
  else if (const auto ok = check_native_request(*body, *request, kVocab); !ok)
    use(ok.error());
  if (auto request = parse_responses_request(*body); !request) {
    use(request.error());
  } else {
    if (const auto ok = check_responses_request(*request, "m", true); !ok) use(ok.error());
    if (auto messages = responses_messages(request->instructions, request->items); !messages) {
      use(messages.error());
    } else {
      request->chat.set("messages", std::move(*messages));
      use_chat_body(request->chat);
    }
  }
  for (const auto purpose : {MessagesPurpose::kAnswer, MessagesPurpose::kCount}) {
    if (const auto request = parse_messages_request(*body, purpose); !request)
      use(request.error());
    else
      use_chat_body(request->chat);
  }
  for (const auto& request : {parse_ollama_chat(*body), parse_ollama_generate(*body)}) {
    if (!request)
      use(request.error());
    else if (!request->empty)
      use_chat_body(request->chat);
  }
  return 0;
}

}  // namespace carat
