#pragma once
// Small string helpers.

#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace carat {

namespace str_detail {
inline void append(std::string& out, std::string_view part) { out.append(part); }
inline void append(std::string& out, const char* part) { out.append(part); }
inline void append(std::string& out, char part) { out.push_back(part); }
inline void append(std::string& out, bool part) { out.append(part ? "true" : "false"); }
template <class T>
requires(std::integral<T> || std::floating_point<T>) void append(std::string& out, T part) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, part).ptr;
  out.append(buffer, end);
}
}  // namespace str_detail

/// The parts one after the other: strings, characters, integers, floats (shortest round trip), booleans.
template <class... Parts>
std::string str_cat(const Parts&... parts) {
  std::string out;
  (str_detail::append(out, parts), ...);
  return out;
}

/// `text` without leading and trailing ASCII white space.
std::string_view trim(std::string_view text);
/// The pieces of `text` between occurrences of `separator`, empty ones included.
std::vector<std::string_view> split(std::string_view text, char separator);
/// Lower-cases ASCII letters only.
std::string to_lower_ascii(std::string_view text);
bool equals_ignore_case_ascii(std::string_view a, std::string_view b);
/// The whole of `text` as a decimal integer or a float; nothing else may surround it.
bool parse_int(std::string_view text, int64_t& value);
bool parse_float(std::string_view text, double& value);

}  // namespace carat
