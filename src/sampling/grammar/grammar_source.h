#pragma once
// What an answer has to look like, before it is compiled.

#include <string>

namespace carat {

/// Two equal sources share one compiled grammar.
struct GrammarSource {
  enum class Kind {
    kJsonSchema,     ///< JSON text of a schema: answers are JSON that fits it
    kAnyJson,        ///< any JSON object
    kRegex,          ///< the whole answer matches
    kEbnf,           ///< XGrammar's EBNF; the rule "root" is the answer
    kStructuralTag,  ///< JSON text of a structural tag, old ("structures") or new ("format") form
    kCalls,          ///< JSON text [{"name": .., "parameters": schema or null}, ..]: the inside of one tool call
  };
  Kind kind = Kind::kJsonSchema;
  std::string text;
  friend bool operator==(const GrammarSource&, const GrammarSource&) = default;
};

}  // namespace carat
