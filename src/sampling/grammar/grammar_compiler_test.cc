#include "sampling/grammar/grammar_compiler.h"

#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <thread>

#include "base/str.h"
#include "sampling/constraint_testing.h"
#include "sampling/grammar/expressions.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

using Kind = GrammarSource::Kind;
using ::testing::HasSubstr;
using testing::SmallVocabulary;

const SmallVocabulary& vocabulary() {
  static const SmallVocabulary it;
  return it;
}

GrammarCompiler& compiler() {
  static GrammarCompiler it(vocabulary().grammar(), {.any_whitespace = false, .timeout = std::chrono::minutes(5)});
  return it;
}

std::string error_of(Kind kind, std::string text) {
  const auto made = compiler().compile_now({kind, std::move(text)});
  return made ? "" : made.error().message;
}
std::string schema_error(std::string text) { return error_of(Kind::kJsonSchema, std::move(text)); }

/// Whether `text` is a whole answer. In calls '~' stands for the mark around strings, '$' at the end for the call's
/// end.
bool fits(Kind kind, const std::string& source, std::string_view text) {
  const auto made = compiler().compile_now({kind, source});
  EXPECT_TRUE(made) << source << ": " << (made ? "" : made.error().message);
  if (!made) return false;
  GrammarMatcher matcher(**made);
  for (const char c : text) {
    TokenId token = vocabulary().at(c);
    if (kind == Kind::kCalls && c == '~') token = SmallVocabulary::kMark;
    if (kind == Kind::kCalls && c == '$') token = SmallVocabulary::kCallClose;
    if (!matcher.accept(token)) return false;
  }
  return matcher.complete();
}
bool fits_schema(const std::string& schema, std::string_view text) { return fits(Kind::kJsonSchema, schema, text); }
bool fits_call(const std::string& schema, std::string_view arguments) {
  return fits(Kind::kCalls, str_cat(R"([{"name":"f","parameters":)", schema, "}]"), str_cat("call:f", arguments, "$"));
}

TEST(Grammars, OfEachKind) {
  EXPECT_TRUE(fits(Kind::kRegex, "[a-c]+x?", "abcx"));
  EXPECT_FALSE(fits(Kind::kRegex, "[a-c]+x?", "abcxx"));
  EXPECT_TRUE(fits(Kind::kEbnf, "root ::= item (\",\" item)*\nitem ::= [0-9]+", "12,3"));
  EXPECT_FALSE(fits(Kind::kEbnf, "root ::= item (\",\" item)*\nitem ::= [0-9]+", "12,"));
  EXPECT_TRUE(fits(Kind::kAnyJson, "", R"({"a": [1, null, {"b": true}]})"));
  EXPECT_FALSE(fits(Kind::kAnyJson, "", "[]"));
  for (const char* tag :
       {R"({"structures":[{"begin":"<f>","schema":{"type":"integer"},"end":"</f>"}],"triggers":["<f"]})",
        R"({"type":"structural_tag","format":{"type":"triggered_tags","triggers":["<f"],"tags":[{"begin":"<f>",)"
        R"("content":{"type":"json_schema","json_schema":{"type":"integer"}},"end":"</f>"}]}})"}) {
    EXPECT_TRUE(fits(Kind::kStructuralTag, tag, "free <f>12</f> text"));
    EXPECT_FALSE(fits(Kind::kStructuralTag, tag, "free <f>a</f>"));
  }
}

TEST(Grammars, WhatIsOptionalIsAllOrNothing) {
  EXPECT_EQ(without_options(R"(a?(?:b)?\?[?]c*?d+?e??(\(?)x{2}?)"),
            R"(a{0,1}(?:b){0,1}\?[?]c*?d+?e{0,1}?(\({0,1})x{2}?)");
  const std::string tail = "a(x[0-9]+)?z", head = "([0-9]+x)?z";
  const std::string tag = R"({"format":{"type":"sequence","elements":[{"type":"regex","pattern":"a(x[0-9]+)?z"}]}})";
  EXPECT_TRUE(fits(Kind::kRegex, tail, "az") && fits(Kind::kRegex, tail, "ax1z") &&
              fits(Kind::kStructuralTag, tag, "ax1z"));
  EXPECT_FALSE(fits(Kind::kRegex, tail, "a1z") || fits(Kind::kStructuralTag, tag, "a1z"));
  EXPECT_TRUE(fits(Kind::kRegex, head, "z") && fits(Kind::kRegex, head, "1xz"));
  EXPECT_FALSE(fits(Kind::kRegex, head, "1z"));
  const std::string schema = R"({"pattern":"^a(x[0-9]+)?z$"})";
  EXPECT_TRUE(fits_schema(schema, R"("ax1z")"));
  EXPECT_FALSE(fits_schema(schema, R"("a1z")") ||
               fits_call(str_cat(R"({"properties":{"k":)", schema, "}}"), "{k:~a1z~}"));
}

TEST(Grammars, CharactersBeforeHexadecimalDigits) {
  const auto made = compiler().compile_now({Kind::kRegex,
                                            "\xC3\xA9"
                                            "ed[\xC3\xA9"
                                            "a]"});
  ASSERT_TRUE(made);
  GrammarMatcher matcher(**made);
  const TokenId e_acute = vocabulary().size() - 3;
  for (const TokenId token : {e_acute, vocabulary().at('e'), vocabulary().at('d'), e_acute})
    EXPECT_TRUE(matcher.accept(token));
  EXPECT_TRUE(matcher.complete());
}

TEST(Schemas, PatternsWithOtherThanAscii) {
  const auto made = compiler().compile_now({Kind::kJsonSchema,
                                            "{\"pattern\":\"^\xC3\xA9"
                                            "d[^\xC3\xA9"
                                            "b]$\"}"});
  ASSERT_TRUE(made);
  GrammarMatcher matcher(**made);
  const TokenId e_acute = vocabulary().size() - 3;
  for (const TokenId token : {vocabulary().at('"'), e_acute, vocabulary().at('d')}) EXPECT_TRUE(matcher.accept(token));
  for (const TokenId bad :
       {e_acute, vocabulary().at('b'), vocabulary().at('"'), vocabulary().at('\\'), vocabulary().at('\n')})
    EXPECT_FALSE(matcher.accept(bad)) << bad;
  EXPECT_TRUE(matcher.accept(vocabulary().at('x')));
  EXPECT_TRUE(matcher.accept(vocabulary().at('"')));
  EXPECT_TRUE(matcher.complete());
}

TEST(Grammars, MarkersAreNoText) {
  const auto made = compiler().compile_now({Kind::kRegex, ".*"});
  ASSERT_TRUE(made);
  GrammarMatcher matcher(**made);
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
  matcher.fill_mask(mask);
  for (TokenId t = 0; t < SmallVocabulary::kLabel; ++t) EXPECT_FALSE(mask_has(mask, t)) << t;
  EXPECT_TRUE(mask_has(mask, vocabulary().at('~')));
  ASSERT_NE(vocabulary().size() % 32, 0);
  EXPECT_EQ(mask.back() >> (vocabulary().size() % 32), 0u) << "no bits beyond the vocabulary";
}

TEST(Schemas, Objects) {
  const std::string closed =
      R"({"type":"object","properties":{"b":{"type":"integer"},"a":{"type":"null"}},"required":["b"]})";
  EXPECT_TRUE(fits_schema(closed, R"({"b": 1})"));
  EXPECT_TRUE(fits_schema(closed, R"({"b": 1, "a": null})")) << "in their order";
  EXPECT_FALSE(fits_schema(closed, R"({"a": null})"));
  EXPECT_FALSE(fits_schema(closed, R"({"b": 1, "c": 2})"));
  EXPECT_TRUE(fits_schema(R"({"type":"object","title":"anything"})", R"({"x": {"y": []}})"));
  EXPECT_TRUE(fits_schema(R"({"type":"object","additionalProperties":{"type":"integer"}})", R"({"x": 1, "y": 2})"));
  EXPECT_FALSE(fits_schema(R"({"type":"object","additionalProperties":{"type":"integer"}})", R"({"x": true})"));
  EXPECT_TRUE(fits_schema(R"({"type":"object","patternProperties":{"x[0-9]":{"type":"boolean"}}})", R"({"x1": true})"));
  EXPECT_FALSE(
      fits_schema(R"({"type":"object","patternProperties":{"x[0-9]":{"type":"boolean"}}})", R"({"y1": true})"));
  EXPECT_TRUE(fits_schema(R"({"required":["k"]})", R"({"k": [1]})")) << "undeclared, but required";
  EXPECT_FALSE(fits_schema(R"({"required":["k"]})", "{}"));
  const std::string dependent =
      R"({"properties":{"a":{"type":"null"},"b":{"type":"null"}},"dependentRequired":{"a":["b"]}})";
  EXPECT_FALSE(fits_schema(dependent, R"({"a": null})"));
  EXPECT_TRUE(fits_schema(dependent, R"({"a": null, "b": null})"));
}

/// XGrammar's own reader takes these two for one, since it looks past descriptions.
TEST(Schemas, PropertiesMayBeNamedLikeAnnotations) {
  const std::string schema = R"({"prefixItems":[{"properties":{"title":{"type":"integer"}},"required":["title"]},)"
                             R"({"properties":{"title":{"type":"null"}},"required":["title"]}]})";
  EXPECT_TRUE(fits_schema(schema, R"([{"title": 1}, {"title": null}])"));
  EXPECT_FALSE(fits_schema(schema, R"([{"title": 1}, {"title": 1}])"));
}

TEST(Schemas, ArraysStringsAndNumbers) {
  EXPECT_TRUE(fits_schema(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})", "[1, 2]"));
  EXPECT_FALSE(fits_schema(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})", "[]"));
  EXPECT_FALSE(fits_schema(R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":2})", "[1, 2, 3]"));
  EXPECT_TRUE(
      fits_schema(R"({"type":"array","prefixItems":[{"const":"a"},{"type":"integer"}],"items":false})", R"(["a", 1])"));
  EXPECT_TRUE(
      fits_schema(R"({"type":"array","items":[{"const":"a"}],"additionalItems":{"type":"null"}})", R"(["a", null])"));
  EXPECT_FALSE(fits_schema(R"({"type":"array","contains":{"const":1}})", "[]")) << "narrower: all are such";
  EXPECT_TRUE(fits_schema(R"({"type":"array","contains":{"const":1}})", "[1, 1]"));
  EXPECT_TRUE(fits_schema(R"({"type":"string","pattern":"a{2}"})", R"("aa")"));
  EXPECT_TRUE(fits_schema(R"({"type":"string","format":"date"})", R"("2026-11-25")"));
  EXPECT_FALSE(fits_schema(R"({"type":"string","format":"date"})", R"("2026-13-45")"));
  const std::string length = R"({"type":"string","minLength":2,"maxLength":3})";
  EXPECT_TRUE(fits_schema(length, R"("ab")") && fits_schema(length, R"("a\n\"")"));
  EXPECT_FALSE(fits_schema(length, R"("a")") || fits_schema(length, R"("abcd")") || fits_schema(length, "\"a\nb\""));
  EXPECT_TRUE(fits_schema(R"({"type":"string"})", R"("\u00e9 \\ \"")"));
  EXPECT_FALSE(fits_schema(R"({"type":"string"})", R"("\ud83d")")) << "half of a pair";
  for (const char* ok : {"1", "3", "12"})
    EXPECT_TRUE(fits_schema(R"({"type":"integer","minimum":1,"exclusiveMaximum":13})", ok));
  for (const char* bad : {"0", "13", "1.0", "-1"})
    EXPECT_FALSE(fits_schema(R"({"type":"integer","minimum":1,"exclusiveMaximum":13})", bad));
  EXPECT_FALSE(fits_schema(R"({"type":"integer","minimum":0.5,"maximum":1.5})", "0"));
  EXPECT_TRUE(fits_schema(R"({"type":"integer","minimum":0.5,"maximum":1.5})", "1"));
  EXPECT_FALSE(fits_schema(R"({"type":"integer","minimum":3,"exclusiveMinimum":true})", "3")) << "draft 4";
  EXPECT_TRUE(fits_schema(R"({"type":"integer","multipleOf":3})", "-9"));
  EXPECT_FALSE(fits_schema(R"({"type":"integer","multipleOf":3})", "10"));
  EXPECT_TRUE(fits_schema(R"({"type":"integer","multipleOf":5,"minimum":7})", "10"));
  EXPECT_FALSE(fits_schema(R"({"type":"integer","multipleOf":5,"minimum":7})", "5"));
  EXPECT_FALSE(fits_schema(R"({"type":"number","multipleOf":2})", "1.5"));
  EXPECT_TRUE(fits_schema(R"({"type":"number"})", "-1.5e10"));
  EXPECT_FALSE(fits_schema(R"({"type":"number"})", "1e999")) << "infinity to whoever reads it";
  EXPECT_TRUE(fits_schema(R"({"type":"number","minimum":0,"maximum":1})", "0.25"));
  EXPECT_FALSE(fits_schema(R"({"type":"number","minimum":0,"maximum":1})", "1.5"));
}

TEST(Schemas, Formats) {
  const auto text = [](std::string_view format, std::string_view value) {
    const bool marks = value.find('~') != value.npos;  // which stand for something else in calls
    return fits_schema(str_cat(R"({"type":"string","format":")", format, "\"}"), str_cat("\"", value, "\"")) &&
           (marks ||
            fits_call(str_cat(R"({"properties":{"x":{"format":")", format, R"("}}})"), str_cat("{x:~", value, "~}")));
  };
  const std::pair<std::string_view, std::vector<std::string_view>> good[] = {
      {"date", {"2026-11-25", "2024-02-29", "2000-02-29", "1999-12-31"}},
      {"time", {"23:59:59Z", "01:02:03.5+01:30"}},
      {"date-time", {"2026-11-25T13:45:50Z", "2026-11-25T13:45:50.123456-08:00"}},
      {"duration", {"P3Y6M4DT12H30M5S", "P2W", "PT5M"}},
      {"email", {"a@b.example", "first.last+tag@sub.a-b.example"}},
      {"hostname", {"example", "a-1.b--c.example"}},
      {"ipv4", {"0.0.0.0", "255.199.20.1"}},
      {"ipv6", {"::", "::1", "2001:db8::8a2e:370:7334", "1:2:3:4:5:6:7:8", "fe80::"}},
      {"uuid", {"123e4567-e89b-12d3-a456-426614174000"}},
      {"uri", {"http://u@example.com:80/a/b?q=1#f", "mailto:a@b", "urn:isbn:0", "file:///a%20b"}},
      {"uri-reference", {"", "a/b", "../c?d", "//host/x", "#f", "https://example.com"}},
      {"uri-template", {"/a/{id}/b{?x,y*}", "{+path:3}", "plain"}},
      {"json-pointer", {"", "/a/0/~1~0"}},
      {"relative-json-pointer", {"0#", "12/a/b"}}};
  for (const auto& [format, values] : good)
    for (const std::string_view value : values) EXPECT_TRUE(text(format, value)) << format << ": " << value;
  const std::pair<std::string_view, std::vector<std::string_view>> bad[] = {
      {"date", {"2026-02-29", "1900-02-29", "2026-04-31", "2026-13-01", "26-01-01", "2026-1-1"}},
      {"time", {"24:00:00Z", "12:00:00", "12:60:00Z", "12:00:00123Z"}},
      {"date-time", {"2026-11-25 13:45:50Z", "2026-11-25"}},
      {"duration", {"P", "PT", "3D", "P1H"}},
      {"email", {"a", "@b", "a@", "a..b@c", "a@b..c", "a b@c"}},
      {"hostname", {"-a", "a-", "a..b", "a_b", ""}},
      {"ipv4", {"256.0.0.1", "1.2.3", "01.2.3.4", "1.2.3.4.5"}},
      {"ipv6", {"1:2:3:4:5:6:7", "1::2::3", "12345::", "g::", "1:2:3:4:5:6:7:8:9"}},
      {"uuid", {"123e4567e89b12d3a456426614174000", "123e4567-e89b-12d3-a456-42661417400g"}},
      {"uri", {"example.com", "1a:b", "http://a b", "http:%zz"}},
      {"uri-reference", {"a b", "%zz"}},
      {"uri-template", {"{", "{}", "{a", "a b"}},
      {"json-pointer", {"a", "/~2", "/~"}},
      {"relative-json-pointer", {"/a", "01", "#"}}};
  for (const auto& [format, values] : bad)
    for (const std::string_view value : values) EXPECT_FALSE(text(format, value)) << format << ": " << value;
}

TEST(Schemas, WhatCannotBeEnforcedIsAnError) {
  for (const char* schema :
       {R"({"type":"object","properties":{"a":{"not":{"type":"null"}}}})", R"({"if":{"type":"null"},"then":false})",
        R"({"else":{}})", R"({"type":"object","dependentSchemas":{"a":{}}})", R"({"type":"array","uniqueItems":true})",
        R"({"items":{"type":"integer"},"contains":{"const":1}})", R"({"contains":{"const":1},"minContains":2})",
        R"({"contains":{"const":1},"maxContains":2})", R"({"type":"number","multipleOf":0.01})",
        R"({"type":"string","format":"colour"})", R"({"format":5})", R"({"pattern":"a","format":"date"})",
        R"({"pattern":"a+","maxLength":3})", R"({"format":"email","minLength":3})",
        R"({"anyOf":[{"type":"null"},{"type":"array","uniqueItems":true}]})"})
    EXPECT_THAT(schema_error(schema), HasSubstr("cannot be enforced")) << schema;
  EXPECT_THAT(schema_error(R"({"properties":{"a":{"not":{}}}})"), HasSubstr("schema.a: not cannot be enforced"));
  EXPECT_THAT(schema_error(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})"),
              HasSubstr("two different values of pattern cannot be enforced together"));
  EXPECT_EQ(schema_error(R"({"type":"array","uniqueItems":false})"), "");
  EXPECT_EQ(schema_error(R"({"type":"integer","format":"int32"})"), "") << "formats are about strings";
  EXPECT_EQ(schema_error(R"({"type":"null","x-note":"a","allOf":[{"x-note":"b"}]})"), "");
  EXPECT_TRUE(fits_schema(R"({"type":"integer","allOf":[{"multipleOf":4},{"multipleOf":6}]})", "24"));
  EXPECT_FALSE(fits_schema(R"({"type":"integer","allOf":[{"multipleOf":4},{"multipleOf":6}]})", "6"));
  EXPECT_TRUE(
      fits_call(R"({"properties":{"a":{"type":"array","items":{"type":"integer"},"uniqueItems":true}}})", "{a:[1,1]}"))
      << "arguments of tools are held to what a grammar can say";
}

TEST(Schemas, AlternativesAndTheirSiblings) {
  EXPECT_TRUE(fits_schema(R"({"type":["integer","null"]})", "null"));
  EXPECT_TRUE(fits_schema(R"({"enum":[1,"a",{"k":[true]}]})", R"({"k":[true]})"));
  EXPECT_FALSE(fits_schema(R"({"type":"string","enum":[1,"a"]})", "1"));
  const std::string siblings = R"({"type":"object","properties":{"t":{"type":"string"}},"required":["t"],"anyOf":[)"
                               R"({"properties":{"a":{"type":"integer"}},"required":["a"]},)"
                               R"({"properties":{"b":{"type":"null"}},"required":["b"]}]})";
  EXPECT_TRUE(fits_schema(siblings, R"({"t": "x", "a": 1})") && fits_schema(siblings, R"({"t": "x", "b": null})"));
  EXPECT_FALSE(fits_schema(siblings, R"({"a": 1})") || fits_schema(siblings, R"({"t": "x"})") ||
               fits_schema(siblings, "1"));
  const std::string all = R"({"allOf":[{"properties":{"a":{"type":"number","minimum":1}},"required":["a"]},)"
                          R"({"properties":{"a":{"type":"integer","maximum":3},"b":{"type":"null"}}}]})";
  EXPECT_TRUE(fits_schema(all, R"({"a": 2})") && fits_schema(all, R"({"a": 3, "b": null})"));
  EXPECT_FALSE(fits_schema(all, R"({"a": 4})") || fits_schema(all, R"({"a": 1.5})") || fits_schema(all, "{}"));
  EXPECT_FALSE(fits_schema(R"({"anyOf":[{"type":"string","const":1},{"type":"null"}]})", "1"))
      << "an alternative that contradicts itself is none";
  EXPECT_TRUE(fits_schema(R"({"oneOf":[{"const":"a"},{"const":"b"}]})", R"("b")"));
  EXPECT_TRUE(fits_schema("true", "[1]") && fits_schema("{}", "[1]"));
}

TEST(Schemas, References) {
  const std::string list = R"({"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"v":{"type":"integer"},)"
                           R"("next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["v","next"]}}})";
  EXPECT_TRUE(fits_schema(list, R"({"v": 1, "next": {"v": 2, "next": null}})"));
  EXPECT_FALSE(fits_schema(list, R"({"v": 1, "next": {"v": 2}})"));
  EXPECT_TRUE(fits_schema(R"({"definitions":{"a/b":{"const":1}},"$ref":"#/definitions/a~1b","description":"x"})", "1"));
  EXPECT_TRUE(fits_schema(R"({"items":{"$ref":"#"},"type":"array"})", "[[], [[]]]"));
  EXPECT_TRUE(fits_schema(R"({"$defs":{"a":{"type":"integer"}},"$ref":"#/$defs/a","minimum":5})", "7"));
  EXPECT_FALSE(fits_schema(R"({"$defs":{"a":{"type":"integer"}},"$ref":"#/$defs/a","minimum":5})", "4"));
}

TEST(Schemas, ErrorsNameThePlace) {
  EXPECT_THAT(schema_error("{"), HasSubstr("JSON"));
  EXPECT_EQ(schema_error("[]"), "schema: a schema must be an object or a boolean, got array");
  EXPECT_EQ(schema_error(R"({"properties":{"a":{"type":"strin"}}})"), "schema.a: unknown type 'strin'");
  EXPECT_EQ(schema_error(R"({"items":{"$ref":"#/nowhere"}})"), "schema[]: $ref '#/nowhere' leads nowhere");
  EXPECT_THAT(schema_error(R"({"$ref":"http://example.com"})"), HasSubstr("$ref must be '#' or begin with '#/'"));
  EXPECT_THAT(schema_error(R"({"type":"integer","minimum":3,"maximum":2})"), HasSubstr("no integer lies between"));
  EXPECT_THAT(schema_error(R"({"type":"number","exclusiveMinimum":3,"maximum":3})"),
              HasSubstr("no number lies between"));
  EXPECT_THAT(schema_error(R"({"type":"string","minLength":3,"maxLength":2})"), HasSubstr("larger than maxLength"));
  EXPECT_THAT(schema_error(R"({"enum":[]})"), HasSubstr("enum has no value"));
  EXPECT_THAT(schema_error(R"({"anyOf":[]})"), HasSubstr("not empty"));
  EXPECT_THAT(schema_error(R"({"anyOf":[{"type":"null"},{"type":"nix"}]})"), HasSubstr("unknown type 'nix'"));
  EXPECT_THAT(schema_error(R"({"allOf":[{"type":"null"},{"type":"string"}]})"), HasSubstr("contradict"));
  EXPECT_THAT(schema_error("false"), HasSubstr("false allows no value"));
  EXPECT_THAT(schema_error(R"({"type":"string","pattern":"(("})"), HasSubstr("parenthesis"));
  EXPECT_THAT(schema_error(R"({"properties":5})"), HasSubstr("properties must be an object"));
  EXPECT_THAT(schema_error(R"({"required":["a"],"properties":{},"additionalProperties":false})"),
              HasSubstr("not allowed"));
}

TEST(Schemas, Limits) {
  const auto nested = [](int depth) {
    std::string text = R"({"type":"integer"})";
    for (int i = 0; i < depth; ++i) text = R"({"type":"array","items":)" + text + "}";
    return text;
  };
  EXPECT_EQ(schema_error(nested(63)), "");
  EXPECT_THAT(schema_error(nested(64)), HasSubstr("nested 64 levels deep"));
  const auto text = [](int length) { return "\"" + std::string(static_cast<size_t>(length), 'x') + "\""; };
  EXPECT_TRUE(fits_schema(R"({"maxLength":3000})", text(3000)));
  EXPECT_FALSE(fits_schema(R"({"maxLength":3000})", text(3001)));
  EXPECT_FALSE(fits_schema(R"({"minLength":100})", text(99)));
  EXPECT_TRUE(fits_schema(R"({"minLength":100,"maxLength":1e300})", text(100)));
  EXPECT_EQ(schema_error(R"({"type":"array","minItems":10000})"), "");
  EXPECT_THAT(schema_error(R"({"type":"array","minItems":10001})"), HasSubstr("minItems must be at most 10000"));
  EXPECT_THAT(schema_error(R"({"type":"integer","multipleOf":10001})"), HasSubstr("multipleOf must be at most 10000"));
  EXPECT_THAT(schema_error(R"({"$ref":"#"})"), HasSubstr("no answer can satisfy"));
  EXPECT_THAT(schema_error(R"({"allOf":[{"$ref":"#"}]})"), HasSubstr("nested 64 levels deep"));
  // Each alternative of one list with each of the other, 20 times over.
  std::string product = R"({"type":"object","anyOf":[{"minProperties":1},{"minProperties":2}]})";
  for (int i = 0; i < 20; ++i)
    product = str_cat(R"({"allOf":[)", product, R"(,{"anyOf":[{"maxProperties":)", i + 5, R"(},{"maxProperties":)",
                      i + 50, "}]}]}");
  EXPECT_THAT(schema_error(product), HasSubstr("too large"));
}

TEST(Sources, AreBoundedInBytes) {
  EXPECT_EQ(error_of(Kind::kRegex, "[" + std::string(65000, 'a') + "]"), "");
  EXPECT_THAT(error_of(Kind::kRegex, std::string(65537, 'a')), HasSubstr("65537 bytes, over the limit of 65536"));
  EXPECT_THAT(error_of(Kind::kEbnf, std::string(65537, ' ')), HasSubstr("over the limit"));
  EXPECT_THAT(schema_error(std::string((1 << 20) + 1, ' ')), HasSubstr("over the limit of 1048576"));
  EXPECT_THAT(error_of(Kind::kCalls, std::string(10 << 20, ' ')), HasSubstr("over the limit"));
}

TEST(Sources, EscapesAreBounded) {
  EXPECT_TRUE(fits(Kind::kRegex, R"(\x41[\u0042])", "AB"));
  for (const char* bad : {R"(\x4141414141)", R"([a\u00000000041])", R"(\\\U1234567890)"})
    EXPECT_THAT(error_of(Kind::kRegex, bad), HasSubstr("an escape may have 8 hexadecimal digits")) << bad;
  EXPECT_THAT(error_of(Kind::kEbnf, R"(root ::= "\x4141414141")"), HasSubstr("hexadecimal digits, got 10"));
  EXPECT_THAT(schema_error(R"({"pattern":"\\x4141414141"})"), HasSubstr("hexadecimal digits"));
  EXPECT_THAT(schema_error(R"({"patternProperties":{"\\x4141414141":{}}})"), HasSubstr("hexadecimal digits"));
}

TEST(Sources, AutomatonsAreBounded) {
  GrammarCompiler small(vocabulary().grammar(), {.max_states = 100, .timeout = std::chrono::minutes(5)});
  EXPECT_TRUE(small.compile_now({Kind::kRegex, "a{10}"}));
  const auto large = small.compile_now({Kind::kEbnf, "root ::= \"" + std::string(200, 'a') + "\""});
  ASSERT_FALSE(large);
  EXPECT_THAT(large.error().message, HasSubstr("states, over the limit of 100"));
  GrammarCompiler hurried(vocabulary().grammar(), {.max_work = 1000, .timeout = std::chrono::minutes(5)});
  EXPECT_TRUE(hurried.compile_now({Kind::kRegex, std::string(500, 'a')})) << "no token begins with two of them";
  const auto slow = hurried.compile_now({Kind::kRegex, std::string(500, '.')});
  ASSERT_FALSE(slow);
  EXPECT_THAT(slow.error().message, HasSubstr("comparisons with tokens, over the limit of 1000"));
}

TEST(Calls, AreSpelledAsTheModelDoes) {
  const std::string schema =
      R"({"type":"object","properties":{"City":{"type":"string"},"days":{"type":"integer"},"at":{"enum":["am","pm",1]},)"
      R"("o":{"type":"object","properties":{"k":{"type":"array","items":{"type":"string"}}}}},"required":["City"]})";
  EXPECT_TRUE(fits_call(schema, "{City:~Oslo, \"N\" {,}~,days:2}"));
  EXPECT_TRUE(fits_call(schema, "{at:~pm~,City:~~,o:{k:[~a~,~b~]}}")) << "by key, letters' case aside";
  EXPECT_TRUE(fits_call(schema, "{at:1,City:~x~,o:{}}"));
  EXPECT_FALSE(fits_call(schema, "{City:~x~,at:1}")) << "another order";
  EXPECT_FALSE(fits_call(schema, "{City:~x~, days:2}")) << "a space";
  EXPECT_FALSE(fits_call(schema, "{City:Oslo}") || fits_call(schema, "{City:\"Oslo\"}") ||
               fits_call(schema, "{days:2}"));
  EXPECT_FALSE(fits_call(schema, "{City:~x~,days:~2~}"));
  EXPECT_TRUE(fits_call("null", "{}"));
  EXPECT_FALSE(fits_call("null", "{a:1}"));
  EXPECT_TRUE(fits_call(R"({"type":"object"})", "{any_key:{x.y-z:[1.5,null,true,~s~]},b:[]}"));
  EXPECT_TRUE(fits_call(R"({"properties":{"a b":{"const":"c"},"":{"const":1}}})", "{~~:1,~a b~:~c~}"))
      << "unusual keys have marks";
  const std::string open = R"({"properties":{"ab":{"type":"null"}},"additionalProperties":{"type":"integer"}})";
  EXPECT_TRUE(fits_call(open, "{ab:null,a:1,abc:2}"));
  EXPECT_FALSE(fits_call(open, "{ab:1}"));
  EXPECT_TRUE(fits_call(R"({"properties":{"v":{"const":{"b":[],"a":{"x":null}}}}})", "{v:{a:{x:null},b:[]}}"));
  EXPECT_TRUE(fits_call(R"({"properties":{"s":{"type":"string","maxLength":2},"d":{"type":"string","format":"date"}}})",
                        "{d:~2026-11-25~,s:~ab~}"));
  EXPECT_FALSE(fits_call(R"({"properties":{"s":{"type":"string","maxLength":2}}})", "{s:~abc~}"));
}

TEST(Calls, ToolsThatCannotBeCalledAreErrors) {
  EXPECT_THAT(error_of(Kind::kCalls, "[]"), HasSubstr("tool calls need a tool"));
  for (const char* name : {"", "a b", "f{", "f("})
    EXPECT_THAT(error_of(Kind::kCalls, str_cat(R"([{"name":")", name, "\"}]")), HasSubstr("must not be empty or have"))
        << name;
  EXPECT_THAT(error_of(Kind::kCalls, R"([{"name":"f"},{"name":"g","parameters":{"properties":{"x":{"type":"y"}}}}])"),
              HasSubstr("tool 'g': schema.x: unknown type 'y'"));
  GrammarVocabulary plain = vocabulary().grammar();
  plain.string_mark.reset();
  GrammarCompiler without_markers(std::move(plain), {});
  const auto made = without_markers.compile_now({Kind::kCalls, R"([{"name":"f"}])"});
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("no tokens for tool calls"));
}

// ---- Threads, cache, time

struct Numbers {
  Counter asked, hits, aborted;
  Histogram seconds{{1.0}};
  GrammarMetrics handles() { return {&asked, &hits, &aborted, &seconds}; }
};

TEST(Compiler, KeepsGrammarsAndErrors) {
  Numbers numbers;
  GrammarCompiler it(vocabulary().grammar(), {.timeout = std::chrono::minutes(5)}, numbers.handles());
  const auto first = it.compile_now({Kind::kRegex, "a"}), again = it.compile_now({Kind::kRegex, "a"});
  EXPECT_EQ(*first, *again);
  EXPECT_FALSE(it.compile_now({Kind::kEbnf, "a"}));
  EXPECT_FALSE(it.compile_now({Kind::kEbnf, "a"}));
  EXPECT_EQ(numbers.asked.value(), 4);
  EXPECT_EQ(numbers.hits.value(), 2);
  EXPECT_EQ(numbers.aborted.value(), 2);
  EXPECT_EQ(numbers.seconds.count(), 2u);
  EXPECT_EQ(it.num_waiting(), 0);
}

TEST(Compiler, ForgetsTheLeastRecentlyUsed) {
  Numbers numbers;
  GrammarCompiler it(vocabulary().grammar(), {.max_cached = 2, .timeout = std::chrono::minutes(5)}, numbers.handles());
  for (const char* regex : {"a", "b", "a", "c", "a"}) EXPECT_TRUE(it.compile_now({Kind::kRegex, regex}));
  EXPECT_EQ(numbers.hits.value(), 2);
  EXPECT_TRUE(it.compile_now({Kind::kRegex, "b"}));
  EXPECT_EQ(numbers.hits.value(), 2) << "b had to go for c";
}

/// A schema that takes a while: every property its own automaton.
std::string slow_schema(int salt, int properties = 200) {
  std::string text = R"({"type":"object","properties":{)";
  for (int i = 0; i < properties; ++i)
    text += str_cat(i ? "," : "", "\"p", salt, "_", i, R"(":{"type":"string","maxLength":)", 50 + i % 50, "}");
  return text + "}}";
}

TEST(Compiler, EqualSourcesAreCompiledOnce) {
  Numbers numbers;
  GrammarCompiler it(vocabulary().grammar(), {.threads = 1, .timeout = std::chrono::minutes(5)}, numbers.handles());
  std::atomic<int> answered = 0;
  std::promise<void> all;
  for (int i = 0; i < 8; ++i)
    it.compile({Kind::kJsonSchema, slow_schema(1, 50)}, [&](Result<GrammarCompiler::GrammarPtr> made) {
      EXPECT_TRUE(made);
      if (++answered == 8) all.set_value();
    });
  all.get_future().wait();
  EXPECT_EQ(numbers.seconds.count(), 1u);
}

TEST(Compiler, AnswersInTimeAndGoesOn) {
  GrammarCompiler it(vocabulary().grammar(), {.threads = 1, .timeout = std::chrono::milliseconds(1)});
  const auto late = it.compile_now({Kind::kJsonSchema, slow_schema(2)});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(late.error().message, HasSubstr("was not compiled within 1 ms"));
  EXPECT_EQ(it.num_waiting(), 0);
  // The thread finishes, and from then on it is known.
  for (int i = 0; i < 6000; ++i) {
    if (it.compile_now({Kind::kJsonSchema, slow_schema(2)})) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  FAIL() << "never compiled";
}

TEST(Compiler, ABoundedQueue) {
  GrammarCompiler it(vocabulary().grammar(), {.threads = 1, .max_queued = 2, .timeout = std::chrono::minutes(5)});
  std::atomic<int> overloaded = 0, answered = 0;
  for (int i = 0; i < 8; ++i)
    it.compile({Kind::kJsonSchema, slow_schema(10 + i, 100)}, [&](Result<GrammarCompiler::GrammarPtr> made) {
      overloaded += !made && made.error().code == Errc::kOverloaded;
      ++answered;
    });
  EXPECT_GE(overloaded.load(), 5) << "one is being compiled, two wait";
  while (answered.load() < 8) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST(Compiler, StoppingAnswersWhoWaits) {
  std::atomic<int> unavailable = 0, answered = 0;
  {
    GrammarCompiler it(vocabulary().grammar(), {.threads = 1, .timeout = std::chrono::minutes(5)});
    for (int i = 0; i < 4; ++i)
      it.compile({Kind::kJsonSchema, slow_schema(30 + i, 100)}, [&](Result<GrammarCompiler::GrammarPtr> made) {
        unavailable += !made && made.error().code == Errc::kUnavailable;
        ++answered;
      });
  }
  EXPECT_EQ(answered.load(), 4);
  EXPECT_GE(unavailable.load(), 3);
}

TEST(Compiler, GrammarsAreSharedByThreads) {
  const auto made = compiler().compile_now({Kind::kAnyJson, ""});
  ASSERT_TRUE(made);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
      for (int i = 0; i < 50; ++i) {
        GrammarMatcher matcher(**made);
        for (const TokenId token : vocabulary().tokens(R"({"k": [1, 2, "x"]})")) {
          matcher.fill_mask(mask);
          EXPECT_TRUE(mask_has(mask, token));
          EXPECT_TRUE(matcher.accept(token));
        }
        EXPECT_TRUE(matcher.complete());
      }
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace carat
