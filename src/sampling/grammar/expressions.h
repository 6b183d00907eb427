#pragma once
// Regular expressions as XGrammar can be trusted with them.

#include <string>
#include <string_view>

#include "base/result.h"

namespace carat {

/// Refuses \x, \u and \U with more digits than a character has, which overflow in XGrammar. Errors: kInvalidArgument.
Result<void> check_escapes(std::string_view expression, const std::string& where);

/// The same expression with {0,1} for ?. XGrammar's automaton of (xa+)? goes through the optional part's last state
/// where it leaves the part out, and so accepts "aa".
std::string without_options(std::string_view regex);

}  // namespace carat
