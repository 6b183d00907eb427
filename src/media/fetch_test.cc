#include "media/fetch.h"

#include <sys/stat.h>

#include <chrono>

#include "base/str.h"
#include "media/testing.h"

namespace carat {
namespace {

namespace fs = std::filesystem;
using namespace media_testing;
using namespace std::chrono_literals;

Result<std::string> fetch(std::string_view source, const FetchOptions& options = {}) {
  CARAT_TRY(const auto bytes, fetch_media(source, options));
  return std::string(bytes.begin(), bytes.end());
}

void expect_bytes(const Result<std::string>& result, std::string_view bytes) {
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(*result, bytes);
}

TEST(Fetch, DataUris) {
  expect_bytes(fetch("data:image/png;base64,aGVsbG8="), "hello");
  expect_bytes(fetch("  DATA:;BASE64,aGVs\nbG8 \n"), "hello");
  expect_bytes(fetch("data:audio/wav;x=y;base64,aGVsbG8%3D"), "hello");
  expect_bytes(fetch("data:text/plain,he%6Clo%2"), "hello%2");
  expect_error(fetch("data:image/png;base64"), Errc::kInvalidArgument, {"no comma", "data:TYPE;base64,DATA"});
  expect_error(fetch("data:;base64,a*b"), Errc::kInvalidArgument, {"position 1"});
}

TEST(Fetch, BareBase64) {
  for (const auto& [text, bytes] : std::vector<std::pair<std::string, std::string>>{{"aGVsbG8=", "hello"},
                                                                                    {"aGVsbG8", "hello"},
                                                                                    {"aGVsbA==", "hell"},
                                                                                    {"aGVs", "hel"},
                                                                                    {"a GV\r\ns\t", "hel"},
                                                                                    {"-_-_", "\xfb\xff\xbf"},
                                                                                    {"+/+/", "\xfb\xff\xbf"},
                                                                                    {"/9j/", "\xff\xd8\xff"}})
    expect_bytes(fetch(text), bytes);
  expect_error(fetch("aGVsb"), Errc::kInvalidArgument, {"ends within a byte"});
  expect_error(fetch("aG=Vs"), Errc::kInvalidArgument, {"goes on after its padding", "position 3"});
  expect_error(fetch("hello, world"), Errc::kInvalidArgument, {"position 5"});
  expect_error(fetch("  "), Errc::kInvalidArgument, {"empty string"});
}

TEST(Fetch, SizeIsLimited) {
  const FetchOptions five{.max_bytes = 5}, four{.max_bytes = 4};
  for (const auto source : {"aGVsbG8=", "data:;base64,aGVsbG8=", "data:,hello"}) {
    EXPECT_TRUE(fetch(source, five)) << source;
    expect_error(fetch(source, four), Errc::kTooLarge, {"larger than 4 bytes"});
  }
  expect_error(fetch(std::string(4000, 'A'), five), Errc::kTooLarge, {"larger than 5 bytes"});
}

TEST(Fetch, UnknownSchemesAreRefused) {
  for (const auto source : {"ftp://h/x", "gopher://h/", "s3://bucket/key"})
    expect_error(fetch(source), Errc::kInvalidArgument, {source, "http, https, data and file"});
}

class FetchLocal : public testing::Test {
 protected:
  FetchLocal() : folder_(fs::temp_directory_path() / str_cat("carat_fetch_test_", ::getpid())) {
    fs::create_directories(folder_ / "allowed" / "inner");
    write("allowed/inner/a b.png", "inside");
    write("allowed/plain", "plain");
    write("secret", "secret");
    write("allowed2", "neighbour");
    fs::create_symlink(folder_ / "secret", folder_ / "allowed" / "link");
    fs::create_symlink("inner/a b.png", folder_ / "allowed" / "good_link");
    fs::create_directory_symlink("..", folder_ / "allowed" / "up");
    ::mkfifo((folder_ / "allowed" / "pipe").c_str(), 0600);
    options_.allowed_local_path = folder_ / "allowed";
  }
  ~FetchLocal() override { fs::remove_all(folder_); }
  void write(std::string_view name, std::string_view text) { std::ofstream(folder_ / name) << text; }
  std::string path(std::string_view name) const { return (folder_ / name).string(); }

  const fs::path folder_;
  FetchOptions options_;
};

TEST_F(FetchLocal, FilesBelowTheAllowedFolder) {
  expect_bytes(fetch(path("allowed/inner/a b.png"), options_), "inside");
  expect_bytes(fetch(path("allowed/plain"), options_), "plain");
  expect_bytes(fetch(str_cat("file://", path("allowed/inner/a%20b.png")), options_), "inside");
  expect_bytes(fetch(str_cat("FILE://localhost", path("allowed/plain")), options_), "plain");
  expect_bytes(fetch(path("allowed/inner/../plain"), options_), "plain");
  expect_bytes(fetch(path("allowed/good_link"), options_), "inside");
  options_.allowed_local_path = folder_ / "allowed" / "up" / "allowed" / "";
  expect_bytes(fetch(str_cat("file://", path("allowed/plain")), options_), "plain");
}

TEST_F(FetchLocal, NothingElse) {
  for (const auto name : {"secret", "allowed2", "allowed/../secret", "allowed/link", "allowed/up/secret",
                          "allowed/nothing/../../secret", "allowed/%2e%2e/secret", "missing"})
    expect_error(fetch(str_cat("file://", path(name)), options_), Errc::kInvalidArgument, {"is not below", "allowed"});
  expect_error(fetch("/etc/pass.wd", options_), Errc::kInvalidArgument, {"is not below"});
  expect_error(fetch("file://server/share/x", options_), Errc::kInvalidArgument, {"another machine"});
  expect_error(fetch(path("allowed/missing"), options_), Errc::kInvalidArgument, {"cannot be opened"});
  expect_error(fetch(path("allowed/pipe"), options_), Errc::kInvalidArgument, {"no regular file"});
  expect_error(fetch(path("allowed/inner"), options_), Errc::kInvalidArgument, {"no regular file"});
  options_.max_bytes = 4;
  expect_error(fetch(path("allowed/plain"), options_), Errc::kTooLarge, {"larger than 4 bytes"});
  options_.allowed_local_path = folder_ / "missing";
  expect_error(fetch(str_cat("file://", path("secret")), options_), Errc::kIo, {"cannot be read"});
  expect_error(fetch(str_cat("file://", path("allowed/plain"))), Errc::kInvalidArgument,
               {"--allowed-local-media-path"});
  expect_error(fetch("/srv/media/cat.png"), Errc::kInvalidArgument, {"--allowed-local-media-path"});
}

// http/get_test.cc has the rest.
TEST(FetchUrl, IsRefusedWhereTheOptionsSaySo) {
  expect_error(fetch("http://127.0.0.1:1/x"), Errc::kInvalidArgument, {"could not be fetched", "public internet"});
  FetchOptions options{.allow_private_addresses = true, .allowed_domains = {"localhost", "media.example"}};
  expect_error(fetch("http://127.0.0.1:1/x", options), Errc::kInvalidArgument, {"--allowed-media-domains"});
  expect_error(fetch("http://LOCALHOST:1/x", options), Errc::kInvalidArgument, {"cannot connect to localhost:1"});
  expect_error(fetch("http://user@h/"), Errc::kInvalidArgument, {"user names"});
  options.deadline = std::chrono::steady_clock::now() - 1s;
  expect_error(fetch("http://localhost:1/x", options), Errc::kUnavailable, {"took too long"});
}

}  // namespace
}  // namespace carat
