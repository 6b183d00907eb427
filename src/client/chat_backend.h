#pragma once
// Whom `carat chat` talks to: a server behind HTTP, or an engine in the same process.

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "client/http_client.h"

namespace carat {

struct DialogMessage {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
  bool operator==(const DialogMessage&) const = default;
};

struct DialogRequest {
  std::vector<DialogMessage> messages = {};
  std::optional<bool> thinking = {};  ///< not set: the server's choice
  std::optional<int> max_tokens = {};
  std::optional<double> temperature = {};
  std::optional<double> top_p = {};
};

struct DialogAnswer {
  std::string finish_reason = {};
  std::optional<int> prompt_tokens = {};
  std::optional<int> completion_tokens = {};
};

class DialogBackend {
 public:
  virtual ~DialogBackend() = default;
  /// The model's name, for the greeting. Errors: nobody answers.
  virtual Result<std::string> model() = 0;
  /// Blocks until the answer is complete, handing on each piece as it comes: reasoning, or content, the other is "".
  /// Errors: kCancelled soon after `stop` turns true; whatever the server says.
  virtual Result<DialogAnswer> answer(
      const DialogRequest& request,
      const std::function<void(std::string_view reasoning, std::string_view content)>& on_piece,
      const std::atomic<bool>& stop) = 0;
};

/// The request as the body of a streaming chat completion.
Json dialog_body(const DialogRequest& request, const std::string& model);

/// Over /v1/chat/completions. `model` "" asks the server; `api_key` "" sends none.
std::unique_ptr<DialogBackend> make_chat_http(const HttpUrl& base, std::string model, std::string api_key);

}  // namespace carat
