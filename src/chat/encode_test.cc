#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "chat/parse_chat.h"
#include "chat/render.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& config) {
  auto parsed = Tokenizer::parse(carat::testing::make_tokenizer_json({"a", "b", "ab"}, {"a b"}).dump(), config);
  EXPECT_TRUE(parsed) << (parsed ? "" : parsed.error().message);
  return std::move(*parsed);
}

TEST(EncodeChat, OneBosOnly) {
  for (const char* config : {"", R"({"add_bos_token": true, "bos_token": "<bos>"})"}) {
    const auto tokenizer = make_tokenizer(config);
    const TokenId bos = *tokenizer->bos(), a = *tokenizer->find("a"), b = *tokenizer->find("b");
    EXPECT_THAT(encode_chat(*tokenizer, {"<bos>a", ""}), ElementsAre(bos, a));
    EXPECT_THAT(encode_chat(*tokenizer, {"<bos>a", "<bos>b"}), ElementsAre(bos, a, b));
  }
}

TEST(EncodeChat, TheContinuationIsTokenisedByItself) {
  const auto tokenizer = make_tokenizer("");
  const TokenId bos = *tokenizer->bos();
  EXPECT_THAT(encode_chat(*tokenizer, {"<bos>ab", ""}), ElementsAre(bos, *tokenizer->find("ab")));
  EXPECT_THAT(encode_chat(*tokenizer, {"<bos>a", "b"}), ElementsAre(bos, *tokenizer->find("a"), *tokenizer->find("b")));
}

/// The sequence that Gemma's documentation and tests show.
TEST(EncodeChat, KnownIds) {
  const auto json = carat::testing::unpack_whole_tokenizer(CARAT_SOURCE_DIR);
  if (!json) GTEST_SKIP() << "no ../shared/data/tokenizer beside the checkout";
  const auto tokenizer = Tokenizer::parse(*json, "");
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const auto body = parse_json(R"({"messages": [{"role": "user", "content": "Write a long essay about Portugal."}]})");
  const auto prompt = render_chat(*parse_chat_input(*body), ChatFamily::kBig);
  const std::vector<TokenId> ids = encode_chat(**tokenizer, *prompt);
  ASSERT_GT(ids.size(), 13u);
  EXPECT_THAT(std::vector(ids.begin(), ids.begin() + 4), ElementsAre(2, 105, 2364, 107));
  EXPECT_THAT(std::vector(ids.end() - 9, ids.end()), ElementsAre(106, 107, 105, 4368, 107, 100, 45518, 107, 101));
}

}  // namespace
}  // namespace carat
