#include "http/wire.h"

#include <array>
#include <charconv>
#include <ctime>

#include "base/str.h"

namespace carat {

const std::string* HttpRequest::header(std::string_view name) const {
  for (const auto& h : headers)
    if (equals_ignore_case_ascii(h.name, name)) return &h.value;
  return nullptr;
}

std::string HttpRequest::query_value(std::string_view name, std::string_view fallback) const {
  for (const auto pair : split(query, '&')) {
    const auto equals = pair.find('=');
    if (http_wire::percent_decode(pair.substr(0, equals), true) != name) continue;
    const auto raw = equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1);
    return http_wire::percent_decode(raw, true).value_or(std::string(raw));
  }
  return std::string(fallback);
}

namespace http_wire {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Headers that the server decides; a handler's own would contradict the framing.
bool is_ours(std::string_view name) {
  for (const std::string_view ours : {"content-length", "transfer-encoding", "connection", "date", "content-type"})
    if (equals_ignore_case_ascii(name, ours)) return true;
  return false;
}

// A line break inside a value would let whoever chose the value write headers or a second answer.
void append_clean(std::string& out, std::string_view text) {
  for (const char c : text)
    if (c != '\r' && c != '\n' && c != '\0') out.push_back(c);
}

void append_header(std::string& out, std::string_view name, std::string_view value) {
  append_clean(out, name);
  out += ": ";
  append_clean(out, value);
  out += "\r\n";
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out.push_back(' ');
    } else if (text[i] != '%') {
      out.push_back(text[i]);
    } else {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) return std::nullopt;
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    }
  }
  return out;
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 499:
      return "Client Closed Request";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

void append_head(std::string& out, const HttpResponse& response, const Framing& framing, std::string_view date) {
  str_detail::append(out, "HTTP/1.1 ");
  str_detail::append(out, response.status);
  out += ' ';
  out += reason_phrase(response.status);
  out += "\r\n";
  append_header(out, "Date", date);
  if (!response.content_type.empty()) append_header(out, "Content-Type", response.content_type);
  switch (framing.body) {
    case Framing::Body::kNone:
    case Framing::Body::kUntilClose:
      break;
    case Framing::Body::kLength:
      append_header(out, "Content-Length", str_cat(response.body.size()));
      break;
    case Framing::Body::kChunked:
      append_header(out, "Transfer-Encoding", "chunked");
      break;
  }
  if (!framing.keep_alive)
    append_header(out, "Connection", "close");
  else if (framing.http10)
    append_header(out, "Connection", "keep-alive");
  for (const auto& h : response.headers)
    if (!is_ours(h.name)) append_header(out, h.name, h.value);
  out += "\r\n";
}

void append_chunk(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;
  std::array<char, 16> size;
  const auto end = std::to_chars(size.data(), size.data() + size.size(), bytes.size(), 16).ptr;
  out.append(size.data(), end);
  out += "\r\n";
  out += bytes;
  out += "\r\n";
}

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto two = [](int v) { return str_cat(v < 10 ? "0" : "", v); };
  return str_cat(kDays[utc.tm_wday], ", ", two(utc.tm_mday), " ", kMonths[utc.tm_mon], " ", utc.tm_year + 1900, " ",
                 two(utc.tm_hour), ":", two(utc.tm_min), ":", two(utc.tm_sec), " GMT");
}

}  // namespace http_wire
}  // namespace carat
