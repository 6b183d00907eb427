#pragma once
// POST /api/chat and /api/generate of Ollama's API as bodies of chat requests.

#include <string>

#include "base/json.h"
#include "base/result.h"

namespace carat {

struct OllamaRequest {
  std::string model;
  bool stream = true;
  bool empty = false;  ///< asks for nothing: clients send such a request to have the model loaded
  Json chat;           ///< the body of the chat request, if not empty
};

// Errors: kInvalidArgument naming the member.
Result<OllamaRequest> parse_ollama_chat(const Json& body);
Result<OllamaRequest> parse_ollama_generate(const Json& body);

}  // namespace carat
