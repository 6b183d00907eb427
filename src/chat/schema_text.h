#pragma once
// Gemma's own notation for structured values, in which the template writes tool declarations, calls and responses. It
// is not JSON: keys are sorted and mostly bare, strings stand between <|"|> and nothing is escaped. Spec:
// prompt-format.md section 5.

#include <string>

#include "base/json.h"
#include "base/result.h"
#include "chat/chat_input.h"

namespace carat {

enum class KeyStyle {
  kBare,    ///< calls and responses
  kQuoted,  ///< objects inside a schema keyword (enum, default, anyOf ...)
};

/// Appends one value.
void append_value(std::string& out, const Json& value, KeyStyle keys);
/// Appends the members of an object without its braces.
void append_pairs(std::string& out, const JsonObject& object, KeyStyle keys);

/// Appends `declaration:NAME{...}`. Errors: kInvalidArgument where the template fails, e.g. `required` is a number.
Result<void> append_declaration(std::string& out, const ChatTool& tool);

}  // namespace carat
