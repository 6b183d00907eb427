#pragma once
// Text of HTTP/1.1 that needs no socket: response heads, chunk frames, percent-decoding.

#include <optional>
#include <string>
#include <string_view>

#include "http/server.h"

namespace carat::http_wire {

/// "%41" -> "A". Nothing if a '%' is not followed by two hex digits.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

std::string_view reason_phrase(int status);

/// How the end of the body is marked, and whether the connection lives on.
struct Framing {
  enum class Body { kNone, kLength, kChunked, kUntilClose };
  Body body = Body::kLength;
  bool keep_alive = true;
  bool http10 = false;
};

/// Appends status line and headers, ending with the empty line. `date` is the value of the Date header.
void append_head(std::string& out, const HttpResponse& response, const Framing& framing, std::string_view date);

/// Appends one chunk of a chunked body; nothing for an empty one.
void append_chunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

/// The current time as the Date header wants it: "Sun, 06 Nov 1994 08:49:37 GMT".
std::string http_date();

}  // namespace carat::http_wire
