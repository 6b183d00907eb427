#pragma once
// JSON values with Python's view of them: objects keep their order, 1 and 1.0 differ, big integers keep their digits.

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace carat {

class Json;
using JsonArray = std::vector<Json>;
using JsonMember = std::pair<std::string, Json>;
using JsonObject = std::vector<JsonMember>;

/// A JSON value. Plain data: copy is deep, no sharing, any thread.
class Json {
 public:
  enum class Kind { kNull, kBool, kInt, kBigInt, kDouble, kString, kArray, kObject };
  /// An integer outside int64_t, as its digits.
  struct BigInt {
    std::string digits;
    bool operator==(const BigInt&) const = default;
  };

  Json() = default;
  Json(std::nullptr_t) {}  // NOLINT: implicit by design, as are the others
  Json(bool v) : value_(v) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T v) {
    if (std::in_range<int64_t>(v))
      value_ = static_cast<int64_t>(v);
    else
      value_ = BigInt{std::to_string(v)};
  }
  Json(double v) : value_(v) {}
  Json(float v) : value_(static_cast<double>(v)) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(BigInt v) : value_(std::move(v)) {}
  Json(JsonArray v) : value_(std::move(v)) {}
  Json(JsonObject v) : value_(std::move(v)) {}
  static Json array(std::initializer_list<Json> items = {});
  static Json object(std::initializer_list<JsonMember> members = {});

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == Kind::kNull; }
  bool is_bool() const { return kind() == Kind::kBool; }
  /// An integer that fits int64_t.
  bool is_int() const { return kind() == Kind::kInt; }
  bool is_number() const { return kind() == Kind::kInt || kind() == Kind::kDouble || kind() == Kind::kBigInt; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_object() const { return kind() == Kind::kObject; }

  // Access; a wrong kind is a programmer error.
  bool as_bool() const;
  int64_t as_int() const;
  /// Any number as a double.
  double as_double() const;
  const std::string& as_string() const;
  const JsonArray& as_array() const;
  JsonArray& as_array();
  const JsonObject& as_object() const;
  JsonObject& as_object();

  /// The member's value, or null if this is no object or has no such key.
  const Json* find(std::string_view key) const;
  Json* find(std::string_view key);
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  /// Replaces the member's value in place or appends it; this must be an object or null (which becomes one).
  Json& set(std::string_view key, Json value);
  void erase(std::string_view key);
  void push_back(Json value);
  /// Elements of an array or members of an object, else 0.
  size_t size() const;

  /// Python's truth: null, false, 0, "", [] and {} are false.
  bool truthy() const;
  /// "null", "boolean", "integer", "number", "string", "array", "object": for error messages.
  std::string_view kind_name() const;

  /// Text without spaces, UTF-8 as it is (only what JSON must escape is escaped).
  std::string dump() const;
  void append_to(std::string& out) const;
  /// The same with Python's separators: {"a": 1, "b": [2, 3]}.
  std::string dump_spaced() const;
  bool operator==(const Json&) const = default;

 private:
  void append_to(std::string& out, bool spaced) const;

  std::variant<std::nullptr_t, bool, int64_t, BigInt, double, std::string, JsonArray, JsonObject> value_ = nullptr;
};

/// Keeps the first place and the last value of each key, as parse_json does.
void merge_duplicate_keys(JsonObject& object);

struct JsonLimits {
  int max_depth = 128;
};

/// Parses one whole document. Numbers are exact (correctly rounded doubles, integers of any size), the text must be
/// valid UTF-8, a repeated key keeps its first place and takes its last value. Errors: kInvalidArgument with what is
/// wrong and where.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

/// An array or object inside a document whose elements are handed over one by one instead of being kept: for files with
/// very large tables.
struct JsonSink {
  std::string path;  ///< the member names from the root to it, each after a dot: ".model.vocab"
  /// Called in the document's order, repeated keys included; `key` is empty for elements of an array. An error ends the
  /// parse and is its result.
  std::function<Result<void>(std::string_view key, Json value)> element;
};
/// The same; what `sinks` took is an empty array or object in the result. Paths do not lead through arrays.
Result<Json> parse_json(std::string_view text, std::span<const JsonSink> sinks, const JsonLimits& limits = {});

/// Appends `text` as a JSON string with its quotes. `text` should be UTF-8; bytes that are not become U+FFFD.
void append_json_string(std::string& out, std::string_view text);
/// Appends a double as Python's json does: shortest round trip, "1.0", "1e-07", "1e+20"; NaN and infinities as null.
void append_json_double(std::string& out, double value);

}  // namespace carat
