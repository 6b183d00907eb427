#pragma once
// What a request names as image_url, audio_url or video_url -> bytes.

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace carat {

struct FetchOptions {
  int64_t max_bytes = int64_t{64} << 20;
  double connect_timeout_s = 5;  ///< of a server, for each hop: name, connection, TLS
  double timeout_s = 30;         ///< of a URL, for all hops together
  int max_redirects = 5;
  /// Otherwise addresses of this machine, of private networks, link-local and reserved ones are refused, wherever the
  /// name or a redirect led there.
  bool allow_private_addresses = false;
  /// Exact host names (in lower case) that http(s) media may come from, redirects included; empty: all.
  std::vector<std::string> allowed_domains = {};
  /// The folder below which local files may be named; empty: none may.
  std::filesystem::path allowed_local_path = {};
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
  std::function<bool()> stopped = nullptr;  ///< as HttpGetOptions::stopped
};

/// `source` is a data URI ("data:image/png;base64,..."), an http(s) URL, a local file (file:///path, or a path below
/// allowed_local_path), or bare base64. Any thread; blocks.
/// Errors: kInvalidArgument (malformed, refused, or not to be had from there; the message says which and what is
/// allowed), kTooLarge over max_bytes, kUnavailable once the deadline is over, kCancelled once stopped, kIo if
/// allowed_local_path is no folder.
Result<std::vector<uint8_t>> fetch_media(std::string_view source, const FetchOptions& options = {});

/// Standard or URL-safe alphabet; white space is passed over and padding may be missing. Errors: kInvalidArgument,
/// kTooLarge if it would become more than `max_bytes`.
Result<std::vector<uint8_t>> decode_base64(std::string_view text, int64_t max_bytes);

}  // namespace carat
