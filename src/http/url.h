#pragma once
// http and https URLs.

#include <string>
#include <string_view>

#include "base/result.h"

namespace carat {

struct Url {
  bool https = false;
  std::string host;  ///< a name in lower case, an IPv4 address, or an IPv6 address without brackets
  int port = 80;
  std::string target = "/";  ///< path and query, without the fragment; printable ASCII only

  bool host_is_v6() const { return host.find(':') != std::string::npos; }
  /// "host", "[::1]:8080": the port is left out where it is the scheme's own.
  std::string authority() const;
  /// Without user names and fragments, which it never has.
  std::string to_string() const;
};

/// "http://host[:port][/path][?query]", or with https. What has no place in a URL is escaped, not refused. Errors:
/// kInvalidArgument; the message names the URL.
Result<Url> parse_url(std::string_view text);
/// What `reference` (of a Location header) means in an answer from `base`. Errors: as parse_url.
Result<Url> resolve_url(const Url& base, std::string_view reference);

}  // namespace carat
