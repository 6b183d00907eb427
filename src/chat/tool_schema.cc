#include "chat/tool_schema.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "base/str.h"

namespace carat {

namespace {

/// What JSON Schema 2020-12 wants to see as a keyword's value.
enum class Form {
  kSchema,
  kSchemaList,  ///< not empty
  kSchemaMap,
  kType,
  kStringSet,  ///< list of different strings
  kStringSetMap,
  kList,
  kText,
  kBool,
  kNumber,
  kPositiveNumber,
  kCount,  ///< integer >= 0
};

struct Keyword {
  std::string_view name;
  Form form;
};

constexpr Keyword kKeywords[] = {
    {"type", Form::kType},
    {"properties", Form::kSchemaMap},
    {"required", Form::kStringSet},
    {"description", Form::kText},
    {"enum", Form::kList},
    {"items", Form::kSchema},
    {"additionalProperties", Form::kSchema},
    {"anyOf", Form::kSchemaList},
    {"oneOf", Form::kSchemaList},
    {"allOf", Form::kSchemaList},
    {"prefixItems", Form::kSchemaList},
    {"patternProperties", Form::kSchemaMap},
    {"$defs", Form::kSchemaMap},
    {"definitions", Form::kSchemaMap},
    {"dependentSchemas", Form::kSchemaMap},
    {"dependentRequired", Form::kStringSetMap},
    {"not", Form::kSchema},
    {"if", Form::kSchema},
    {"then", Form::kSchema},
    {"else", Form::kSchema},
    {"contains", Form::kSchema},
    {"propertyNames", Form::kSchema},
    {"unevaluatedItems", Form::kSchema},
    {"unevaluatedProperties", Form::kSchema},
    {"contentSchema", Form::kSchema},
    {"title", Form::kText},
    {"format", Form::kText},
    {"pattern", Form::kText},
    {"contentEncoding", Form::kText},
    {"contentMediaType", Form::kText},
    {"$ref", Form::kText},
    {"$id", Form::kText},
    {"$schema", Form::kText},
    {"$anchor", Form::kText},
    {"$comment", Form::kText},
    {"$dynamicRef", Form::kText},
    {"$dynamicAnchor", Form::kText},
    {"examples", Form::kList},
    {"deprecated", Form::kBool},
    {"readOnly", Form::kBool},
    {"writeOnly", Form::kBool},
    {"uniqueItems", Form::kBool},
    {"minimum", Form::kNumber},
    {"maximum", Form::kNumber},
    {"exclusiveMinimum", Form::kNumber},
    {"exclusiveMaximum", Form::kNumber},
    {"multipleOf", Form::kPositiveNumber},
    {"minLength", Form::kCount},
    {"maxLength", Form::kCount},
    {"minItems", Form::kCount},
    {"maxItems", Form::kCount},
    {"minContains", Form::kCount},
    {"maxContains", Form::kCount},
    {"minProperties", Form::kCount},
    {"maxProperties", Form::kCount},
};

const Keyword* find_keyword(std::string_view name) {
  const auto* it = std::find_if(std::begin(kKeywords), std::end(kKeywords), [&](auto& k) { return k.name == name; });
  return it == std::end(kKeywords) ? nullptr : it;
}

constexpr std::string_view kTypes[] = {"array", "boolean", "integer", "null", "number", "object", "string"};

template <class Range, class T>
bool contains(const Range& range, const T& value) {
  return std::find(std::begin(range), std::end(range), value) != std::end(range);
}

// ---- normalising

struct TypeAlias {
  std::string_view name, type;
};
constexpr TypeAlias kAliases[] = {
    {"str", "string"},     {"text", "string"},      {"varchar", "string"},   {"char", "string"},
    {"enum", "string"},    {"uuid", "string"},      {"date", "string"},      {"datetime", "string"},
    {"time", "string"},    {"timestamp", "string"}, {"binary", "string"},    {"blob", "string"},
    {"bytea", "string"},   {"bytes", "string"},     {"varbinary", "string"}, {"bool", "boolean"},
    {"bigint", "integer"}, {"smallint", "integer"}, {"tinyint", "integer"},  {"double", "number"},
    {"decimal", "number"}, {"real", "number"},      {"numeric", "number"},   {"arr", "array"},
    {"tuple", "array"},    {"set", "array"},        {"map", "object"},
};
constexpr TypeAlias kPrefixes[] = {
    {"int", "integer"}, {"uint", "integer"}, {"long", "integer"}, {"short", "integer"}, {"unsigned", "integer"},
    {"num", "number"},  {"float", "number"}, {"list", "array"},   {"dict", "object"},
};

/// The prefix may be followed by a width or parameters, but not by more letters.
bool ends_type_name(std::string_view rest) {
  return rest.empty() || (rest[0] >= '0' && rest[0] <= '9') || contains(std::string_view("[<( \t"), rest[0]);
}

std::string normalized_type(const std::string& type) {
  const std::string name = to_lower_ascii(trim(std::string_view(type).substr(0, type.find('('))));
  if (contains(kTypes, name)) return name;
  for (const TypeAlias& alias : kAliases)
    if (name == alias.name) return std::string(alias.type);
  for (const TypeAlias& prefix : kPrefixes)
    if (name.starts_with(prefix.name) && ends_type_name(std::string_view(name).substr(prefix.name.size())))
      return std::string(prefix.type);
  return type;
}

void normalize_type(Json& type) {
  if (type.is_string()) {
    type = normalized_type(type.as_string());
  } else if (type.is_array()) {
    JsonArray kept;
    std::set<std::string> seen;
    for (Json& item : type.as_array()) {
      if (item.is_string()) item = normalized_type(item.as_string());
      if (!item.is_string() || seen.insert(item.as_string()).second) kept.push_back(std::move(item));
    }
    type = std::move(kept);
  }
}

// ---- checking

/// The place inside the schema, for messages: "properties.city.type".
class Path {
 public:
  explicit Path(const Path* up = nullptr, std::string_view step = {}) : up_(up), step_(step) {}
  std::string text() const {
    const std::string above = up_ ? up_->text() : std::string();
    return above.empty() || step_.empty() ? str_cat(above, step_) : str_cat(above, ".", step_);
  }

 private:
  const Path* up_;
  std::string_view step_;
};

Error wrong(const Path& path, const Json& value, std::string_view wanted) {
  const std::string place = path.text();
  std::string shown = value.dump();
  constexpr size_t kMaxShown = 80;
  if (shown.size() > kMaxShown) shown = str_cat("a long ", value.kind_name());
  return Error{Errc::kInvalidArgument, str_cat(place, place.empty() ? "" : ": ", shown, " is not ", wanted)};
}

Result<void> check(const Json& schema, const Path& path);

bool is_type_name(const Json& value) { return value.is_string() && contains(kTypes, value.as_string()); }

bool all_different(const JsonArray& items) {
  std::vector<std::string_view> sorted;
  for (const Json& item : items) sorted.push_back(item.as_string());
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
}

bool is_string_set(const Json& value) {
  return value.is_array() &&
         std::all_of(value.as_array().begin(), value.as_array().end(), [](const Json& v) { return v.is_string(); }) &&
         all_different(value.as_array());
}

bool is_type(const Json& value) {
  if (!value.is_array()) return is_type_name(value);
  const JsonArray& items = value.as_array();
  return !items.empty() && std::all_of(items.begin(), items.end(), is_type_name) && all_different(items);
}

/// A count may be written 3.0.
bool is_count(const Json& value) {
  if (!value.is_number() || value.as_double() < 0) return false;
  return value.kind() != Json::Kind::kDouble || std::trunc(value.as_double()) == value.as_double();
}

Result<void> check_list(const Json& value, const Path& path) {
  if (!value.is_array() || value.size() == 0) return wrong(path, value, "a non-empty list of schemas");
  for (const Json& item : value.as_array()) CARAT_TRY_VOID(check(item, path));
  return {};
}

Result<void> check_map(const Json& value, const Path& path) {
  if (!value.is_object()) return wrong(path, value, "of type 'object'");
  for (const auto& [name, item] : value.as_object()) CARAT_TRY_VOID(check(item, Path(&path, name)));
  return {};
}

Result<void> check_string_sets(const Json& value, const Path& path) {
  if (!value.is_object()) return wrong(path, value, "of type 'object'");
  for (const auto& [name, item] : value.as_object())
    if (!is_string_set(item)) return wrong(Path(&path, name), item, "a list of different strings");
  return {};
}

Result<void> check_keyword(Form form, const Json& value, const Path& path) {
  const auto want = [&](bool right, std::string_view wanted) -> Result<void> {
    if (!right) return wrong(path, value, wanted);
    return {};
  };
  switch (form) {
    case Form::kSchema:
      return check(value, path);
    case Form::kSchemaList:
      return check_list(value, path);
    case Form::kSchemaMap:
      return check_map(value, path);
    case Form::kStringSetMap:
      return check_string_sets(value, path);
    case Form::kType:
      return want(is_type(value), "a type or a list of types of JSON Schema");
    case Form::kStringSet:
      return want(is_string_set(value), "a list of different strings");
    case Form::kList:
      return want(value.is_array(), "of type 'array'");
    case Form::kText:
      return want(value.is_string(), "of type 'string'");
    case Form::kBool:
      return want(value.is_bool(), "of type 'boolean'");
    case Form::kNumber:
      return want(value.is_number(), "of type 'number'");
    case Form::kPositiveNumber:
      return want(value.is_number() && value.as_double() > 0, "a number above 0");
    case Form::kCount:
      return want(is_count(value), "an integer of at least 0");
  }
  return {};
}

Result<void> check(const Json& schema, const Path& path) {
  if (schema.is_bool()) return {};
  if (!schema.is_object()) return wrong(path, schema, "of type 'object', 'boolean'");
  for (const auto& [name, value] : schema.as_object())
    if (const Keyword* keyword = find_keyword(name))
      CARAT_TRY_VOID(check_keyword(keyword->form, value, Path(&path, name)));
  return {};
}

}  // namespace

void normalize_schema_types(Json& schema) {
  if (!schema.is_object()) return;
  for (auto& [name, value] : schema.as_object()) {
    const Keyword* keyword = find_keyword(name);
    if (!keyword) continue;
    if (keyword->form == Form::kType) {
      normalize_type(value);
    } else if (keyword->form == Form::kSchema) {
      normalize_schema_types(value);
    } else if (keyword->form == Form::kSchemaList && value.is_array()) {
      for (Json& item : value.as_array()) normalize_schema_types(item);
    } else if (keyword->form == Form::kSchemaMap && value.is_object()) {
      for (auto& [key, item] : value.as_object()) normalize_schema_types(item);
    }
  }
}

Result<void> check_schema(const Json& schema) { return check(schema, Path()); }

}  // namespace carat
