#include "chat/schema_text.h"

#include <string_view>

#include "base/str.h"
#include "base/utf8.h"
#include "chat/python_text.h"

namespace carat {

namespace {

constexpr std::string_view kQuote = "<|\"|>";

void append_quoted(std::string& out, std::string_view text) { ((out += kQuote) += text) += kQuote; }

/// `value | upper`: of str(value), and of nothing for an absent one.
std::string upper_str(const Json* value) { return value ? to_upper_unicode(py_str(*value)) : std::string(); }

/// The member if it is there and true in Python's sense.
const Json* find_truthy(const Json& value, std::string_view key) {
  const Json* member = value.find(key);
  return member && member->truthy() ? member : nullptr;
}

Error template_error(std::string_view keyword, const Json& value, std::string_view wanted) {
  return Error{Errc::kInvalidArgument, str_cat("chat_template: '", keyword, "' in a tool's parameters must be ", wanted,
                                               ", got ", value.kind_name())};
}

/// Commas between the parts of a property.
class Commas {
 public:
  explicit Commas(std::string& out) : out_(out) {}
  std::string& next() {
    if (!first_) out_ += ',';
    first_ = false;
    return out_;
  }

 private:
  std::string& out_;
  bool first_ = true;
};

/// Calls fn(item) for what Python's `for` gives: elements, keys, or the characters of a string.
template <class Fn>
Result<void> for_each_python(std::string_view keyword, const Json& value, Fn fn) {
  if (value.is_array()) {
    for (const Json& item : value.as_array()) fn(item);
  } else if (value.is_object()) {
    for (const auto& [key, item] : value.as_object()) fn(Json(key));
  } else if (value.is_string()) {
    for (std::string_view rest = value.as_string(); !rest.empty();) {
      const auto length = static_cast<size_t>(decode_utf8(rest).length);
      fn(Json(rest.substr(0, length)));
      rest.remove_prefix(length);
    }
  } else {
    return template_error(keyword, value, "a list");
  }
  return {};
}

/// `required:[...]`
Result<void> append_required(std::string& out, const Json& required) {
  out += "required:[";
  Commas commas(out);
  CARAT_TRY_VOID(
      for_each_python("required", required, [&](const Json& item) { append_quoted(commas.next(), py_str(item)); }));
  out += ']';
  return {};
}

enum class Which { kAll, kNonStandard };

Result<void> append_properties(std::string& out, const Json& properties, Which which);

/// One keyword of an `items` schema.
Result<void> append_items_member(std::string& out, const std::string& key, const Json& value) {
  if (key == "properties") {
    out += "properties:{";
    if (value.is_object()) CARAT_TRY_VOID(append_properties(out, value, Which::kAll));
    out += '}';
    return {};
  }
  if (key == "required") return append_required(out, value);
  (out += key) += ':';
  if (key != "type") {
    append_value(out, value, KeyStyle::kQuoted);
  } else if (value.is_string()) {
    append_quoted(out, to_upper_unicode(value.as_string()));
  } else {
    JsonArray types;  // `map` does not look into what is false
    const auto append = [&](const Json& item) { types.push_back(upper_str(&item)); };
    if (value.truthy()) CARAT_TRY_VOID(for_each_python("type", value, append));
    append_value(out, types, KeyStyle::kQuoted);
  }
  return {};
}

Result<void> append_items(std::string& out, const JsonObject& items) {
  out += "items:{";
  Commas commas(out);
  for (const JsonMember* member : dictsort(items)) {
    if (member->second.is_null()) continue;
    CARAT_TRY_VOID(append_items_member(commas.next(), member->first, member->second));
  }
  out += '}';
  return {};
}

/// The rest of a property after its opening brace. The template knows a few keywords for a few types and drops all
/// others.
Result<void> append_property(std::string& out, const Json& schema) {
  const std::string type = upper_str(schema.find("type"));
  Commas commas(out);
  if (const Json* description = find_truthy(schema, "description")) {
    commas.next() += "description:";
    append_quoted(out, py_str(*description));
  }
  if (type == "STRING") {
    if (const Json* values = find_truthy(schema, "enum")) {
      commas.next() += "enum:";
      append_value(out, *values, KeyStyle::kQuoted);
    }
  } else if (type == "ARRAY") {
    const Json* items = find_truthy(schema, "items");
    if (items && items->is_object()) CARAT_TRY_VOID(append_items(commas.next(), items->as_object()));
  }
  if (find_truthy(schema, "nullable")) commas.next() += "nullable:true";
  if (type == "OBJECT") {
    const Json* properties = schema.find("properties");
    commas.next() += "properties:{";
    // Without `properties`, other keywords, such as additionalProperties, pass for properties.
    const bool own = properties && properties->is_object();
    CARAT_TRY_VOID(append_properties(out, own ? *properties : schema, own ? Which::kAll : Which::kNonStandard));
    out += '}';
    if (const Json* required = find_truthy(schema, "required"))
      CARAT_TRY_VOID(append_required(commas.next(), *required));
  }
  commas.next() += "type:";
  append_quoted(out, type);
  out += '}';
  return {};
}

bool is_standard_keyword(std::string_view key) {
  return key == "description" || key == "type" || key == "properties" || key == "required" || key == "nullable";
}

Result<void> append_properties(std::string& out, const Json& properties, Which which) {
  if (!properties.is_object()) return template_error("properties", properties, "an object");
  Commas commas(out);
  for (const JsonMember* member : dictsort(properties.as_object())) {
    if (which == Which::kNonStandard && is_standard_keyword(member->first)) continue;
    (commas.next() += member->first) += ":{";
    CARAT_TRY_VOID(append_property(out, member->second));
  }
  return {};
}

Result<void> append_parameters(std::string& out, const Json& parameters) {
  out += ",parameters:{";
  if (const Json* properties = find_truthy(parameters, "properties")) {
    out += "properties:{";
    CARAT_TRY_VOID(append_properties(out, *properties, Which::kAll));
    out += "},";
  }
  if (const Json* required = find_truthy(parameters, "required")) {
    CARAT_TRY_VOID(append_required(out, *required));
    out += ',';
  }
  // The template closes the brace together with the type: without one, it stays open.
  if (const Json* type = find_truthy(parameters, "type")) {
    out += "type:";
    append_quoted(out, upper_str(type));
    out += '}';
  }
  return {};
}

}  // namespace

void append_value(std::string& out, const Json& value, KeyStyle keys) {
  switch (value.kind()) {
    case Json::Kind::kNull:
      out += "null";
      return;
    case Json::Kind::kBool:
      out += value.as_bool() ? "true" : "false";
      return;
    case Json::Kind::kString:
      append_quoted(out, value.as_string());
      return;
    case Json::Kind::kInt:
    case Json::Kind::kBigInt:
    case Json::Kind::kDouble:
      append_py_str(out, value);
      return;
    case Json::Kind::kArray: {
      out += '[';
      Commas commas(out);
      for (const Json& item : value.as_array()) append_value(commas.next(), item, keys);
      out += ']';
      return;
    }
    case Json::Kind::kObject:
      out += '{';
      append_pairs(out, value.as_object(), keys);
      out += '}';
      return;
  }
}

void append_pairs(std::string& out, const JsonObject& object, KeyStyle keys) {
  Commas commas(out);
  for (const JsonMember* member : dictsort(object)) {
    if (keys == KeyStyle::kQuoted)
      append_quoted(commas.next(), member->first);
    else
      commas.next() += member->first;
    out += ':';
    append_value(out, member->second, keys);
  }
}

Result<void> append_declaration(std::string& out, const ChatTool& tool) {
  (out += "declaration:") += tool.name;
  // SGLang passes null for an absent description, and Python prints that.
  out += "{description:";
  append_quoted(out, tool.description ? std::string_view(*tool.description) : "None");
  if (tool.parameters.truthy()) CARAT_TRY_VOID(append_parameters(out, tool.parameters));
  out += '}';
  return {};
}

}  // namespace carat
