#pragma once
// One small request through the server's own door, so that the first client does not pay for first uses.

#include <chrono>
#include <optional>
#include <string>

#include "base/result.h"

namespace carat {

/// POST /generate on the server itself for `num_tokens` tokens. Errors: kIo, kInternal (another status than 200, with
/// the answer's start).
Result<void> send_warmup(const std::string& host, int port, const std::optional<std::string>& api_key, int num_tokens,
                         std::chrono::seconds timeout);

/// How to reach a server that listens on `host`: "0.0.0.0" -> "127.0.0.1", "::" -> "::1".
std::string reachable_host(const std::string& host);

}  // namespace carat
