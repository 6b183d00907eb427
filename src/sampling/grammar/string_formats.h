#pragma once
// What "format" means for strings.

#include <string>
#include <string_view>

namespace carat {

/// A regular expression (of XGrammar's syntax, without anchors and without '?') for strings of a format of JSON Schema;
/// empty if the format is not known. What it matches is valid and needs no escapes in JSON; not all that is valid
/// matches: no quoted names in e-mail addresses, no IPv4 inside of IPv6, ASCII alone but in JSON pointers, years from
/// 1000 to 9999, no leap seconds. Each is one automaton that takes a few microseconds a token.
std::string format_expression(std::string_view format);

}  // namespace carat
