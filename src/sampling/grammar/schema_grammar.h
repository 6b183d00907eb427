#pragma once
// Schemas as grammars of answers: JSON, and the native syntax of tool calls, call:NAME{key:value,..}, with strings
// between marks of their own and no escapes.

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/token.h"
#include "sampling/grammar/counted_text.h"
#include "sampling/grammar/schema_spec.h"

namespace carat {

struct JsonStyle {
  bool any_whitespace = true;  ///< between the parts; else one space after ',' and ':'
  std::optional<int> max_whitespace = std::nullopt;
};

/// The strings of bounded length in a grammar.
struct CountedTexts {
  TokenId first;                   ///< stands for a text within bounds[0], and so on
  std::vector<TextBounds> bounds;  ///< different ones
  /// Throws if there are too many.
  TokenId stand_in(const TextBounds& text);
};

struct CallableTool {
  std::string name;
  Json schema;  ///< of its arguments, which are an object
};

// Both add to `texts`, and throw std::exception for schemas that are malformed, over a limit, or beyond what XGrammar
// enforces.

/// JSON that fits `schema`. It can be read everywhere: no unpaired surrogates, no numbers beyond a double.
xgrammar::Grammar make_json_grammar(const Json& schema, const SchemaLimits& limits, const JsonStyle& style,
                                    CountedTexts& texts);

/// What follows the token that opens a call, up to and with `close`. Arguments stand in the order in which the chat
/// template writes them: by key, letters' case aside. `string_mark` stands on both sides of a string. `tools` is not
/// empty; the message of an exception names the tool.
xgrammar::Grammar make_call_grammar(const std::vector<CallableTool>& tools, const SchemaLimits& limits,
                                    TokenId string_mark, TokenId close, CountedTexts& texts);

}  // namespace carat
