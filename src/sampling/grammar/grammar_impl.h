#pragma once
// The inside of Grammar, for the files of this folder: XGrammar's types and its exceptions, turned into errors.

#include <xgrammar/xgrammar.h>

#include <exception>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "sampling/grammar/counted_text.h"
#include "sampling/grammar/grammar.h"

namespace carat {

struct Grammar::Impl {
  xgrammar::CompiledGrammar compiled;
  /// Tokens that have text for the library's sake only and cannot come in this grammar.
  std::vector<TokenId> barred;
  int vocab_size = 0;
  /// Token vocab_size + i of `compiled` stands for a text within texts[i], made of `text_tokens`.
  std::vector<TextBounds> texts;
  std::shared_ptr<const TextTokens> text_tokens;
};

/// Kinds of counted texts that one grammar may have: tokens that XGrammar knows beyond the vocabulary.
inline constexpr int kMaxTexts = 256;

/// The sentence of an exception of XGrammar's, without its time and place.
std::string grammar_error_text(const std::exception& e);

/// Takes an error through XGrammar, to grammar_try().
template <class T>
T value_or_throw(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

/// Calls `f`; what it throws is an error of whoever wrote the grammar.
template <class F>
auto grammar_try(const F& f) -> Result<decltype(f())> {
  try {
    return f();
  } catch (const std::exception& e) {
    return Error{Errc::kInvalidArgument, grammar_error_text(e)};
  }
}

}  // namespace carat
