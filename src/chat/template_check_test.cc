#include "chat/template_check.h"

#include <gmock/gmock.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace carat {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class TemplateCheckTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("carat_template_" + std::to_string(::getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  fs::path folder_;
};

TEST_F(TemplateCheckTest, OfficialTexts) {
  for (const auto& [name, family] : {std::pair("chat_template.gemma4.jinja", ChatFamily::kBig),
                                     {"chat_template.gemma4-e.jinja", ChatFamily::kSmall}}) {
    std::ifstream in(std::string(CARAT_SOURCE_DIR "/../shared/data/") + name);
    if (!in) GTEST_SKIP() << "no ../shared/data/" << name << " beside the checkout";
    const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    // Of the two, the text decides, not the configuration; the last newline does not matter.
    const ChatFamily other = family == ChatFamily::kBig ? ChatFamily::kSmall : ChatFamily::kBig;
    for (const std::string& copy : {text, text.substr(0, text.size() - 1), text + "\n"}) {
      const TemplateCheck check = check_chat_template(copy, other);
      EXPECT_TRUE(check.known);
      EXPECT_EQ(check.family, family);
      EXPECT_EQ(check.warning, "");
    }
    EXPECT_FALSE(check_chat_template(text + "x", other).known);
  }
}

TEST_F(TemplateCheckTest, OursForSmallModels) {
  std::ifstream in(CARAT_SOURCE_DIR "/models/nano/chat_template.jinja");
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  EXPECT_TRUE(check_chat_template(text, ChatFamily::kBig).known) << "its digest belongs into template_check.cc";
  EXPECT_EQ(check_chat_template(text, ChatFamily::kBig).family, ChatFamily::kSmall);
  const std::string small = "closed_thought = false";
  text.replace(text.find(small), small.size(), "closed_thought = true");
  EXPECT_TRUE(check_chat_template(text, ChatFamily::kSmall).known);
  EXPECT_EQ(check_chat_template(text, ChatFamily::kSmall).family, ChatFamily::kBig);
}

TEST_F(TemplateCheckTest, OtherTexts) {
  const TemplateCheck unknown = check_chat_template("{{ messages }}", ChatFamily::kSmall);
  EXPECT_FALSE(unknown.known);
  EXPECT_EQ(unknown.family, ChatFamily::kSmall);
  EXPECT_THAT(unknown.warning, HasSubstr("E2B and E4B"));
  EXPECT_THAT(unknown.warning, HasSubstr("SHA-256 "));
  const TemplateCheck absent = check_chat_template("", ChatFamily::kBig);
  EXPECT_FALSE(absent.known);
  EXPECT_THAT(absent.warning, HasSubstr("has no chat template"));
}

TEST_F(TemplateCheckTest, Places) {
  EXPECT_EQ(*load_chat_template(folder_, ""), "");
  EXPECT_EQ(*load_chat_template(folder_, "from the tokenizer"), "from the tokenizer");
  write("chat_template.json", R"({"chat_template": "from json\n"})");
  EXPECT_EQ(*load_chat_template(folder_, "from the tokenizer"), "from json\n");
  write("chat_template.jinja", "from jinja\n");
  EXPECT_EQ(*load_chat_template(folder_, "from the tokenizer"), "from jinja\n");
}

TEST_F(TemplateCheckTest, BadFiles) {
  write("chat_template.json", "{");
  EXPECT_EQ(load_chat_template(folder_, "").error().code, Errc::kCorruptFile);
  write("chat_template.json", "[]");
  EXPECT_THAT(load_chat_template(folder_, "").error().message, HasSubstr("'chat_template' must be a string"));
  write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
  EXPECT_EQ(load_chat_template(folder_, "").error().code, Errc::kTooLarge);
}

}  // namespace
}  // namespace carat
