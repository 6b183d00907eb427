#include "api/access.h"

#include <algorithm>

#include "base/str.h"

namespace carat {
namespace {

std::string_view bearer_token(const HttpRequest& request) {
  const std::string* header = request.header("Authorization");
  if (!header) return {};
  const std::string_view text = trim(*header);
  constexpr std::string_view kScheme = "bearer";
  if (text.size() <= kScheme.size() || !equals_ignore_case_ascii(text.substr(0, kScheme.size()), kScheme) ||
      text[kScheme.size()] != ' ')
    return {};
  return trim(text.substr(kScheme.size()));
}

/// Anthropic's clients send their key in a header of its own.
std::string_view presented_key(const HttpRequest& request) {
  const std::string_view bearer = bearer_token(request);
  const std::string* header = request.header("X-Api-Key");
  return bearer.empty() && header ? trim(*header) : bearer;
}

bool is_open_path(std::string_view path) {
  return path.starts_with("/health") || path.starts_with("/ready") || path.starts_with("/metrics");
}

/// "http://host:port" -> "host:port".
std::string_view host_of(std::string_view origin) {
  const size_t at = origin.find("://");
  return at == std::string_view::npos ? origin : origin.substr(at + 3);
}

}  // namespace

bool equal_constant_time(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < b.size(); ++i)
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a.empty() ? 0 : a[i % a.size()])) ^
                  static_cast<unsigned char>(b[i]);
  return difference == 0;
}

bool AccessRules::key_opens(const HttpRequest& request, bool administrative) const {
  if (request.method == "OPTIONS" || is_open_path(request.path)) return true;
  const auto& wanted = administrative && admin_api_key ? admin_api_key : api_key;
  return !wanted || equal_constant_time(presented_key(request), *wanted);
}

bool AccessRules::origin_listed(std::string_view origin) const {
  return std::any_of(cors_allow_origins.begin(), cors_allow_origins.end(),
                     [&](const std::string& listed) { return listed == "*" || listed == origin; });
}

bool AccessRules::origin_may_call(const HttpRequest& request) const {
  const std::string* origin = request.header("Origin");
  if (!origin || origin_listed(*origin)) return true;
  const std::string* host = request.header("Host");
  return host && equals_ignore_case_ascii(host_of(*origin), *host);
}

std::vector<HttpHeader> AccessRules::cors_headers(const HttpRequest& request) const {
  const std::string* origin = request.header("Origin");
  if (!origin || !origin_listed(*origin)) return {};
  std::vector<HttpHeader> headers = {
      {"Access-Control-Allow-Origin", *origin}, {"Access-Control-Allow-Credentials", "true"}, {"Vary", "Origin"}};
  if (request.method != "OPTIONS") return headers;
  const std::string* wanted = request.header("Access-Control-Request-Headers");
  headers.push_back({"Access-Control-Allow-Methods", "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"});
  headers.push_back({"Access-Control-Allow-Headers", wanted ? *wanted : "*"});
  headers.push_back({"Access-Control-Max-Age", "600"});
  return headers;
}

}  // namespace carat
