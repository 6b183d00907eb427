#pragma once
// The native syntax of tool calls as a grammar: call:NAME{key:value,..}, strings between marks of their own, no
// escapes.

#include <string>
#include <vector>

#include "base/json.h"
#include "base/token.h"
#include "sampling/grammar/schema_spec.h"

namespace carat {

struct CallableTool {
  std::string name;
  Json schema;  ///< of its arguments, which are an object
};

/// What follows the token that opens a call, up to and with `close`. Arguments stand in the order in which the chat
/// template writes them: by key, letters' case aside. `string_mark` stands on both sides of a string. Throws what
/// XGrammar throws for schemas that it cannot enforce; its message names the tool. `tools` is not empty.
xgrammar::Grammar make_call_grammar(const std::vector<CallableTool>& tools, const SchemaLimits& limits,
                                    TokenId string_mark, TokenId close);

}  // namespace carat
