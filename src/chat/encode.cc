#include "chat/render.h"

namespace carat {

std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, const RenderedPrompt& prompt) {
  std::vector<TokenId> ids = tokenizer.encode(prompt.text, false);
  if (prompt.continuation.empty()) return ids;
  const std::vector<TokenId> rest = tokenizer.encode(prompt.continuation, false);
  const bool starts_with_bos = !rest.empty() && rest[0] == tokenizer.bos();
  ids.insert(ids.end(), rest.begin() + (starts_with_bos ? 1 : 0), rest.end());
  return ids;
}

}  // namespace carat
