#include "output/token_text.h"

namespace carat {

TokenText token_text(const Tokenizer& tokenizer, TokenId id) {
  TokenText token{tokenizer.decode({&id, 1}, /*skip_special_tokens=*/false), ""};
  token.bytes = tokenizer.is_special(id) ? tokenizer.piece(id) : tokenizer.token_bytes(id);
  return token;
}

void append_byte_list(std::string& out, std::string_view bytes) {
  const char* separator = "[";
  for (const char byte : bytes) {
    out += separator;
    out += std::to_string(static_cast<unsigned char>(byte));
    separator = ",";
  }
  out += bytes.empty() ? "[]" : "]";
}

}  // namespace carat
