#include "api/json_fields.h"

#include <cmath>
#include <limits>

#include "base/str.h"

namespace carat {
namespace {
std::optional<int64_t> as_whole(const Json& value) {
  if (value.is_int()) return value.as_int();
  if (value.kind() != Json::Kind::kDouble) return std::nullopt;
  const double number = value.as_double();
  if (std::floor(number) != number || std::abs(number) > 9e15) return std::nullopt;
  return static_cast<int64_t>(number);
}
}  // namespace

JsonFields::JsonFields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    error_ = Error{Errc::kInvalidArgument,
                   str_cat(path_.empty() ? "body" : path_, ": Input should be an object, got ", object.kind_name())};
}

const Json* JsonFields::find(std::string_view key) const {
  const Json* value = object_.find(key);
  return value && !value->is_null() ? value : nullptr;
}

void JsonFields::fail(std::string_view key, std::string_view what) {
  if (error_) return;
  error_ = Error{Errc::kInvalidArgument, str_cat(path_, path_.empty() ? "" : ".", key, ": ", what)};
}

void JsonFields::fail_kind(std::string_view key, std::string_view wanted, const Json& got) {
  fail(key, str_cat("Input should be ", wanted, ", got ", got.kind_name()));
}

Result<void> JsonFields::status() const {
  if (error_) return *error_;
  return {};
}

std::optional<bool> JsonFields::boolean(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_bool()) return value->as_bool();
  fail_kind(key, "a valid boolean", *value);
  return std::nullopt;
}

std::optional<int64_t> JsonFields::integer(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  const auto whole = as_whole(*value);
  if (!whole && value->is_number())
    fail(key, str_cat("Input should be an integer of 64 bits, got ", value->dump()));
  else if (!whole)
    fail_kind(key, "a valid integer", *value);
  return whole;
}

std::optional<int64_t> JsonFields::integer(std::string_view key, int64_t least, int64_t most) {
  const auto value = integer(key);
  if (!value || (*value >= least && *value <= most)) return value;
  fail(key, str_cat("Input should be between ", least, " and ", most, ", got ", *value));
  return std::nullopt;
}

std::optional<double> JsonFields::number(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_number()) return value->as_double();
  fail_kind(key, "a valid number", *value);
  return std::nullopt;
}

std::optional<std::string> JsonFields::text(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_string()) return value->as_string();
  fail_kind(key, "a valid string", *value);
  return std::nullopt;
}

const Json* JsonFields::object(std::string_view key) {
  const Json* value = find(key);
  if (!value || value->is_object()) return value;
  fail_kind(key, "a valid dictionary", *value);
  return nullptr;
}

std::optional<std::vector<std::string>> JsonFields::texts(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{value->as_string()};
  if (!value->is_array()) {
    fail_kind(key, "a string or a list of strings", *value);
    return std::nullopt;
  }
  std::vector<std::string> out;
  for (const auto& item : value->as_array()) {
    if (!item.is_string()) {
      fail_kind(key, "a string or a list of strings", item);
      return std::nullopt;
    }
    out.push_back(item.as_string());
  }
  return out;
}

std::optional<std::vector<TokenId>> JsonFields::ids(std::string_view key) {
  const Json* value = find(key);
  if (!value) return std::nullopt;
  auto ids = parse_token_ids(*value, key);
  if (ids) return std::move(*ids);
  if (!error_) error_ = ids.error();
  return std::nullopt;
}

Result<std::vector<TokenId>> parse_token_ids(const Json& json, std::string_view what) {
  if (!json.is_array())
    return Error{Errc::kInvalidArgument, str_cat(what, ": Input should be a list of integers, got ", json.kind_name())};
  std::vector<TokenId> ids;
  ids.reserve(json.size());
  for (const auto& item : json.as_array()) {
    const auto whole = as_whole(item);
    if (!whole || *whole < std::numeric_limits<TokenId>::min() || *whole > std::numeric_limits<TokenId>::max())
      return Error{Errc::kInvalidArgument, str_cat(what, ".", ids.size(), ": Input should be a token id, got ",
                                                   item.is_number() ? item.dump() : std::string(item.kind_name()))};
    ids.push_back(static_cast<TokenId>(*whole));
  }
  return ids;
}

}  // namespace carat
