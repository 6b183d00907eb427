#include "config/object_reader.h"

#include <cmath>

#include "base/str.h"

namespace carat {

std::string brief(const Json& value) {
  constexpr size_t kMax = 60;
  if (value.is_array() || value.is_object())
    return str_cat("an ", value.kind_name(), " of ", value.size(), " elements");
  std::string text = value.dump();
  if (text.size() <= kMax) return text;
  size_t cut = kMax;
  while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0u) == 0x80u) --cut;  // not inside a character
  return text.substr(0, cut) + "...";
}

ObjectReader::ObjectReader(const Json& object, std::string prefix, Result<void>& status)
    : object_(object), prefix_(std::move(prefix)), status_(status) {
  if (object.is_object() || !ok()) return;
  std::string_view name = prefix_;
  while (!name.empty() && (name.back() == '.' || name.back() == ':' || name.back() == ' ')) name.remove_suffix(1);
  status_ = Error{Errc::kInvalidArgument, str_cat(name, " is ", brief(object), ", must be an object")};
}

const Json* ObjectReader::find(std::string_view key) const {
  const Json* value = object_.find(key);
  return value && !value->is_null() ? value : nullptr;
}

void ObjectReader::fail(Errc code, std::string_view key, std::string_view why) {
  if (!ok()) return;
  const Json* value = object_.find(key);
  status_ = Error{code, value ? str_cat(prefix_, key, " is ", brief(*value), ", ", why)
                              : str_cat(prefix_, key, " is missing, ", why)};
}

int64_t ObjectReader::integer(std::string_view key, int64_t min, int64_t max, std::optional<int64_t> fallback) {
  const Json* value = find(key);
  if (!value && fallback) return *fallback;
  // 512.0 is what some writers make of 512.
  const bool whole = value && value->kind() == Json::Kind::kDouble &&
                     std::trunc(value->as_double()) == value->as_double() && std::abs(value->as_double()) < 9e15;
  if (value && (value->is_int() || whole)) {
    const int64_t number = whole ? static_cast<int64_t>(value->as_double()) : value->as_int();
    if (number >= min && number <= max) return number;
  }
  fail(Errc::kInvalidArgument, key, str_cat("must be an integer from ", min, " to ", max));
  return fallback.value_or(min);
}

std::optional<int> ObjectReader::optional_integer(std::string_view key, int64_t min, int64_t max) {
  if (!find(key)) return {};
  return static_cast<int>(integer(key, min, max));
}

double ObjectReader::number(std::string_view key, double min, double max, bool closed, std::optional<double> fallback) {
  const Json* value = find(key);
  if (!value && fallback) return *fallback;
  if (value && value->is_number()) {
    const double number = value->as_double();
    if (number <= max && (number > min || (closed && number == min))) return number;
  }
  fail(Errc::kInvalidArgument, key, str_cat("must be a number in ", closed ? "[" : "(", min, ", ", max, "]"));
  return fallback.value_or(max);
}

std::optional<double> ObjectReader::optional_number(std::string_view key, double min, double max, bool closed) {
  if (!find(key)) return {};
  return number(key, min, max, closed);
}

bool ObjectReader::boolean(std::string_view key, bool fallback) {
  const Json* value = find(key);
  if (!value) return fallback;
  if (value->is_bool()) return value->as_bool();
  fail(Errc::kInvalidArgument, key, "must be true or false");
  return fallback;
}

std::string ObjectReader::word(std::string_view key, std::span<const std::string_view> allowed,
                               std::string_view fallback) {
  const Json* value = find(key);
  if (!value) return std::string(fallback);
  if (value->is_string())
    for (const auto& a : allowed)
      if (value->as_string() == a) return value->as_string();
  std::string list;
  for (const auto& a : allowed) list += str_cat(list.empty() ? "" : ", ", a);
  fail(value->is_string() ? Errc::kUnsupported : Errc::kInvalidArgument, key, str_cat("supported: ", list));
  return std::string(fallback);
}

}  // namespace carat
