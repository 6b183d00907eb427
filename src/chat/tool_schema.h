#pragma once
// A tool's `parameters` on their way in: type names normalised as SGLang does, then checked.

#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace carat {

/// Rewrites the type names of `schema` and of all its sub-schemas to JSON Schema's seven: "varchar(10)" -> "string",
/// "int32" -> "integer", "list[str]" -> "array" (spec api.md section 4.5). Unknown names stay as they are.
void normalize_schema_types(Json& schema);

/// Checks the forms that JSON Schema 2020-12 prescribes for its keywords, recursively: types, names, lists, numbers.
/// Formats, patterns and references are not looked into. `schema` must be an object or a boolean. Errors:
/// kInvalidArgument with the place and what was expected there.
Result<void> check_schema(const Json& schema);

}  // namespace carat
