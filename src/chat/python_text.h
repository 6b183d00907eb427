#pragma once
// What a Jinja template shows of Python's values: str() of a JSON value and the order of `dictsort`. Text is UTF-8.

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace carat {

/// Appends Python's str(value): a string as it is, None, True, 1.0, ['a', None], {'k': 1}.
void append_py_str(std::string& out, const Json& value);
std::string py_str(const Json& value);
/// Python's repr(value): as py_str, but strings in quotes.
std::string py_repr(const Json& value);

/// The members of an object in the order of Jinja's dictsort: by lower-cased key, equal keys in their own order.
std::vector<const JsonMember*> dictsort(const JsonObject& object);

}  // namespace carat
