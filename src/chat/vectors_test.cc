// The published request -> prompt cases, both families, byte for byte. They lie beside the checkout, if at all.

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

TEST(ChatVectors, EveryPromptOfBothFamilies) {
  std::ifstream in(CARAT_SOURCE_DIR "/../shared/spec/vectors/vectors-prompt.jsonl");
  if (!in) GTEST_SKIP() << "no ../shared/spec/vectors/vectors-prompt.jsonl beside the checkout";
  int num_cases = 0;
  for (std::string line; std::getline(in, line); ++num_cases) {
    const auto vector = parse_json(line);
    ASSERT_TRUE(vector) << vector.error().message;
    const std::string& name = vector->find("name")->as_string();
    const auto input = parse_chat_input(*vector->find("request"));
    ASSERT_TRUE(input) << name << ": " << input.error().message;
    for (const auto& [family, key] :
         {std::pair(ChatFamily::kBig, "prompt_big"), {ChatFamily::kSmall, "prompt_small"}}) {
      const auto prompt = render_chat(*input, family);
      ASSERT_TRUE(prompt) << name << ": " << prompt.error().message;
      EXPECT_EQ(prompt->text + prompt->continuation, vector->find(key)->as_string()) << name;
    }
  }
  EXPECT_EQ(num_cases, 52);
}

}  // namespace
}  // namespace carat
