#pragma once
// Who may call: keys and web origins.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.h"

namespace carat {

/// Compares in a time that depends on the lengths only.
bool equal_constant_time(std::string_view a, std::string_view b);

struct AccessRules {
  std::optional<std::string> api_key, admin_api_key;
  std::vector<std::string> cors_allow_origins;  ///< "*" allows all

  /// Whether the request's key, in Authorization (Bearer) or X-Api-Key, opens its path. OPTIONS and paths that begin
  /// with /health, /ready or /metrics need none.
  bool key_opens(const HttpRequest& request, bool administrative) const;
  bool origin_listed(std::string_view origin) const;
  /// False for a request that a web page of another, unlisted origin sent: browsers send simple requests without
  /// asking.
  bool origin_may_call(const HttpRequest& request) const;
  /// What a listed origin's answer needs; empty for others.
  std::vector<HttpHeader> cors_headers(const HttpRequest& request) const;
};

}  // namespace carat
