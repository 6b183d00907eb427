#include "sampling/grammar/schema_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "base/str.h"
#include "sampling/grammar/expressions.h"
#include "sampling/grammar/string_formats.h"

namespace carat {
namespace {

using xgrammar::SchemaSpec;
using Spec = xgrammar::SchemaSpecPtr;

/// Larger lower bounds of counts are refused, larger upper bounds are none.
constexpr int64_t kMaxCount = 10000;
/// Lengths of strings above it are as good as none.
constexpr int64_t kMaxLength = std::numeric_limits<int>::max();
/// Multiples of a number that are listed one by one.
constexpr int64_t kMaxMultiples = 10000;
/// Keywords of which a schema has one value; two are not merged.
constexpr auto kUncombined = std::to_array<std::string_view>(
    {"pattern", "format", "prefixItems", "contains", "dependentRequired", "multipleOf", "additionalItems"});

/// Keywords that allow and forbid nothing.
constexpr auto kAnnotations = std::to_array<std::string_view>(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema", "$id",
     "$anchor", "$defs", "definitions", "example", "nullable"});

bool is_annotation(std::string_view key) { return std::ranges::count(kAnnotations, key) > 0; }

Error bad(const std::string& where, std::string_view what) {
  return {Errc::kInvalidArgument, str_cat(where, ": ", what)};
}

/// What no value can satisfy; among alternatives that is none of them.
Error unsatisfiable(const std::string& where, std::string_view what) {
  return {Errc::kUnsupported, str_cat(where, ": ", what)};
}

bool has_any(const Json& schema, std::initializer_list<std::string_view> keys) {
  return std::ranges::any_of(keys, [&](std::string_view key) { return schema.contains(key); });
}

Spec any_value() { return SchemaSpec::Make(xgrammar::AnySpec{}, "{}", "any"); }

Result<std::optional<int64_t>> count_of(const Json& schema, std::string_view key, const std::string& where) {
  const Json* value = schema.find(key);
  if (!value) return std::optional<int64_t>();
  const double number = value->is_number() ? value->as_double() : -1;
  if (number < 0 || number != std::floor(number))
    return bad(where, str_cat(key, " must be a non-negative integer, got ", value->dump()));
  return std::optional(number > 1e15 ? int64_t{1} << 50 : static_cast<int64_t>(number));
}

struct Counts {
  int64_t least = 0;
  int64_t most = -1;  ///< -1: no bound, as XGrammar says
};

Result<Counts> read_counts(const Json& schema, std::string_view least, std::string_view most,
                           const std::string& where) {
  CARAT_TRY(const auto low, count_of(schema, least, where));
  CARAT_TRY(const auto high, count_of(schema, most, where));
  Counts out{low.value_or(0), high.value_or(-1)};
  if (high && out.least > *high) return unsatisfiable(where, str_cat(least, " is larger than ", most));
  return out;
}

/// The same for items and properties, which have a limit.
Result<Counts> read_bounded(const Json& schema, std::string_view least, std::string_view most,
                            const std::string& where) {
  CARAT_TRY(Counts out, read_counts(schema, least, most, where));
  if (out.least > kMaxCount) return bad(where, str_cat(least, " must be at most ", kMaxCount, ", got ", out.least));
  if (out.most > kMaxCount) out.most = -1;
  return out;
}

Result<std::optional<double>> number_of(const Json& schema, std::string_view key, const std::string& where) {
  const Json* value = schema.find(key);
  // Draft 4: exclusiveMinimum: true beside minimum.
  if (!value || value->is_bool()) return std::optional<double>();
  if (!value->is_number()) return bad(where, str_cat(key, " must be a number, got ", value->kind_name()));
  return std::optional(value->as_double());
}

bool draft4_exclusive(const Json& schema, std::string_view key) {
  const Json* value = schema.find(key);
  return value && value->is_bool() && value->as_bool();
}

std::vector<std::string> types_of(const Json& type) {
  std::vector<std::string> out;
  if (type.is_string()) out.push_back(type.as_string());
  if (type.is_array())
    for (const Json& t : type.as_array())
      if (t.is_string()) out.push_back(t.as_string());
  return out;
}

/// Whether a value of JSON type `type` is one of `types`.
bool fits_types(const Json& value, const std::vector<std::string>& types) {
  return std::ranges::any_of(types, [&](const std::string& type) {
    const std::string_view kind = value.kind_name();
    return type == kind || (type == "number" && kind == "integer");
  });
}

Json intersect_types(const Json& a, const Json& b) {
  const auto left = types_of(a), right = types_of(b);
  Json out = Json::array();
  const auto add = [&](const std::string& type) {
    if (std::ranges::count(out.as_array(), Json(type)) == 0) out.push_back(type);
  };
  for (const std::string& x : left)
    for (const std::string& y : right) {
      if (x == y) add(x);
      if ((x == "integer" && y == "number") || (x == "number" && y == "integer")) add("integer");
    }
  return out.size() == 1 ? out.as_array().front() : out;
}

Json intersect_values(const Json& a, const Json& b) {
  Json out = Json::array();
  if (!a.is_array() || !b.is_array()) return out;
  for (const Json& value : a.as_array())
    if (std::ranges::count(b.as_array(), value) > 0) out.push_back(value);
  return out;
}

Json both(const Json& a, const Json& b) {
  if (a == b) return a;
  if (a.is_bool()) return a.as_bool() ? b : a;
  if (b.is_bool()) return b.as_bool() ? a : b;
  return Json::object({{"allOf", Json::array({a, b})}});
}

void merge_members(Json& into, const Json& from) {
  if (!into.is_object() || !from.is_object()) return;
  for (const auto& [key, value] : from.as_object()) {
    Json* mine = into.find(key);
    into.set(key, mine ? both(*mine, value) : value);
  }
}

void merge_lists(Json& into, const Json& from) {
  if (!into.is_array() || !from.is_array()) return;
  for (const Json& value : from.as_array())
    if (std::ranges::count(into.as_array(), value) == 0) into.push_back(value);
}

/// XGrammar's caches know the plain types by these keys.
std::string plain_key(const Json& schema, std::string_view type) {
  for (const auto& [key, value] : schema.as_object())
    if (key != "type" && !is_annotation(key)) return {};
  return str_cat("{\"type\":\"", type, "\"}");
}

std::string quoted(std::string_view where, std::string_view key) { return str_cat(where, ".", key); }

}  // namespace

Result<void> SchemaReader::count(const std::string& where) {
  if (++num_schemas_ > limits_.max_schemas)
    return bad(where, str_cat("the schema is too large: over ", limits_.max_schemas, " parts, references included"));
  return {};
}

Result<const Json*> SchemaReader::resolve(const std::string& uri, const std::string& where) const {
  if (uri == "#") return &root_;
  if (!uri.starts_with("#/")) return bad(where, str_cat("$ref must be '#' or begin with '#/', got '", uri, "'"));
  const Json* at = &root_;
  for (size_t begin = 2; begin <= uri.size();) {
    const size_t end = std::min(uri.find('/', begin), uri.size());
    std::string key;
    for (size_t i = begin; i < end; ++i) {  // RFC 6901, and what URIs may escape
      if (uri[i] == '~' && i + 1 < end) {
        key += uri[++i] == '1' ? '/' : '~';
      } else if (uri[i] == '%' && i + 2 < end) {
        key += static_cast<char>(std::strtol(uri.substr(i + 1, 2).c_str(), nullptr, 16));
        i += 2;
      } else {
        key += uri[i];
      }
    }
    begin = end + 1;
    int64_t index = -1;
    if (at->is_array() && parse_int(key, index) && index >= 0 && index < static_cast<int64_t>(at->size()))
      at = &at->as_array()[static_cast<size_t>(index)];
    else
      at = at->find(key);
    if (!at) return bad(where, str_cat("$ref '", uri, "' leads nowhere"));
  }
  return at;
}

Result<Spec> SchemaReader::read_reference(const std::string& uri) {
  CARAT_TRY(const Json* target, resolve(uri, "schema"));
  return read(*target, uri);
}

Result<Spec> SchemaReader::read(const Json& schema, const std::string& where) {
  CARAT_TRY_VOID(count(where));
  if (schema.is_bool()) {
    if (schema.as_bool()) return any_value();
    return unsatisfiable(where, "false allows no value");
  }
  if (!schema.is_object())
    return bad(where, str_cat("a schema must be an object or a boolean, got ", schema.kind_name()));
  if (depth_ >= limits_.max_depth)
    return bad(where, str_cat("schemas may be nested ", limits_.max_depth, " levels deep"));
  ++depth_;
  auto out = [&]() -> Result<Spec> {
    CARAT_TRY(const Json flat, flatten(schema, where));
    if (limits_.strict) CARAT_TRY_VOID(check_enforced(flat, where));
    return read_flat(flat, where);
  }();
  --depth_;
  return out;
}

/// As SGLang, which refuses what XGrammar would read over.
Result<void> SchemaReader::check_enforced(const Json& schema, const std::string& where) const {
  if (!schema.is_object()) return {};
  const auto ignored = [&](std::string_view what) {
    return bad(where, str_cat(what, " cannot be enforced together with the rest of this schema, or at all"));
  };
  for (const std::string_view key :
       {"not", "if", "then", "else", "dependentSchemas", "minContains", "maxContains", "uniqueItems"})
    if (const Json* value = schema.find(key); value && *value != Json(false)) return ignored(key);
  if (schema.contains("contains") && has_any(schema, {"items", "prefixItems"})) return ignored("contains");
  const Json* const multiple = schema.find("multipleOf");
  if (multiple && multiple->is_number() && multiple->as_double() != std::floor(multiple->as_double()))
    return ignored("multipleOf with a fraction");
  const Json* const type = schema.find("type");
  if (type && std::ranges::count(types_of(*type), "string") == 0) return {};
  const Json* const format = schema.find("format");
  if (format && (!format->is_string() || format_expression(format->as_string()).empty()))
    return ignored(str_cat("format ", format->dump()));
  const bool length = has_any(schema, {"minLength", "maxLength"}), pattern = schema.contains("pattern");
  if (format && pattern) return ignored("pattern beside format");
  if ((format || pattern) && length) return ignored("a length beside pattern or format");
  return {};
}

Result<Json> SchemaReader::flatten(const Json& schema, const std::string& where) {
  if (schema.is_bool()) return schema;
  if (!schema.is_object()) return bad(where, "a schema must be an object or a boolean");
  Json rest = Json::object();
  const Json* reference = nullptr;
  const Json* all = nullptr;
  bool beside = false;
  for (const auto& [key, value] : schema.as_object()) {
    if (key == "$ref") {
      reference = &value;
    } else if (key == "allOf") {
      all = &value;
    } else if (!is_annotation(key)) {
      rest.set(key, value);
      beside = true;
    }
  }
  if (reference && !reference->is_string()) return bad(where, "$ref must be a string");
  if (reference && !beside && !all) return Json::object({{"$ref", *reference}});
  if (reference || all) {
    if (++depth_ > limits_.max_depth)
      return bad(where, str_cat("schemas may be nested ", limits_.max_depth, " levels deep, references included"));
    std::vector<const Json*> parts;
    if (reference) {
      CARAT_TRY(const Json* target, resolve(reference->as_string(), where));
      parts.push_back(target);
    }
    if (all && !all->is_array()) return bad(where, "allOf must be a list");
    if (all)
      for (const Json& part : all->as_array()) parts.push_back(&part);
    for (const Json* part : parts) {
      CARAT_TRY(Json flat, flatten(*part, where));
      // A reference alone stays one above; here it is merged, so it is followed.
      while (flat.is_object() && flat.contains("$ref")) {
        CARAT_TRY_VOID(count(where));
        CARAT_TRY(const Json* target, resolve(flat.find("$ref")->as_string(), where));
        CARAT_TRY(flat, flatten(*target, where));
      }
      CARAT_TRY(rest, merge(std::move(rest), flat, where));
    }
    --depth_;
  }
  for (const std::string_view keyword : {"anyOf", "oneOf"}) {
    const Json* options = rest.find(keyword);
    if (!options || rest.size() == 1) continue;
    if (!options->is_array()) return bad(where, str_cat(keyword, " must be a list"));
    const Json list = *options;
    Json siblings = rest;
    siblings.erase(keyword);
    Json merged = Json::array();
    for (const Json& option : list.as_array())
      merged.push_back(Json::object({{"allOf", Json::array({siblings, option})}}));
    return Json::object({{"anyOf", std::move(merged)}});
  }
  return rest;
}

/// What both allow. Keywords that cannot be combined are an error if limits are strict, else they stay as `a` has them.
Result<Json> SchemaReader::merge(Json a, const Json& b, const std::string& where) {
  CARAT_TRY_VOID(count(where));
  if (b.is_bool()) {
    if (!b.as_bool()) return unsatisfiable(where, "false allows no value");
    return a;
  }
  for (const auto& [key, value] : b.as_object()) {
    Json* mine = a.find(key);
    if (!mine) {
      a.set(key, value);
    } else if (*mine == value) {
      continue;
    } else if (key == "properties" || key == "patternProperties") {
      merge_members(*mine, value);
    } else if (key == "required") {
      merge_lists(*mine, value);
    } else if (key == "type") {
      *mine = intersect_types(*mine, value);
      if (mine->is_array() && mine->size() == 0) return unsatisfiable(where, "the types contradict each other");
    } else if (key == "enum") {
      *mine = intersect_values(*mine, value);
    } else if (key == "const") {
      return unsatisfiable(where, "two constants contradict each other");
    } else if (key == "items" || key == "additionalProperties" || key == "propertyNames") {
      *mine = both(*mine, value);
    } else if (key == "anyOf" || key == "oneOf") {
      Json first = Json::object({{key, *mine}}), second = Json::object({{key, value}});
      Json options = Json::array();
      for (const Json& x : first.find(key)->as_array())
        for (const Json& y : second.find(key)->as_array())
          options.push_back(Json::object({{"allOf", Json::array({x, y})}}));
      num_schemas_ += static_cast<int>(options.size());
      CARAT_TRY_VOID(count(where));
      *mine = std::move(options);
    } else if (key == "multipleOf" && mine->is_int() && value.is_int() && mine->as_int() > 0 && value.as_int() > 0) {
      const double least = static_cast<double>(mine->as_int()) /
                           static_cast<double>(std::gcd(mine->as_int(), value.as_int())) *
                           static_cast<double>(value.as_int());
      *mine = least < 1e15 ? Json(static_cast<int64_t>(least)) : Json(least);
    } else if (key != "multipleOf" && mine->is_number() && value.is_number()) {
      const bool lower = key.starts_with("min") || key == "exclusiveMinimum";
      if (lower ? value.as_double() > mine->as_double() : value.as_double() < mine->as_double()) *mine = value;
    } else if (limits_.strict && std::ranges::count(kUncombined, key) > 0) {
      return bad(where, str_cat("two different values of ", key, " cannot be enforced together"));
    }
  }
  return a;
}

Result<Spec> SchemaReader::read_flat(const Json& schema, const std::string& where) {
  if (schema.is_bool()) return read(schema, where);
  if (const Json* reference = schema.find("$ref")) {
    CARAT_TRY_VOID(resolve(reference->as_string(), where));
    return SchemaSpec::Make(xgrammar::RefSpec{reference->as_string()}, "", "ref");
  }
  if (const Json* value = schema.find("const")) {
    if (const Json* type = schema.find("type"); type && !fits_types(*value, types_of(*type)))
      return unsatisfiable(where, "the constant is not of the declared type");
    return SchemaSpec::Make(xgrammar::ConstSpec{value->dump()}, "", "const");
  }
  if (schema.contains("enum")) return read_enum(schema, where);
  for (const std::string_view keyword : {"anyOf", "oneOf"})
    if (schema.contains(keyword)) return read_options(schema, keyword, where);
  if (const Json* type = schema.find("type")) {
    const auto types = types_of(*type);
    if (types.empty()) return bad(where, "type must be a name or a list of names");
    if (types.size() == 1) return read_type(schema, types.front(), where);
    xgrammar::TypeArraySpec out;
    for (const std::string& one : types) {
      Json single = schema;
      single.set("type", one);
      CARAT_TRY(auto spec, read(single, where));
      out.type_schemas.push_back(std::move(spec));
    }
    return SchemaSpec::Make(std::move(out), "", "types");
  }
  if (has_any(schema, {"properties", "required", "additionalProperties", "patternProperties", "propertyNames",
                       "minProperties", "maxProperties", "dependentRequired"}))
    return read_object(schema, where);
  if (has_any(schema, {"items", "prefixItems", "minItems", "maxItems", "contains"})) return read_array(schema, where);
  if (has_any(schema, {"pattern", "format", "minLength", "maxLength"})) return read_string(schema, where);
  if (has_any(schema, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}))
    return read_number(schema, where);
  return any_value();
}

Result<Spec> SchemaReader::read_type(const Json& schema, std::string_view type, const std::string& where) {
  if (type == "object") return read_object(schema, where);
  if (type == "array") return read_array(schema, where);
  if (type == "string") return read_string(schema, where);
  if (type == "integer") return read_integer(schema, where);
  if (type == "number") return read_number(schema, where);
  if (type == "boolean") return SchemaSpec::Make(xgrammar::BooleanSpec{}, plain_key(schema, type), "boolean");
  if (type == "null") return SchemaSpec::Make(xgrammar::NullSpec{}, plain_key(schema, type), "null");
  return bad(where, str_cat("unknown type '", type, "'"));
}

Result<Spec> SchemaReader::read_enum(const Json& schema, const std::string& where) {
  const Json& values = *schema.find("enum");
  if (!values.is_array()) return bad(where, "enum must be a list");
  const Json* type = schema.find("type");
  xgrammar::EnumSpec out;
  for (const Json& value : values.as_array())
    if (!type || fits_types(value, types_of(*type))) out.json_values.push_back(value.dump());
  if (out.json_values.empty()) return unsatisfiable(where, "enum has no value of the declared type");
  return SchemaSpec::Make(std::move(out), "", "enum");
}

/// oneOf as anyOf: of alternatives that exclude each other, as they are meant to, one at most holds.
Result<Spec> SchemaReader::read_options(const Json& schema, std::string_view keyword, const std::string& where) {
  const Json& list = *schema.find(keyword);
  if (!list.is_array() || list.size() == 0) return bad(where, str_cat(keyword, " must be a list that is not empty"));
  xgrammar::AnyOfSpec out;
  std::optional<Error> last;
  for (size_t i = 0; i < list.size(); ++i) {
    auto option = read(list.as_array()[i], str_cat(where, ".", keyword, "[", i, "]"));
    if (option) {
      out.options.push_back(std::move(*option));
    } else {
      last = option.error();
      if (last->code != Errc::kUnsupported) return *last;
    }
  }
  if (out.options.empty()) return *last;
  return SchemaSpec::Make(std::move(out), "", "options");
}

Result<Spec> SchemaReader::read_object(const Json& schema, const std::string& where) {
  xgrammar::ObjectSpec out;
  out.allow_unevaluated_properties = false;
  const Json* properties = schema.find("properties");
  const Json* others = schema.find("additionalProperties");
  const Json* patterns = schema.find("patternProperties");
  const Json* names = schema.find("propertyNames");
  if (!has_any(schema, {"properties", "additionalProperties", "patternProperties", "propertyNames", "required",
                        "unevaluatedProperties", "minProperties", "maxProperties"})) {
    out.allow_additional_properties = true;
    out.additional_properties_schema = any_value();
    return SchemaSpec::Make(std::move(out), "{\"type\":\"object\"}", "object");
  }
  if (properties) {
    if (!properties->is_object()) return bad(where, "properties must be an object");
    for (const auto& [key, value] : properties->as_object()) {
      if (value.is_bool() && !value.as_bool()) continue;
      CARAT_TRY(auto spec, read(value, quoted(where, key)));
      out.properties.push_back({key, std::move(spec)});
    }
  }
  Spec other;
  if (others && !(others->is_bool() && !others->as_bool())) {
    CARAT_TRY(other, read(*others, quoted(where, "additionalProperties")));
  } else if (!others && (names || (!properties && !patterns))) {
    other = any_value();
  }
  if (patterns) {
    if (!patterns->is_object()) return bad(where, "patternProperties must be an object");
    for (const auto& [pattern, value] : patterns->as_object()) {
      CARAT_TRY_VOID(check_escapes(pattern, where));
      CARAT_TRY(auto spec, read(value, quoted(where, pattern)));
      out.pattern_properties.push_back({without_options(pattern), std::move(spec)});
    }
    if (!out.pattern_properties.empty()) other = nullptr;  // a key beside the patterns might fit one of them
  }
  if (names) {
    Json text = names->is_object() ? *names : Json::object();
    text.set("type", "string");
    CARAT_TRY(out.property_names, read(text, quoted(where, "propertyNames")));
  }
  const auto require = [&](const Json& list) -> Result<void> {
    if (!list.is_array()) return bad(where, "required must be a list");
    for (const Json& name : list.as_array()) {
      if (!name.is_string()) return bad(where, "required must be a list of strings");
      if (!out.required.insert(name.as_string()).second) continue;
      if (std::ranges::count(out.properties, name.as_string(), &xgrammar::ObjectSpec::Property::name) > 0) continue;
      if (others && !other)
        return unsatisfiable(where, str_cat("'", name.as_string(), "' is required, but not allowed"));
      out.properties.push_back({name.as_string(), other ? other : any_value()});
    }
    return {};
  };
  if (const Json* required = schema.find("required")) CARAT_TRY_VOID(require(*required));
  // Narrower than what it says, which is about objects that have the key.
  if (const Json* dependent = schema.find("dependentRequired"); dependent && dependent->is_object())
    for (const auto& [key, list] : dependent->as_object()) CARAT_TRY_VOID(require(list));
  out.allow_additional_properties = other != nullptr;
  out.additional_properties_schema = other;
  CARAT_TRY(const Counts counts, read_bounded(schema, "minProperties", "maxProperties", where));
  out.min_properties = static_cast<int>(counts.least);
  out.max_properties = static_cast<int>(counts.most);
  const bool closed = !other && out.pattern_properties.empty() && !out.property_names;
  if ((closed && counts.least > static_cast<int64_t>(out.properties.size())) ||
      (counts.most >= 0 && static_cast<int64_t>(out.required.size()) > counts.most))
    return unsatisfiable(where, "minProperties, maxProperties, required and properties contradict each other");
  return SchemaSpec::Make(std::move(out), "", "object");
}

Result<Spec> SchemaReader::read_array(const Json& schema, const std::string& where) {
  xgrammar::ArraySpec out;
  const Json* items = schema.find("items");
  const Json* first = schema.find("prefixItems");
  if (items && items->is_array()) {  // until draft 2019-09
    first = items;
    items = schema.find("additionalItems");
  }
  CARAT_TRY(const Counts counts, read_bounded(schema, "minItems", "maxItems", where));
  out.min_items = counts.least;
  out.max_items = counts.most;
  if (first) {
    if (!first->is_array()) return bad(where, "prefixItems must be a list");
    for (size_t i = 0; i < first->size(); ++i) {
      if (out.max_items >= 0 && static_cast<int64_t>(i) >= out.max_items) break;
      CARAT_TRY(auto spec, read(first->as_array()[i], str_cat(where, "[", i, "]")));
      out.prefix_items.push_back(std::move(spec));
    }
  }
  const Json* contained = schema.find("contains");
  if (!items && contained && !first) {  // narrower: all of them are such
    items = contained;
    out.min_items = std::max<int64_t>(out.min_items, 1);
  }
  if (items && !(items->is_bool() && !items->as_bool())) {
    CARAT_TRY(out.additional_items, read(*items, str_cat(where, "[]")));
  } else if (!items && (!first || out.min_items > static_cast<int64_t>(out.prefix_items.size()))) {
    out.additional_items = any_value();
  }
  out.allow_additional_items = out.additional_items != nullptr;
  if (!out.allow_additional_items && out.min_items > static_cast<int64_t>(out.prefix_items.size()))
    return unsatisfiable(where, "minItems asks for more items than are allowed");
  if (!out.prefix_items.empty() && !out.allow_additional_items) out.max_items = -1;
  return SchemaSpec::Make(std::move(out), plain_key(schema, "array"), "array");
}

Result<Spec> SchemaReader::read_string(const Json& schema, const std::string& where) {
  xgrammar::StringSpec out;
  const auto text = [&](std::string_view key, std::optional<std::string>& to) -> Result<void> {
    const Json* value = schema.find(key);
    if (!value) return {};
    if (!value->is_string()) return bad(where, str_cat(key, " must be a string"));
    to = value->as_string();
    return {};
  };
  CARAT_TRY_VOID(text("pattern", out.pattern));
  if (out.pattern) {
    CARAT_TRY_VOID(check_escapes(*out.pattern, where));
    out.pattern = without_options(*out.pattern);
  }
  CARAT_TRY_VOID(text("format", out.format));
  CARAT_TRY(const Counts counts, read_counts(schema, "minLength", "maxLength", where));
  out.min_length = static_cast<int>(std::min(counts.least, kMaxLength));
  out.max_length = counts.most > kMaxLength ? -1 : static_cast<int>(counts.most);
  return SchemaSpec::Make(std::move(out), plain_key(schema, "string"), "string");
}

Result<Spec> SchemaReader::read_integer(const Json& schema, const std::string& where) {
  // Bounds as whole numbers, exclusive ones made inclusive.
  constexpr double kFar = 9e18;
  std::optional<int64_t> low, high;
  const auto raise = [&](double bound) {
    const int64_t value = static_cast<int64_t>(std::clamp(std::ceil(bound), -kFar, kFar));
    low = low ? std::max(*low, value) : value;
  };
  const auto lower = [&](double bound) {
    const int64_t value = static_cast<int64_t>(std::clamp(std::floor(bound), -kFar, kFar));
    high = high ? std::min(*high, value) : value;
  };
  CARAT_TRY(const auto minimum, number_of(schema, "minimum", where));
  CARAT_TRY(const auto maximum, number_of(schema, "maximum", where));
  CARAT_TRY(const auto above, number_of(schema, "exclusiveMinimum", where));
  CARAT_TRY(const auto below, number_of(schema, "exclusiveMaximum", where));
  CARAT_TRY(const auto multiple, number_of(schema, "multipleOf", where));
  if (minimum) raise(draft4_exclusive(schema, "exclusiveMinimum") ? std::floor(*minimum) + 1 : *minimum);
  if (maximum) lower(draft4_exclusive(schema, "exclusiveMaximum") ? std::ceil(*maximum) - 1 : *maximum);
  if (above) raise(std::floor(*above) + 1);
  if (below) lower(std::ceil(*below) - 1);
  if (low && high && *low > *high) return unsatisfiable(where, "no integer lies between the bounds");
  xgrammar::IntegerSpec out;
  if (multiple) {
    if (!(*multiple > 0)) return bad(where, "multipleOf must be positive");
    const auto step = static_cast<int64_t>(*multiple);
    if (static_cast<double>(step) == *multiple && step > 1) {
      if (step > kMaxMultiples) return bad(where, str_cat("multipleOf must be at most ", kMaxMultiples));
      out.multiple_of = step;
      // With one bound only the multiples near it are offered, and so with bounds far apart.
      const int64_t room = step * (kMaxMultiples / step + 2);
      if (low && (!high || *high - *low > room)) high = *low + room;
      if (high && !low) low = *high - room;
    }
  }
  out.minimum = low;
  out.maximum = high;
  return SchemaSpec::Make(std::move(out), plain_key(schema, "integer"), "integer");
}

Result<Spec> SchemaReader::read_number(const Json& schema, const std::string& where) {
  xgrammar::NumberSpec out;
  CARAT_TRY(out.minimum, number_of(schema, "minimum", where));
  CARAT_TRY(out.maximum, number_of(schema, "maximum", where));
  CARAT_TRY(out.exclusive_minimum, number_of(schema, "exclusiveMinimum", where));
  CARAT_TRY(out.exclusive_maximum, number_of(schema, "exclusiveMaximum", where));
  CARAT_TRY(const auto multiple, number_of(schema, "multipleOf", where));
  if (multiple && *multiple >= 1 && *multiple == std::floor(*multiple)) return read_integer(schema, where);
  if (draft4_exclusive(schema, "exclusiveMinimum")) out.exclusive_minimum = std::exchange(out.minimum, std::nullopt);
  if (draft4_exclusive(schema, "exclusiveMaximum")) out.exclusive_maximum = std::exchange(out.maximum, std::nullopt);
  const double none = std::numeric_limits<double>::infinity();
  const double low = std::max(out.minimum.value_or(-none), out.exclusive_minimum.value_or(-none));
  const double high = std::min(out.maximum.value_or(none), out.exclusive_maximum.value_or(none));
  if (low > high || (low == high && (out.exclusive_minimum == low || out.exclusive_maximum == high)))
    return unsatisfiable(where, "no number lies between the bounds");
  return SchemaSpec::Make(std::move(out), plain_key(schema, "number"), "number");
}

}  // namespace carat
