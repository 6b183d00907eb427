#pragma once
// Looks up single values in JSON text without building it: what a load generator needs of each of 100,000 events a
// second, and what it needs of a data set of 700 MB. Trusts the text to be JSON; of anything else it makes something
// harmless.

#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace carat {

namespace json_scan_detail {

inline size_t skip_space(std::string_view text, size_t at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) ++at;
  return at;
}

/// `at` is behind the opening quote; returns the place of the closing one, or the end.
inline size_t find_quote(std::string_view text, size_t at) {
  const size_t begin = at;
  while (true) {
    const auto quote = text.find('"', at);
    if (quote == std::string_view::npos) return text.size();
    size_t backslashes = 0;
    while (quote - backslashes > begin && text[quote - backslashes - 1] == '\\') ++backslashes;
    if (backslashes % 2 == 0) return quote;
    at = quote + 1;
  }
}

/// The end of the value that begins at `at`.
inline size_t skip_value(std::string_view text, size_t at) {
  int depth = 0;
  for (; at < text.size(); ++at) {
    switch (text[at]) {
      case '"':
        at = find_quote(text, at + 1);
        if (depth == 0) return std::min(at + 1, text.size());
        break;
      case '{':
      case '[':
        ++depth;
        break;
      case '}':
      case ']':
        if (depth == 0) return at;
        if (--depth == 0) return at + 1;
        break;
      case ',':
        if (depth == 0) return at;
        break;
      default:
        break;
    }
  }
  return at;
}

inline std::string_view trim_end(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\n' || text.back() == '\r' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

}  // namespace json_scan_detail

/// Calls fn(key, value) for each member of an object, or fn("", value) for each element of an array, as they are
/// written, until fn returns false. Keys are compared as written: one with an escape never equals plain text.
template <class Fn>
void scan_json(std::string_view text, const Fn& fn) {
  namespace detail = json_scan_detail;
  size_t at = detail::skip_space(text, 0);
  if (at >= text.size() || (text[at] != '{' && text[at] != '[')) return;
  const bool is_object = text[at] == '{';
  ++at;
  while (true) {
    at = detail::skip_space(text, at);
    if (at >= text.size() || text[at] == '}' || text[at] == ']') return;
    std::string_view key;
    if (is_object) {
      if (text[at] != '"') return;
      const size_t end = detail::find_quote(text, at + 1);
      key = text.substr(at + 1, end - at - 1);
      at = detail::skip_space(text, std::min(end + 1, text.size()));
      if (at >= text.size() || text[at] != ':') return;
      at = detail::skip_space(text, at + 1);
    }
    const size_t end = detail::skip_value(text, at);
    if (end == at) return;
    if (!fn(key, detail::trim_end(text.substr(at, end - at)))) return;
    at = detail::skip_space(text, end);
    if (at >= text.size() || text[at] != ',') return;
    ++at;
  }
}

/// The member's value as written, or "".
inline std::string_view find_json(std::string_view text, std::string_view name) {
  std::string_view found;
  scan_json(text, [&](std::string_view key, std::string_view value) {
    if (key != name) return true;
    found = value;
    return false;
  });
  return found;
}

/// The first element of an array, as written, or "".
inline std::string_view first_of_json(std::string_view text) {
  std::string_view found;
  if (text.starts_with('['))
    scan_json(text, [&](std::string_view, std::string_view value) {
      found = value;
      return false;
    });
  return found;
}

/// What stands between the quotes of a string, still escaped; "" for any other value.
inline std::string_view json_string_inside(std::string_view value) {
  return value.size() >= 2 && value.front() == '"' && value.back() == '"' ? value.substr(1, value.size() - 2)
                                                                          : std::string_view();
}

}  // namespace carat
