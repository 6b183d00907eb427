#include "weights/model_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "weights/test_support.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::TempFolder;

/// Sets an environment variable, or unsets it, until the end of the scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    if (value.empty())
      unsetenv(name);
    else
      setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_)
      setenv(name_, old_->c_str(), 1);
    else
      unsetenv(name_);
  }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class HubCache : public testing::Test {
 protected:
  TempFolder root;
  Variable hub{"HF_HUB_CACHE", (root / "hub").string()}, hf{"HF_HOME", (root / "hf").string()},
      xdg{"XDG_CACHE_HOME", ""}, home{"HOME", (root / "home").string()};
  const std::string repository = "hub/models--google--gemma-4-E2B-it/";
};

TEST_F(HubCache, Places) {
  EXPECT_THAT(hub_cache_folders(), ElementsAre(root / "hub/", root / "hf/hub", root / "home/.cache/huggingface/hub"));
}

TEST_F(HubCache, FolderIsTakenAsItIs) {
  root.write("m/config.json", "{}");
  EXPECT_EQ(*resolve_model_path((root / "m").string()), root / "m");
  root.write("empty/x", "");
  const auto empty = resolve_model_path((root / "empty").string());
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, Errc::kNotFound);
  EXPECT_THAT(empty.error().message, HasSubstr("config.json"));
  const auto file = resolve_model_path((root / "m/config.json").string());
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code, Errc::kInvalidArgument);
}

TEST_F(HubCache, SnapshotOfTheBranch) {
  root.write(repository + "refs/main", "abc123\n");
  root.write(repository + "snapshots/abc123/config.json", "{}");
  root.write(repository + "snapshots/def456/config.json", "{}");
  EXPECT_EQ(*resolve_model_path("google/gemma-4-E2B-it"), root / (repository + "snapshots/abc123"));
  EXPECT_EQ(*resolve_model_path("google/gemma-4-E2B-it", "def456"), root / (repository + "snapshots/def456"));
  EXPECT_FALSE(resolve_model_path("google/gemma-4-E2B-it", "v2"));
  EXPECT_FALSE(resolve_model_path("google/gemma-4-E2B-it", "../main"));
  EXPECT_FALSE(resolve_model_path("google/gemma-4-E2B"));
}

TEST_F(HubCache, LaterPlacesAreTriedToo) {
  root.write("home/.cache/huggingface/hub/models--m/refs/main", "1");
  root.write("home/.cache/huggingface/hub/models--m/snapshots/1/config.json", "{}");
  EXPECT_TRUE(resolve_model_path("m"));
}

TEST_F(HubCache, ErrorListsThePlaces) {
  root.write(repository + "refs/main", "abc123");  // an unfinished download
  const auto missing = resolve_model_path("google/gemma-4-E2B-it");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kNotFound);
  for (const char* text : {"./google/gemma-4-E2B-it", "hub/models--google--gemma-4-E2B-it (no complete snapshot",
                           "hf/hub/models--google--gemma-4-E2B-it", "home/.cache/huggingface/hub"})
    EXPECT_THAT(missing.error().message, HasSubstr(text));
}

TEST_F(HubCache, HostileNamesAndRefs) {
  root.write("config.json", "{}");
  root.write(repository + "refs/main", "../../..");
  EXPECT_FALSE(resolve_model_path("google/gemma-4-E2B-it"));
  root.write(repository + "refs/main", std::string(10000, 'a'));
  EXPECT_FALSE(resolve_model_path("google/gemma-4-E2B-it"));
  for (const char* name : {"", "../x", "a/b/c", "a//b", "/nowhere/x", "a b", "a/..", "-x", "a--b/c"}) {
    EXPECT_FALSE(is_hub_name(name)) << name;
    EXPECT_FALSE(resolve_model_path(name)) << name;
  }
  EXPECT_FALSE(resolve_model_path(std::string("a\0b", 3)));
  EXPECT_TRUE(is_hub_name("google/gemma-4-26B-A4B-it-qat-q4_0-unquantized"));
}

}  // namespace
}  // namespace carat
