// Any bytes as tokenizer.json: refused, or a tokenizer that encodes and decodes without a fault.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = carat::Tokenizer::parse(text, "");
  if (!tokenizer) return 0;
  const auto ids = (*tokenizer)->encode(text.substr(0, 4096), true);
  CARAT_CHECK(carat::is_valid_utf8((*tokenizer)->decode(ids, false)), "decoded text is UTF-8");
  for (carat::TokenId id : ids) CARAT_CHECK(id >= 0, "every id is one");
  return 0;
}
