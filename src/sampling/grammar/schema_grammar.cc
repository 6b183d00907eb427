#include "sampling/grammar/schema_grammar.h"

#include <grammar_builder.h>
#include <grammar_functor.h>
#include <json_schema_converter.h>
#include <support/json_parse.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string_view>

#include "base/str.h"
#include "sampling/grammar/grammar_impl.h"
#include "sampling/grammar/string_formats.h"

namespace carat {
namespace {

using xgrammar::ObjectSpec;
using xgrammar::SchemaSpecPtr;

constexpr char kKeyRule[] = "call_key";
constexpr char kTextRule[] = "call_text";
bool key_begin(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_'; }
bool key_rest(char c) { return key_begin(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '$'; }

/// Keys that cannot be mistaken for anything else without marks around them.
bool bare_key(std::string_view key) {
  return !key.empty() && key_begin(key.front()) && std::ranges::all_of(key, key_rest);
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

/// The template's order of keys; XGrammar's objects have one fixed order.
bool key_before(const std::string& a, const std::string& b) {
  return std::ranges::lexicographical_compare(a, b, {}, lower, lower);
}

/// XGrammar's way from schemas to grammars, with numbers that a double holds: more digits or a larger exponent would be
/// read as infinity.
class SchemaConverter : public xgrammar::JSONSchemaConverter {
 public:
  template <class... Args>
  explicit SchemaConverter(CountedTexts& texts, Args&&... args)
      : JSONSchemaConverter(std::forward<Args>(args)...), texts_(texts) {}

 protected:
  int32_t GenerateNumber(const xgrammar::NumberSpec& spec, const std::string& rule_name) override {
    if (spec.minimum || spec.maximum || spec.exclusive_minimum || spec.exclusive_maximum)
      return JSONSchemaConverter::GenerateNumber(spec, rule_name);
    return RegexExpression(R"(-?(0|[1-9][0-9]{0,16})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?)", false, true);
  }

  /// A string of bounded length.
  int32_t counted(const xgrammar::StringSpec& spec) {
    TextBounds bounds{spec.min_length, std::nullopt};
    if (spec.max_length >= 0) bounds.most = spec.max_length;
    return builder_.AddTokenSet({texts_.stand_in(bounds)});
  }

  /// What matches `regex`, as one automaton; equal ones are compiled once. `escaped`: only characters that JSON's
  /// strings need not escape.
  int32_t automaton(const std::string& regex, bool escaped) {
    const auto [known, is_new] = automatons_.try_emplace({regex, escaped});
    if (is_new) known->second = builder_.AddRuleWithHint("expression", builder_.AddRegex(regex, escaped));
    return RuleRef(known->second);
  }

  /// The automaton of a format, if it is known.
  std::optional<int32_t> format(const xgrammar::StringSpec& spec) {
    const std::string regex = spec.format ? format_expression(*spec.format) : "";
    return regex.empty() ? std::nullopt : std::optional(automaton(regex, false));
  }

 private:
  CountedTexts& texts_;
  std::map<std::pair<std::string, bool>, int32_t> automatons_;  ///< rules by expression, and whether escaped
};

class JsonConverter final : public SchemaConverter {
 public:
  JsonConverter(CountedTexts& texts, const JsonStyle& style, RefResolver resolver)
      : SchemaConverter(texts, std::nullopt, std::nullopt, style.any_whitespace, style.max_whitespace,
                        std::move(resolver)) {}

 protected:
  void AddBasicRules() override {
    JSONSchemaConverter::AddBasicRules();
    // XGrammar allows \uD800 alone.
    const int32_t hex = builder_.AddCharacterClass({{'0', '9'}, {'a', 'f'}, {'A', 'F'}});
    const int32_t no_d = builder_.AddCharacterClass({{'0', '9'}, {'a', 'c'}, {'A', 'C'}, {'e', 'f'}, {'E', 'F'}});
    const int32_t d = builder_.AddCharacterClass({{'d', 'd'}, {'D', 'D'}});
    const int32_t low = builder_.AddCharacterClass({{'0', '7'}});
    builder_.UpdateRuleBody(kBasicEscape, Choice({short_escape(), Sequence({ByteString("u"), no_d, hex, hex, hex}),
                                                  Sequence({ByteString("u"), d, low, hex, hex})}));
  }

  int32_t GenerateString(const xgrammar::StringSpec& spec, const std::string& rule_name) override {
    if (const auto known = format(spec)) return quoted(*known);
    // XGrammar takes patterns with other than ASCII characters through text, which changes some of them.
    if (spec.pattern && xgrammar::GrammarFSMBuilder::Regex(*spec.pattern, true).IsOk())
      return quoted(automaton(*spec.pattern, true));
    if (spec.pattern || (spec.min_length == 0 && spec.max_length == -1)) {
      xgrammar::StringSpec plain = spec;
      plain.format.reset();
      return SchemaConverter::GenerateString(plain, rule_name);
    }
    return quoted(counted(spec));
  }

 private:
  int32_t quoted(int32_t text) { return Sequence({ByteString("\""), text, ByteString("\"")}); }

  int32_t short_escape() {
    return builder_.AddCharacterClass(
        {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}});
  }
};

/// Another spelling of strings, keys and literals.
class CallConverter final : public SchemaConverter {
 public:
  CallConverter(CountedTexts& texts, TokenId string_mark, RefResolver resolver)
      : SchemaConverter(texts, std::nullopt, std::pair<std::string, std::string>(",", ":"), false, std::nullopt,
                        std::move(resolver)),
        string_mark_(string_mark) {}

 protected:
  void AddBasicRules() override {
    JSONSchemaConverter::AddBasicRules({kKeyRule, kTextRule});
    // Strings have no escapes; whatever is spelled in them, the marks around them are tokens of their own.
    builder_.UpdateRuleBody(kTextRule, builder_.AddCharacterClassStar({{0, 0}}, true));
    builder_.UpdateRuleBody(kBasicString, marked(RuleRef(kTextRule)));
    builder_.UpdateRuleBody(kKeyRule, Sequence({characters(key_begin, {}), key_tail()}));
    end_with_colon(builder_.GetRuleId(kKeyRule));
    // XGrammar writes free arrays and objects with spaces.
    const SchemaSpecPtr any = xgrammar::SchemaSpec::Make(xgrammar::AnySpec{}, "{}", kBasicAny);
    xgrammar::ArraySpec array;
    array.additional_items = any;
    builder_.UpdateRuleBody(kBasicArray, GenerateArray(array, kBasicArray));
    ObjectSpec object;
    object.allow_additional_properties = true;
    object.additional_properties_schema = any;
    builder_.UpdateRuleBody(kBasicObject, GenerateObject(object, kBasicObject, true));
  }

  int32_t GenerateString(const xgrammar::StringSpec& spec, const std::string&) override {
    if (const auto known = format(spec)) return marked(*known);
    if (spec.pattern) return marked(RegexExpression(*spec.pattern, false, false));
    if (spec.min_length == 0 && spec.max_length == -1) return marked(RuleRef(kTextRule));
    return marked(counted(spec));
  }

  int32_t GenerateConst(const xgrammar::ConstSpec& spec, const std::string&) override {
    return literal(spec.json_value);
  }

  int32_t GenerateEnum(const xgrammar::EnumSpec& spec, const std::string&) override {
    std::vector<int32_t> values;
    for (const std::string& value : spec.json_values) values.push_back(literal(value));
    return Choice(values);
  }

  int32_t GenerateObject(const ObjectSpec& spec, const std::string& rule_name, bool need_braces) override {
    ObjectSpec sorted = spec;
    std::ranges::stable_sort(sorted.properties, key_before, &ObjectSpec::Property::name);
    return JSONSchemaConverter::GenerateObject(sorted, rule_name, need_braces);
  }

  int32_t FormatPropertyKey(const std::string& key, const SchemaSpecPtr&) override {
    return bare_key(key) ? ByteString(key) : marked(ByteString(key));
  }

  std::string GetKeyPattern() const override { return kKeyRule; }

  int32_t GetKeyPatternExcluding(const std::vector<ObjectSpec::Property>& properties,
                                 const std::string& rule_name) override {
    KeyTree tree;
    for (const ObjectSpec::Property& property : properties)
      if (bare_key(property.name)) tree.add(property.name);
    const int32_t rule = builder_.AddRuleWithHint(rule_name + "_other_key", other_keys(tree, true));
    end_with_colon(rule);
    return RuleRef(rule);
  }

 private:
  /// Keys by their characters.
  struct KeyTree {
    bool ends = false;
    std::map<char, KeyTree> next;
    void add(std::string_view key) {
      if (key.empty()) {
        ends = true;
      } else {
        next[key.front()].add(key.substr(1));
      }
    }
  };

  int32_t marked(int32_t text) {
    const int32_t mark = builder_.AddTokenSet({string_mark_});
    return Sequence({mark, text, mark});
  }

  /// One of the characters that `has` accepts, without those that `tree` goes on with.
  int32_t characters(bool (*has)(char), const KeyTree& tree) {
    std::vector<CharacterClassElement> elements;
    for (char c = ' '; c < 127; ++c)
      if (has(c) && !tree.next.contains(c)) elements.push_back({c, c});
    return builder_.AddCharacterClass(elements);
  }

  /// What follows a key, so that tokens that go beyond it are decided when the grammar is compiled.
  void end_with_colon(int32_t rule) { builder_.UpdateLookaheadAssertion(rule, Sequence({ByteString(":")})); }

  int32_t key_tail() { return Repeat(kKeyRule, characters(key_rest, {}), 0, -1); }

  /// Bare keys that are not in the tree.
  int32_t other_keys(const KeyTree& tree, bool first) {
    std::vector<int32_t> choices{Sequence({characters(first ? key_begin : key_rest, tree), key_tail()})};
    if (!first && !tree.ends) choices.push_back(Empty());
    for (const auto& [c, child] : tree.next)
      choices.push_back(Sequence({ByteString(std::string(1, c)), other_keys(child, false)}));
    return Choice(choices);
  }

  int32_t literal(const std::string& json) {
    picojson::value value;
    const std::string error = xgrammar::ParseJSON(value, json);
    if (!error.empty()) throw std::runtime_error(error);
    return literal(value);
  }

  int32_t literal(const picojson::value& value) {
    if (value.is<std::string>()) return marked(ByteString(value.get<std::string>()));
    std::vector<int32_t> parts;
    if (value.is<picojson::array>()) {
      for (const picojson::value& item : value.get<picojson::array>()) {
        parts.push_back(ByteString(parts.empty() ? "[" : ","));
        parts.push_back(literal(item));
      }
      parts.push_back(ByteString(parts.empty() ? "[]" : "]"));
      return Sequence(parts);
    }
    if (value.is<picojson::object>()) {
      const auto& object = value.get<picojson::object>();
      std::vector<std::string> keys = object.ordered_keys();
      std::ranges::stable_sort(keys, key_before);
      for (const std::string& key : keys) {
        parts.push_back(ByteString(parts.empty() ? "{" : ","));
        parts.push_back(FormatPropertyKey(key, nullptr));
        parts.push_back(ByteString(":"));
        parts.push_back(literal(object.at(key)));
      }
      parts.push_back(ByteString(parts.empty() ? "{}" : "}"));
      return Sequence(parts);
    }
    return ByteString(value.serialize());
  }

  const TokenId string_mark_;
};

/// `make` takes a resolver of references and gives a converter.
template <class Make>
xgrammar::Grammar convert(const Json& schema, const SchemaLimits& limits, const Make& make) {
  SchemaReader reader(schema, limits);
  const SchemaSpecPtr spec = value_or_throw(reader.read());
  auto converter =
      make([&](const std::string& uri, const std::string&) { return value_or_throw(reader.read_reference(uri)); });
  return converter.Convert(spec);
}

}  // namespace

TokenId CountedTexts::stand_in(const TextBounds& text) {
  auto known = std::ranges::find(bounds, text);
  if (known == bounds.end()) {
    if (bounds.size() == kMaxTexts)
      throw std::runtime_error(str_cat("strings may have ", kMaxTexts, " different bounds of their length"));
    known = bounds.insert(known, text);
  }
  return first + static_cast<TokenId>(known - bounds.begin());
}

xgrammar::Grammar make_json_grammar(const Json& schema, const SchemaLimits& limits, const JsonStyle& style,
                                    CountedTexts& texts) {
  return convert(schema, limits, [&](auto resolver) { return JsonConverter(texts, style, std::move(resolver)); });
}

xgrammar::Grammar make_call_grammar(const std::vector<CallableTool>& tools, const SchemaLimits& limits,
                                    TokenId string_mark, TokenId close, CountedTexts& texts) {
  xgrammar::GrammarBuilder builder;
  const int32_t root = builder.AddEmptyRule("root");
  const auto converter = [&](auto resolver) { return CallConverter(texts, string_mark, std::move(resolver)); };
  std::vector<int32_t> calls;
  for (const CallableTool& tool : tools) try {
      const int32_t arguments = xgrammar::SubGrammarAdder::Apply(&builder, convert(tool.schema, limits, converter));
      calls.push_back(builder.AddSequence({builder.AddByteString(tool.name), builder.AddRuleRef(arguments)}));
    } catch (const std::exception& e) {
      throw std::runtime_error(str_cat("tool '", tool.name, "': ", grammar_error_text(e)));
    }
  builder.UpdateRuleBody(root, builder.AddSequence({builder.AddByteString("call:"), builder.AddChoices(calls),
                                                    builder.AddTokenSet({close})}));
  return builder.Get(root);
}

}  // namespace carat
