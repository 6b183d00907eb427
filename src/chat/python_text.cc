#include "chat/python_text.h"

#include <algorithm>

#include "base/str.h"
#include "base/utf8.h"

namespace carat {

namespace {

void append_hex(std::string& out, char32_t c, int digits) {
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4) out += "0123456789abcdef"[(c >> shift) & 15];
}

void append_repr_char(std::string& out, char32_t c, char quote) {
  if (c == U'\\' || c == static_cast<char32_t>(quote)) {
    (out += '\\') += static_cast<char>(c);
  } else if (c == U'\n' || c == U'\r' || c == U'\t') {
    (out += '\\') += c == U'\n' ? 'n' : c == U'\r' ? 'r' : 't';
  } else if (is_unicode_printable(c)) {
    append_utf8(out, c);
  } else {
    (out += '\\') += c <= 0xff ? 'x' : c <= 0xffff ? 'u' : 'U';
    append_hex(out, c, c <= 0xff ? 2 : c <= 0xffff ? 4 : 8);
  }
}

void append_repr(std::string& out, std::string_view text) {
  const bool only_single = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = only_single ? '"' : '\'';
  out += quote;
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    append_repr_char(out, step.code_point, quote);
    text.remove_prefix(static_cast<size_t>(step.length));
  }
  out += quote;
}

/// As a member of a list or an object: strings in quotes.
void append_repr(std::string& out, const Json& value) {
  if (value.is_string())
    append_repr(out, std::string_view(value.as_string()));
  else
    append_py_str(out, value);
}

}  // namespace

void append_py_str(std::string& out, const Json& value) {
  const char* separator = "";
  switch (value.kind()) {
    case Json::Kind::kNull:
      out += "None";
      return;
    case Json::Kind::kBool:
      out += value.as_bool() ? "True" : "False";
      return;
    case Json::Kind::kInt:
    case Json::Kind::kBigInt:
    case Json::Kind::kDouble:
      value.append_to(out);
      return;
    case Json::Kind::kString:
      out += value.as_string();
      return;
    case Json::Kind::kArray:
      out += '[';
      for (const Json& item : value.as_array()) {
        out += separator;
        append_repr(out, item);
        separator = ", ";
      }
      out += ']';
      return;
    case Json::Kind::kObject:
      out += '{';
      for (const auto& [key, item] : value.as_object()) {
        out += separator;
        append_repr(out, std::string_view(key));
        out += ": ";
        append_repr(out, item);
        separator = ", ";
      }
      out += '}';
      return;
  }
}

std::string py_str(const Json& value) {
  std::string out;
  append_py_str(out, value);
  return out;
}

std::string py_repr(const Json& value) {
  std::string out;
  append_repr(out, value);
  return out;
}

std::vector<const JsonMember*> dictsort(const JsonObject& object) {
  std::vector<std::pair<std::string, const JsonMember*>> keyed;
  keyed.reserve(object.size());
  for (const JsonMember& member : object) keyed.emplace_back(to_lower_unicode(member.first), &member);
  // Bytes of UTF-8 compare as code points do, which is Python's order.
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<const JsonMember*> sorted;
  sorted.reserve(keyed.size());
  for (const auto& [key, member] : keyed) sorted.push_back(member);
  return sorted;
}

}  // namespace carat
