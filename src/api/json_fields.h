#pragma once
// Reads the fields of a JSON object with strict types. null counts as absent everywhere.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/token.h"

namespace carat {

/// Keeps the first error, so that a parser reads all fields in a row and asks once. The object must outlive the reader.
class JsonFields {
 public:
  /// `path` stands before field names in messages, e.g. "sampling_params"; may be empty.
  JsonFields(const Json& object, std::string path);

  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::optional<bool> boolean(std::string_view key);
  /// An integer, or a float without fraction.
  std::optional<int64_t> integer(std::string_view key);
  std::optional<int64_t> integer(std::string_view key, int64_t least, int64_t most);
  std::optional<double> number(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  const Json* object(std::string_view key);
  /// A string or a list of strings, as a list.
  std::optional<std::vector<std::string>> texts(std::string_view key);
  std::optional<std::vector<TokenId>> ids(std::string_view key);

  void fail(std::string_view key, std::string_view what);
  /// The first error, as kInvalidArgument.
  Result<void> status() const;

 private:
  void fail_kind(std::string_view key, std::string_view wanted, const Json& got);

  const Json& object_;
  std::string path_;
  std::optional<Error> error_;
};

/// A list of token ids. Errors: kInvalidArgument naming `what` and the entry.
Result<std::vector<TokenId>> parse_token_ids(const Json& json, std::string_view what);

}  // namespace carat
