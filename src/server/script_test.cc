#include "server/script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace carat {
namespace {

using testing::HasSubstr;

std::string error_of(std::string_view text) {
  const auto rules = parse_script(text, "s.jsonl");
  return rules ? "" : rules.error().message;
}

TEST(Script, ReadsRules) {
  const auto rules = parse_script(
      "{\"match\": \"a\", \"text\": \"b\", \"tokens_per_step\": 3, \"ms_per_step\": 1.5, \"finish\": \"length\"}\n\n"
      "{\"text\": \"c\"}\r\n{\"text\": \"d\", \"finish\": \"fault\"}",
      "s");
  ASSERT_TRUE(rules);
  ASSERT_EQ(rules->size(), 3u);
  EXPECT_EQ((*rules)[0].match, "a");
  EXPECT_EQ((*rules)[0].text, "b");
  EXPECT_EQ((*rules)[0].tokens_per_step, 3);
  EXPECT_EQ((*rules)[0].ms_per_step, 1.5);
  EXPECT_EQ((*rules)[0].end, ScriptedEnd::kLength);
  EXPECT_EQ((*rules)[1].match, "");
  EXPECT_EQ((*rules)[1].end, ScriptedEnd::kStop);
  EXPECT_EQ((*rules)[2].end, ScriptedEnd::kFault);
}

TEST(Script, ErrorsNameTheLine) {
  EXPECT_EQ(error_of(""), "s.jsonl: the script has no lines");
  EXPECT_THAT(error_of("{\"text\":\"a\"}\n\n{"), HasSubstr("s.jsonl:3: "));
  EXPECT_EQ(error_of("[]"), "s.jsonl:1: body: Input should be an object, got array");
  EXPECT_EQ(error_of("{}"), "s.jsonl:1: text: Field required");
  EXPECT_EQ(error_of("{\"text\":1}"), "s.jsonl:1: text: Input should be a valid string, got integer");
  EXPECT_THAT(error_of("{\"text\":\"\",\"tokens_per_step\":0}"), HasSubstr("between 1 and 1024, got 0"));
  EXPECT_THAT(error_of("{\"text\":\"\",\"ms_per_step\":-1}"), HasSubstr("between 0 and 3600000, got -1"));
  EXPECT_THAT(error_of("{\"text\":\"\",\"finish\":\"x\"}"), HasSubstr("'stop', 'length' or 'fault', got 'x'"));
  EXPECT_THAT(error_of("{\"text\":\"\",\"mode\":1}"), HasSubstr("unknown key 'mode'"));
}

}  // namespace
}  // namespace carat
