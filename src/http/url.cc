#include "http/url.h"

#include <algorithm>

#include "base/str.h"

namespace carat {
namespace {

// Of a target: spaces, controls, bytes above ASCII and what could end a line of the request are escaped.
std::string escape(std::string_view target) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : target) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f && c != '"' && c != '<' && c != '>') {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out;
}

bool is_host_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}
bool is_v6_char(char c) {
  return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'f') || c == ':' || c == '.';
}

// The path of `path` without "." and ".." steps. Source: RFC 3986, section 5.2.4.
std::string remove_dots(std::string_view path) {
  std::vector<std::string_view> kept;
  const auto steps = split(path.substr(1), '/');
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool last = i + 1 == steps.size();
    if (steps[i] == "..") {
      if (!kept.empty()) kept.pop_back();
      if (last) kept.emplace_back();
    } else if (steps[i] == ".") {
      if (last) kept.emplace_back();
    } else {
      kept.push_back(steps[i]);
    }
  }
  std::string out;
  for (const auto step : kept) out += str_cat("/", step);
  return out.empty() ? "/" : out;
}

}  // namespace

std::string Url::authority() const {
  const auto name = host_is_v6() ? str_cat("[", host, "]") : host;
  return port == (https ? 443 : 80) ? name : str_cat(name, ":", port);
}

std::string Url::to_string() const { return str_cat(https ? "https://" : "http://", authority(), target); }

Result<Url> parse_url(std::string_view text) {
  const auto bad = [&](std::string_view why) {
    constexpr size_t kShown = 120;
    return Error{Errc::kInvalidArgument,
                 str_cat("'", text.substr(0, kShown), text.size() > kShown ? "..." : "", "' is no URL: ", why)};
  };
  Url out;
  const auto scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return bad("the scheme is missing");
  const auto scheme = text.substr(0, scheme_end);
  out.https = equals_ignore_case_ascii(scheme, "https");
  if (!out.https && !equals_ignore_case_ascii(scheme, "http")) return bad("http and https are known");
  auto rest = text.substr(scheme_end + 3);
  // A backslash is a slash to browsers and part of the host to others: what follows it is no part of the host.
  const auto end = rest.find_first_of("/?#\\");
  auto authority = rest.substr(0, end);
  auto target = end == std::string_view::npos ? std::string_view() : rest.substr(end);
  target = target.substr(0, target.find('#'));
  if (authority.find('@') != std::string_view::npos) return bad("user names are not supported");
  std::string_view port;
  bool has_port = false;
  if (authority.starts_with('[')) {
    const auto close = authority.find(']');
    if (close == std::string_view::npos) return bad("']' is missing");
    const auto inside = authority.substr(1, close - 1);
    if (inside.find(':') == std::string_view::npos || !std::all_of(inside.begin(), inside.end(), is_v6_char))
      return bad("in brackets an IPv6 address is expected");
    out.host = to_lower_ascii(inside);
    authority.remove_prefix(close + 1);
    if (!authority.empty() && authority[0] != ':') return bad("only a port may follow ']'");
    has_port = !authority.empty();
    if (has_port) port = authority.substr(1);
  } else {
    const auto colon = authority.rfind(':');
    if (colon != authority.find(':')) return bad("an IPv6 address needs brackets");
    has_port = colon != std::string_view::npos;
    if (has_port) port = authority.substr(colon + 1);
    out.host = to_lower_ascii(authority.substr(0, colon));
    if (!std::all_of(out.host.begin(), out.host.end(), is_host_char))
      return bad("a host has letters, digits, '-', '.' and '_'; write international names in their xn-- form");
  }
  if (out.host.empty()) return bad("the host is missing");
  out.port = out.https ? 443 : 80;
  if (has_port) {
    int64_t number = 0;
    if (!parse_int(port, number) || number < 1 || number > 65535) return bad("the port must be in [1, 65535]");
    out.port = static_cast<int>(number);
  }
  out.target = escape(target);
  if (!out.target.starts_with('/')) out.target.insert(0, "/");
  return out;
}

Result<Url> resolve_url(const Url& base, std::string_view reference) {
  reference = trim(reference);
  const auto colon = reference.find(':');
  if (colon != std::string_view::npos && reference.find_first_of("/?#") > colon) return parse_url(reference);
  if (reference.starts_with("//")) return parse_url(str_cat(base.https ? "https:" : "http:", reference));
  Url out = base;
  reference = reference.substr(0, reference.find('#'));
  if (reference.empty()) return out;
  const auto base_path = std::string_view(base.target).substr(0, base.target.find('?'));
  const auto query_at = std::min(reference.find('?'), reference.size());
  const auto path = escape(reference.substr(0, query_at));
  const auto query = escape(reference.substr(query_at));
  if (path.empty())
    out.target = str_cat(base_path, query);
  else if (path.starts_with('/'))
    out.target = str_cat(remove_dots(path), query);
  else
    out.target = str_cat(remove_dots(str_cat(base_path.substr(0, base_path.rfind('/') + 1), path)), query);
  return out;
}

}  // namespace carat
