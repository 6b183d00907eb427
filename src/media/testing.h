#pragma once
// What the tests of media/ share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/sha256.h"

namespace carat::media_testing {

using File = std::vector<uint8_t>;

inline std::filesystem::path test_path(std::string_view name) {
  return std::filesystem::path(CARAT_SOURCE_DIR) / "tests" / name;
}

inline File read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

template <class T>
std::string digest(std::span<const T> values) {
  return sha256_hex({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

/// That `result` is an error of this code whose message has all the parts.
template <class R>
void expect_error(const R& result, Errc code, std::initializer_list<std::string_view> parts) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const auto part : parts) EXPECT_THAT(result.error().message, testing::HasSubstr(std::string(part)));
}

}  // namespace carat::media_testing
