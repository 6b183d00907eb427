#pragma once
// One GET from somewhere else, http or https, with limits on everything: for media that requests name by URL. Blocks.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/url.h"

namespace carat {

struct HttpGetOptions {
  using Clock = std::chrono::steady_clock;

  int64_t max_bytes = int64_t{64} << 20;  ///< of the body; refused by its announced length, else where it passes this
  double connect_timeout_s = 5;           ///< of each hop: name, connection, TLS
  Clock::time_point deadline = Clock::time_point::max();  ///< of all hops together
  int max_redirects = 5;
  /// Asked about twenty times a second; true ends the GET. Null: never.
  std::function<bool()> stopped = nullptr;
  /// Otherwise a host is refused if one of its addresses is not of the public internet. The address that was looked at
  /// is the one that is connected to: the name is not asked for again.
  bool allow_private_addresses = false;
  /// Asked for each hop before anything is sent; null: all are allowed.
  std::function<Result<void>(const Url&)> allow_url = nullptr;
  /// Certificates to trust, a PEM file; empty: the system's (SSL_CERT_FILE, or where distributions keep them).
  std::string ca_file = {};
};

/// The body of the final answer. Redirects are followed; nothing is kept or sent along from hop to hop. Any thread; it
/// may block beyond the deadline, or when stopped, for as long as the system's resolver does.
/// Errors: kInvalidArgument (URL malformed or refused), kNotFound (status 4xx), kIo (connection, TLS, status, malformed
/// answer), kTooLarge, kUnavailable (time-outs), kCancelled (stopped).
Result<std::vector<uint8_t>> http_get(const Url& url, const HttpGetOptions& options = {});

/// Whether an address ("192.0.2.1", "2001:db8::1") is of the public internet: not of this machine, a private network,
/// a link, a group, documentation or another reserved range, also not such a one in IPv6's forms of IPv4. False for
/// what is no address.
bool is_public_address(std::string_view address);

}  // namespace carat
