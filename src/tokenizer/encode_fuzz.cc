// Any bytes as text, with a small tokenizer: decoding gives the text back, and streaming gives what decoding gives.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/testing.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace {
std::unique_ptr<carat::Tokenizer> make() {
  carat::Json json = carat::testing::make_tokenizer_json(
      {"▁", "a", "b", "<", ">", "\n", "é", "字", "▁▁", "▁▁▁", "aa", "ab", "ba", "aab", "▁a", "字字", "字é", "<a",
       "\n\n"},
      {"▁ ▁", "▁▁ ▁", "a a", "a b", "b a", "a ab", "aa b", "▁ a", "字 字", "字 é", "< a", "▁ ▁▁"});
  json.find("added_tokens")->push_back(*carat::parse_json(R"({"id":278,"content":"\n\n","special":false})"));
  json.find("added_tokens")->push_back(*carat::parse_json(R"({"id":300,"content":"<ab>","special":true})"));
  return std::move(*carat::Tokenizer::parse(json.dump(), ""));
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = make();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto ids = tokenizer->encode(text);
  const std::string whole = tokenizer->decode(ids, false);
  CARAT_CHECK_EQ(whole, carat::spaces_from_marks(carat::to_valid_utf8(text)));
  carat::StreamDecoder decoder(*tokenizer, false);
  std::string streamed;
  for (carat::TokenId id : ids) {
    std::string delta;
    decoder.push(id, delta);
    CARAT_CHECK(carat::is_valid_utf8(delta), "the stream stops between characters");
    streamed += delta;
  }
  decoder.finish(streamed);
  CARAT_CHECK_EQ(streamed, whole);
  // The bytes as ids: whatever they are, the stream and the whole agree.
  std::vector<carat::TokenId> any(data, data + size);
  for (const bool skip : {false, true}) {
    carat::StreamDecoder other(*tokenizer, skip);
    std::string out;
    for (carat::TokenId id : any) other.push(id, out);
    other.finish(out);
    CARAT_CHECK_EQ(out, tokenizer->decode(any, skip));
  }
  return 0;
}
