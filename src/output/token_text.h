#pragma once
// Single tokens as log-probability reports show them.

#include <string>
#include <string_view>

#include "base/token.h"
#include "tokenizer/tokenizer.h"

namespace carat {

struct TokenText {
  std::string text;  ///< the token decoded by itself, special tokens as they are spelled; part of a character is U+FFFD
  std::string bytes;  ///< what it adds to the text; the bytes of several tokens may make up one character
};

/// Empty for ids outside the vocabulary. SGLang reports the bytes of `text`; ours are the token's own, as OpenAI
/// defines them, so that clients can put characters together again.
TokenText token_text(const Tokenizer& tokenizer, TokenId id);

/// `bytes` as OpenAI's list of numbers: [226,130].
void append_byte_list(std::string& out, std::string_view bytes);

}  // namespace carat
