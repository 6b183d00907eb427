#include "sampling/grammar/expressions.h"

#include <algorithm>

#include "base/str.h"

namespace carat {

Result<void> check_escapes(std::string_view expression, const std::string& where) {
  constexpr size_t kMaxDigits = 8;
  for (size_t at = expression.find('\\'); at != std::string_view::npos; at = expression.find('\\', at + 1)) {
    if (at + 1 == expression.size() || std::string_view("xuU").find(expression[at + 1]) == std::string_view::npos)
      continue;
    const size_t digits = at + 2;
    const size_t end = std::min(expression.find_first_not_of("0123456789abcdefABCDEF", digits), expression.size());
    if (end - digits > kMaxDigits)
      return Error{Errc::kInvalidArgument,
                   str_cat(where, ": an escape may have ", kMaxDigits, " hexadecimal digits, got ", end - digits)};
  }
  return {};
}

std::string without_options(std::string_view regex) {
  std::string out;
  bool in_class = false, repeats = false;  // behind a quantifier, where a ? only makes it lazy
  for (size_t i = 0; i < regex.size(); ++i) {
    const char c = regex[i];
    if (c == '\\' && i + 1 < regex.size()) {
      out += c;
      out += regex[++i];
      repeats = false;
      continue;
    }
    const bool begins_group = i > 0 && regex[i - 1] == '(' && (i < 2 || regex[i - 2] != '\\');
    if (c == '?' && !in_class && !repeats && !begins_group)
      out += "{0,1}";
    else
      out += c;
    repeats = !in_class && (c == '*' || c == '+' || c == '}' || (c == '?' && !begins_group && !repeats));
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
  }
  return out;
}

}  // namespace carat
