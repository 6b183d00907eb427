#pragma once
// JSON and messages of errors, for tests.

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/json.h"

namespace carat {

/// What `text` says; a failure of the test if it is no JSON.
inline Json json(std::string_view text) {
  auto parsed = parse_json(text);
  EXPECT_TRUE(parsed) << text;
  return parsed ? *parsed : Json();
}

/// The message of an error; "" if there is none.
template <class T>
std::string message(const Result<T>& result) {
  return result ? std::string() : result.error().message;
}

}  // namespace carat
