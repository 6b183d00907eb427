#include "chat/tool_schema.h"

#include <gmock/gmock.h>

#include <string>

namespace carat {
namespace {

std::string normalized(const std::string& schema) {
  Json json = *parse_json(schema);
  normalize_schema_types(json);
  return json.dump();
}
std::string normalized_type(const std::string& name) {
  Json schema = Json::object({{"type", name}});
  normalize_schema_types(schema);
  return schema.find("type")->as_string();
}
std::string verdict(const std::string& schema) {
  const auto checked = check_schema(*parse_json(schema));
  return checked ? "good" : checked.error().message;
}

TEST(ToolSchema, TypeNames) {
  const std::pair<const char*, const char*> cases[] = {
      {"string", "string"},
      {"STRING", "string"},
      {" Integer ", "integer"},
      {"varchar(10)", "string"},
      {"Str", "string"},
      {"datetime", "string"},
      {"bool", "boolean"},
      {"bigint", "integer"},
      {"decimal(10, 2)", "number"},
      {"tuple", "array"},
      {"map", "object"},
      {"int", "integer"},
      {"int32", "integer"},
      {"uint8", "integer"},
      {"unsigned int", "integer"},
      {"long", "integer"},
      {"float64", "number"},
      {"num", "number"},
      {"list[str]", "array"},
      {"List<int>", "array"},
      {"dict", "object"},
      {"dict[str, int]", "object"},
      {"short\t1", "integer"},
      {"enum('a','b')", "string"},
      // not known
      {"integers", "integers"},
      {"Listing", "Listing"},
      {"floaty", "floaty"},
      {"nonsense", "nonsense"},
      {"", ""},
      {"string[]", "string[]"},
      {"any", "any"},
  };
  for (const auto& [name, type] : cases) EXPECT_EQ(normalized_type(name), type) << name;
}

TEST(ToolSchema, NormalisesEverySubSchema) {
  const std::pair<const char*, const char*> cases[] = {
      {R"json({"type":["str","varchar(3)","null",5]})json", R"({"type":["string","null",5]})"},
      {R"({"properties":{"type":{"type":"int"}}})", R"({"properties":{"type":{"type":"integer"}}})"},
      {R"({"anyOf":[{"type":"list"},true]})", R"({"anyOf":[{"type":"array"},true]})"},
      {R"({"items":{"not":{"type":"dict"}}})", R"({"items":{"not":{"type":"object"}}})"},
      {R"({"$defs":{"a":{"type":"num"}}})", R"({"$defs":{"a":{"type":"number"}}})"},
      {R"({"additionalProperties":{"type":"bool"}})", R"({"additionalProperties":{"type":"boolean"}})"},
  };
  for (const auto& [before, after] : cases) EXPECT_EQ(normalized(before), after);
  // Values that are no schemas stay.
  for (const char* same :
       {R"({"default":{"type":"int"},"enum":[{"type":"int"}]})", "true", R"({"items":[{"type":"int"}]})"})
    EXPECT_EQ(normalized(same), same);
}

TEST(ToolSchema, Good) {
  for (const char* schema :
       {"{}", "true",
        R"({"type": "object", "properties": {"a": {}, "b": false}, "required": ["a"], "additionalProperties": false})",
        R"({"type": ["string", "null"], "enum": [1, null], "default": [], "minLength": 1.0, "pattern": "("})",
        R"({"anyOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"const": 1}}, "unknown": 7, "multipleOf": 0.1})"})
    EXPECT_EQ(verdict(schema), "good") << schema;
}

TEST(ToolSchema, Bad) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "[] is not of type 'object', 'boolean'"},
      {R"({"type": "text"})", "type: \"text\" is not a type or a list of types of JSON Schema"},
      {R"({"type": []})", "type: [] is not a type or a list of types of JSON Schema"},
      {R"({"type": ["string", "string"]})",
       "type: [\"string\",\"string\"] is not a type or a list of types of JSON Schema"},
      {R"({"type": null})", "type: null is not a type or a list of types of JSON Schema"},
      {R"({"properties": []})", "properties: [] is not of type 'object'"},
      {R"({"properties": {"a": {"items": {"properties": {"b": 1}}}}})",
       "properties.a.items.properties.b: 1 is not of type 'object', 'boolean'"},
      {R"({"required": "a"})", "required: \"a\" is not a list of different strings"},
      {R"({"required": ["a", "a"]})", "required: [\"a\",\"a\"] is not a list of different strings"},
      {R"({"required": [1]})", "required: [1] is not a list of different strings"},
      {R"({"enum": 1})", "enum: 1 is not of type 'array'"},
      {R"({"description": 1})", "description: 1 is not of type 'string'"},
      {R"({"anyOf": []})", "anyOf: [] is not a non-empty list of schemas"},
      {R"({"oneOf": [1]})", "oneOf: 1 is not of type 'object', 'boolean'"},
      {R"({"items": [{}]})", "items: [{}] is not of type 'object', 'boolean'"},
      {R"({"minimum": "0"})", "minimum: \"0\" is not of type 'number'"},
      {R"({"multipleOf": 0})", "multipleOf: 0 is not a number above 0"},
      {R"({"maxItems": -1})", "maxItems: -1 is not an integer of at least 0"},
      {R"({"maxItems": 1.5})", "maxItems: 1.5 is not an integer of at least 0"},
      {R"({"uniqueItems": 1})", "uniqueItems: 1 is not of type 'boolean'"},
      {R"({"dependentRequired": {"a": [1]}})", "dependentRequired.a: [1] is not a list of different strings"},
  };
  for (const auto& [schema, message] : cases) EXPECT_EQ(verdict(schema), message) << schema;
  EXPECT_EQ(verdict(R"({"type": ")" + std::string(1000, 'x') + "\"}"),
            "type: a long string is not a type or a list of types of JSON Schema");
}

}  // namespace
}  // namespace carat
