#include "base/mapped_file.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

namespace carat {
namespace {

using testing::HasSubstr;

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("carat_mapped_file_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  std::filesystem::path folder_;
};

TEST_F(MappedFileTest, Maps) {
  const std::string text(10000, 'x');
  auto file = MappedFile::open(write("a", text));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->size(), 10000);
  EXPECT_EQ(file->text(), text);
  EXPECT_EQ(file->bytes().size(), text.size());
  for (auto access : {MappedFile::Access::kSequential, MappedFile::Access::kRandom, MappedFile::Access::kWillNeed,
                      MappedFile::Access::kDontNeed, MappedFile::Access::kNormal}) {
    file->advise(access);
    file->advise(access, 5000, 1);
    file->advise(access, -1, 1 << 30);
    file->advise(access, 20000, 5);
  }
  EXPECT_EQ(file->text(), text);
  MappedFile moved = std::move(*file);
  EXPECT_EQ(file->size(), 0);
  EXPECT_EQ(moved.text(), text);
  moved = MappedFile();
}

TEST_F(MappedFileTest, ReadSeesWhatHappenedToTheFile) {
  const auto path = write("a", std::string(10000, 'x') + "end");
  const auto file = MappedFile::open(path).value();
  std::byte end[3];
  ASSERT_TRUE(file.read(10000, end));
  EXPECT_EQ(std::memcmp(end, "end", 3), 0);
  EXPECT_TRUE(file.read(0, {}));
  EXPECT_FALSE(file.read(10001, end)) << "past the end";
  std::filesystem::resize_file(path, 5000);
  const auto gone = file.read(10000, end);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, Errc::kIo);
  EXPECT_THAT(gone.error().message, HasSubstr("shortened"));
  EXPECT_TRUE(file.read(4997, end));
  std::filesystem::remove(path);
  EXPECT_TRUE(file.read(4997, end)) << "the file lives as long as it is open";
}

TEST_F(MappedFileTest, BytesOfTheProgram) {
  static constexpr char kText[] = "built in";
  MappedFile file = MappedFile::of_program(std::as_bytes(std::span(kText)).first(8));
  EXPECT_EQ(file.text(), "built in");
  file.advise(MappedFile::Access::kDontNeed);
  std::byte end[2];
  ASSERT_TRUE(file.read(6, end));
  EXPECT_EQ(std::memcmp(end, "in", 2), 0);
  EXPECT_FALSE(file.read(7, end)) << "past the end";
  const MappedFile moved = std::move(file);
  EXPECT_EQ(moved.text(), "built in");
}

TEST_F(MappedFileTest, EmptyFile) {
  auto file = MappedFile::open(write("empty", ""));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->size(), 0);
  file->advise(MappedFile::Access::kWillNeed);
}

TEST_F(MappedFileTest, Errors) {
  auto missing = MappedFile::open(folder_ / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("missing"));
  auto directory = MappedFile::open(folder_);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, Errc::kIo);
  EXPECT_EQ(read_text_file(folder_ / "missing", 10).error().code, Errc::kNotFound);
  EXPECT_EQ(read_text_file(folder_, 10).error().code, Errc::kIo);
}

TEST_F(MappedFileTest, ReadTextFile) {
  const auto path = write("t", "12345");
  EXPECT_EQ(*read_text_file(path, 5), "12345");
  auto over = read_text_file(path, 4);
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().code, Errc::kTooLarge);
  EXPECT_THAT(over.error().message, HasSubstr("at most 4"));
  EXPECT_EQ(*read_text_file(write("big", std::string(100000, 'y')), 1 << 20), std::string(100000, 'y'));
  EXPECT_FALSE(read_text_file("/proc/self/status", 1 << 20)->empty());
}

}  // namespace
}  // namespace carat
