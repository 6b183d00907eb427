#include "weights/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "weights/test_support.h"

namespace carat {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::safetensors;
using testing_support::TempFolder;

std::string file_with(std::string_view name, std::string_view byte) {
  return safetensors(str_cat("{\"", name, "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"), byte);
}

class CheckpointFolder : public testing::Test {
 protected:
  void expect_error(Errc code, std::vector<std::string> says) {
    const auto checkpoint = Checkpoint::open(folder.path());
    ASSERT_FALSE(checkpoint);
    EXPECT_EQ(checkpoint.error().code, code) << checkpoint.error().message;
    for (const auto& text : says) EXPECT_THAT(checkpoint.error().message, HasSubstr(text));
  }
  void write_index(std::string_view map) {
    folder.write("model.safetensors.index.json", str_cat(R"({"metadata":{"total_size":2},"weight_map":)", map, "}"));
  }
  TempFolder folder;
};

TEST_F(CheckpointFolder, SingleFileComesFirst) {
  folder.write("model.safetensors", file_with("a", "x"));
  folder.write("model.safetensors.index.json", "nonsense");
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  ASSERT_TRUE((*checkpoint)->find("a"));
  EXPECT_EQ((*checkpoint)->find("a")->bytes()[0], std::byte{'x'});
  EXPECT_FALSE((*checkpoint)->find("b"));
  EXPECT_EQ((*checkpoint)->tensor_bytes(), 1);
}

TEST(CheckpointInTheProgram, OneFile) {
  static const std::string file = file_with("a", "x");
  const auto checkpoint = Checkpoint::open({"org/model", std::as_bytes(std::span(file))});
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  ASSERT_TRUE((*checkpoint)->find("a"));
  EXPECT_EQ((*checkpoint)->find("a")->bytes().data(), std::as_bytes(std::span(file)).data() + file.size() - 1)
      << "in place";
  const auto broken = Checkpoint::open({"org/model", std::as_bytes(std::span(file)).first(9)});
  ASSERT_FALSE(broken);
  EXPECT_THAT(broken.error().message, HasSubstr("org/model/model.safetensors"));
}

TEST_F(CheckpointFolder, Shards) {
  folder.write("m1.safetensors", file_with("a", "x"));
  folder.write("m2.safetensors", file_with("b", "y"));
  write_index(R"({"a":"m1.safetensors","b":"m2.safetensors"})");
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message;
  EXPECT_EQ((*checkpoint)->files().size(), 2u);
  EXPECT_EQ((*checkpoint)->num_tensors(), 2);
  EXPECT_EQ((*checkpoint)->find("b")->bytes()[0], std::byte{'y'});
  EXPECT_EQ((*checkpoint)->find("b")->file->path.filename(), "m2.safetensors");
}

TEST_F(CheckpointFolder, NothingThere) {
  expect_error(Errc::kNotFound, {"model.safetensors", "index.json", folder.path().string()});
  folder.write("pytorch_model.bin", "");
  expect_error(Errc::kNotFound, {"there is pytorch_model.bin"});
  const auto none = Checkpoint::open(folder / "none");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("not a folder"));
}

TEST_F(CheckpointFolder, BrokenFileIsNamed) {
  folder.write("model.safetensors", "");
  expect_error(Errc::kCorruptFile, {(folder / "model.safetensors").string(), "8 bytes"});
}

TEST_F(CheckpointFolder, BrokenIndex) {
  for (const char* text :
       {"", "[]", "{}", R"({"weight_map":[]})", R"({"weight_map":{}})", "{\"weight_map\":{\"a\xff\":1}}"}) {
    folder.write("model.safetensors.index.json", text);
    expect_error(Errc::kCorruptFile, {"model.safetensors.index.json"});
  }
}

TEST_F(CheckpointFolder, AnIndexCannotReachOtherFiles) {
  folder.write("sub/m.safetensors", file_with("a", "x"));
  for (const char* name : {"../m.safetensors", "sub/m.safetensors", "/etc/m.safetensors", "..\\\\m.safetensors",
                           "m.bin", ".safetensors", "", "m\\u0000.safetensors", ".hidden.safetensors"}) {
    write_index(str_cat("{\"a\":\"", name, "\"}"));
    expect_error(Errc::kCorruptFile, {"plain name", "\"a\""});
  }
  write_index(R"({"a":3})");
  expect_error(Errc::kCorruptFile, {"plain name"});
  write_index(str_cat("{\"a\":\"", std::string(300, 'm'), ".safetensors\"}"));
  expect_error(Errc::kCorruptFile, {"plain name"});
}

TEST_F(CheckpointFolder, ShardsMustMatchTheIndex) {
  folder.write("m1.safetensors", file_with("a", "x"));
  write_index(R"({"a":"m1.safetensors","b":"m2.safetensors"})");
  expect_error(Errc::kNotFound, {"m2.safetensors", "names 2 files"});
  folder.write("m2.safetensors", file_with("c", "y"));
  expect_error(Errc::kCorruptFile, {"m2.safetensors", "\"b\"", "not in it"});
  write_index(R"({"a":"m2.safetensors","c":"m1.safetensors"})");
  expect_error(Errc::kCorruptFile, {"\"a\"", "it is in m1.safetensors"});
  folder.write("m2.safetensors", file_with("a", "y"));
  write_index(R"({"a":"m1.safetensors","b":"m2.safetensors"})");
  expect_error(Errc::kCorruptFile, {"also in m1.safetensors"});
  folder.write("m2.safetensors", safetensors(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                             R"("c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                             "yz"));
  expect_error(Errc::kCorruptFile, {"\"c\"", "not listed"});
}

TEST_F(CheckpointFolder, TooManyShards) {
  std::string map = "{";
  for (int i = 0; i < 1025; ++i) map += str_cat(i ? "," : "", "\"t", i, "\":\"m", i, ".safetensors\"");
  write_index(map + "}");
  expect_error(Errc::kTooLarge, {"1025", "1024"});
}

}  // namespace
}  // namespace carat
