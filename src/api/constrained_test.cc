// A model without any sense, under constraints: whatever it samples must be valid. Random schemas, random logits;
// answers are read as clients read them (JSON; the message parser for calls) and checked by a validator of our own.
//
//   carat_api_test --gtest_filter=Constrained.*      a few hundred answers
//   CARAT_ANSWERS=1000 carat_api_test ...            so many of each kind, with the real vocabulary where it is

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <random>
#include <regex>

#include "api/answer_form.h"
#include "base/str.h"
#include "sampling/sampler.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

int num_answers(int fallback) {
  const char* text = std::getenv("CARAT_ANSWERS");
  return text ? std::atoi(text) : fallback;
}

// ---- A validator: the keywords that the schemas below use

struct Validator {
  const Json& root;

  std::string check(const Json& schema, const Json& value, const std::string& where = "$") const {
    if (schema.is_bool()) return schema.as_bool() ? "" : where + ": forbidden";
    const auto fail = [&](std::string_view what) { return str_cat(where, ": ", what, ", got ", value.dump()); };
    if (const Json* reference = schema.find("$ref"))
      return check(*root.find("$defs")->find(reference->as_string().substr(8)), value, where);
    if (const Json* constant = schema.find("const"); constant && *constant != value) return fail("is the constant");
    if (const Json* list = schema.find("enum"); list && std::ranges::count(list->as_array(), value) == 0)
      return fail("is one of the enum");
    if (const Json* options = schema.find("anyOf"))
      if (std::ranges::none_of(options->as_array(), [&](const Json& o) { return check(o, value, where).empty(); }))
        return fail("fits an alternative");
    if (const Json* type = schema.find("type"); type && !has_type(*type, value))
      return fail(str_cat("is ", type->dump()));
    for (const auto& [key, bound] : schema.as_object()) {
      if (value.is_number() && key == "minimum" && value.as_double() < bound.as_double()) return fail("is too small");
      if (value.is_number() && key == "maximum" && value.as_double() > bound.as_double()) return fail("is too large");
      if (value.is_string()) {
        const auto characters = std::ranges::count_if(value.as_string(), [](char c) { return (c & 0xC0) != 0x80; });
        if (key == "minLength" && characters < bound.as_int()) return fail("is too short");
        if (key == "maxLength" && characters > bound.as_int()) return fail("is too long");
        if (key == "pattern" && !std::regex_search(value.as_string(), std::regex(bound.as_string())))
          return fail("fits the pattern");
      }
      if (value.is_array() && key == "minItems" && static_cast<int64_t>(value.size()) < bound.as_int())
        return fail("has too few items");
      if (value.is_array() && key == "maxItems" && static_cast<int64_t>(value.size()) > bound.as_int())
        return fail("has too many items");
      if (value.is_object() && key == "required")
        for (const Json& name : bound.as_array())
          if (!value.contains(name.as_string())) return fail(str_cat("has ", name.dump()));
    }
    if (value.is_array()) {
      const Json* items = schema.find("items");
      for (size_t i = 0; items && i < value.size(); ++i)
        if (auto bad = check(*items, value.as_array()[i], str_cat(where, "[", i, "]")); !bad.empty()) return bad;
    }
    if (value.is_object()) {
      const Json* properties = schema.find("properties");
      const Json* others = schema.find("additionalProperties");
      for (const auto& [key, member] : value.as_object()) {
        const Json* property = properties ? properties->find(key) : nullptr;
        if (!property) property = others;
        if (!property) continue;
        if (auto bad = check(*property, member, str_cat(where, ".", key)); !bad.empty()) return bad;
      }
    }
    return "";
  }

  static bool has_type(const Json& type, const Json& value) {
    if (type.is_array()) return std::ranges::any_of(type.as_array(), [&](const Json& t) { return has_type(t, value); });
    const std::string_view kind = value.kind_name();
    return type.as_string() == kind || (type.as_string() == "number" && kind == "integer");
  }
};

// ---- Random schemas

class SchemaMaker {
 public:
  explicit SchemaMaker(uint64_t seed) : random_(seed) {}

  /// An object with everything in it.
  Json make() {
    Json schema = object(3);
    schema.set(
        "$defs",
        Json::object(
            {{"node", Json::object({{"type", "object"},
                                    {"properties", Json::object({{"value", scalar()}, {"next", nullable_node()}})},
                                    {"required", Json::array({"value", "next"})}})},
             {"leaf", scalar()}}));
    return schema;
  }

 private:
  int between(int low, int high) { return low + static_cast<int>(random_() % static_cast<uint64_t>(high - low + 1)); }
  bool chance(int percent) { return between(0, 99) < percent; }

  static Json nullable_node() {
    return Json::object(
        {{"anyOf", Json::array({Json::object({{"type", "null"}}), Json::object({{"$ref", "#/$defs/node"}})})}});
  }

  Json scalar() {
    switch (between(0, 9)) {
      case 0:
        return Json::object({{"type", "string"}});
      case 1:
        return Json::object({{"type", "string"}, {"minLength", between(0, 3)}, {"maxLength", between(3, 12)}});
      case 2:
        return Json::object({{"type", "string"}, {"pattern", "^[A-Z]{2,3}-[0-9]+$"}});
      case 3:
        return Json::object({{"enum", Json::array({"red", "grün", "синий", "\"quoted\" {x}", 7, nullptr})}});
      case 4:
        return Json::object({{"type", "integer"}, {"minimum", between(-50, 5)}, {"maximum", between(6, 2000)}});
      case 5:
        return Json::object({{"type", "number"}});
      case 6:
        return Json::object({{"type", "number"}, {"minimum", -1.5}, {"maximum", between(0, 100)}});
      case 7:
        return Json::object({{"type", "boolean"}});
      case 8:
        return Json::object({{"const", Json::object({{"k", Json::array({1, "two", false})}})}});
      default:
        return Json::object({{"type", Json::array({"integer", "string", "null"})}});
    }
  }

  Json any(int depth) {
    if (depth == 0) return scalar();
    switch (between(0, 7)) {
      case 0:
      case 1:
        return object(depth - 1);
      case 2: {
        Json out = Json::object({{"type", "array"}, {"items", any(depth - 1)}});
        if (chance(60)) out.set("minItems", between(0, 2));
        if (chance(60)) out.set("maxItems", between(2, 4));
        return out;
      }
      case 3:
        return Json::object({{"anyOf", Json::array({any(depth - 1), scalar(), object(depth - 1)})}});
      case 4:
        return Json::object({{"$ref", chance(50) ? "#/$defs/node" : "#/$defs/leaf"}});
      case 5:
        return Json::object({{"type", "object"}, {"additionalProperties", scalar()}});
      default:
        return scalar();
    }
  }

  Json object(int depth) {
    static const char* const kNames[] = {"name", "title",          "Größe", "z", "a",
                                         "days", "key with space", "x:y",   "B", "id"};
    Json properties = Json::object(), required = Json::array();
    for (const char* name : kNames) {
      if (!chance(40)) continue;
      properties.set(name, any(depth));
      if (chance(60)) required.push_back(name);
    }
    return Json::object({{"type", "object"},
                         {"properties", std::move(properties)},
                         {"required", std::move(required)},
                         {"additionalProperties", false}});
  }

  std::mt19937_64 random_;
};

// ---- The model

/// Noise, the same numbers in another order for each position, in which what closes things has a chance.
class NoiseModel {
 public:
  explicit NoiseModel(const Tokenizer& tokenizer) : noise_(static_cast<size_t>(tokenizer.vocab_size())) {
    std::mt19937_64 random(1);
    std::normal_distribution<float> normal(0, 1.5f);
    for (float& x : noise_) x = normal(random);
    for (const char* piece : {"\"", "}", "]", ",", ":", ".", "<|\"|>", "<tool_call|>", "<channel|>", "<turn|>", "<eos>",
                              "null", "<|channel>"})
      if (const auto id = tokenizer.find(piece)) closers_.push_back(*id);
  }
  void logits(uint64_t turn, std::vector<float>& out) const {
    const size_t shift = turn * 7919 % noise_.size();
    std::copy(noise_.begin() + static_cast<ptrdiff_t>(shift), noise_.end(), out.begin());
    std::copy(noise_.begin(), noise_.begin() + static_cast<ptrdiff_t>(shift),
              out.end() - static_cast<ptrdiff_t>(shift));
    for (const TokenId id : closers_) out[static_cast<size_t>(id)] += 14;
  }

 private:
  std::vector<float> noise_;
  std::vector<TokenId> closers_;
};

class Constrained : public ::testing::Test {
 protected:
  /// The real vocabulary if asked for and present, else bytes and a few words.
  void load(bool whole) {
    std::optional<std::string> file;
    if (whole) file = testing::unpack_whole_tokenizer(CARAT_SOURCE_DIR);
    if (whole && !file) GTEST_SKIP() << "no whole tokenizer beside the checkout";
    if (!file) {
      Json small = testing::make_tokenizer_json(
          {"t", "h", "o", "u", "g", "\n", "\"", "{", "}", "]", ":", ",", "true", "null", "▁", "ab"}, {});
      int64_t id = static_cast<int64_t>(small.find("model")->find("vocab")->size());
      for (const char* marker :
           {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|\"|>", "<turn|>", "<|tool_response>"})
        small.find("added_tokens")->push_back(Json::object({{"id", id++}, {"content", marker}, {"special", true}}));
      file = small.dump();
    }
    tokenizer_ = std::move(*Tokenizer::parse(*file, ""));
    model_.tokenizer = tokenizer_.get();
    model_.markers = MarkerIds(*tokenizer_);
    model_.plain_plan = plain_plan(*tokenizer_, model_.markers);
    GrammarOptions options;
    options.max_whitespace = 1;
    options.timeout = std::chrono::minutes(5);
    grammars_ = std::make_unique<GrammarCompiler>(
        grammar_vocabulary(*tokenizer_, model_.markers, tokenizer_->vocab_size()), options);
    noise_ = std::make_unique<NoiseModel>(*tokenizer_);
  }

  /// What one sequence writes; nothing if it does not end within `most` tokens.
  std::optional<std::vector<TokenId>> run(const SamplingParams& params, uint64_t seed, int most) {
    SamplerSpec spec;
    spec.params = params;
    spec.seed = seed;
    for (const char* piece : {"<eos>", "<turn|>", "<|tool_response>"})
      spec.end_token_ids.push_back(*tokenizer_->find(piece));
    SequenceSampler sampler(spec, tokenizer_->vocab_size());
    std::vector<float> logits(static_cast<size_t>(tokenizer_->vocab_size()));
    SamplerScratch scratch;
    std::vector<TokenId> out;
    while (static_cast<int>(out.size()) < most) {
      noise_->logits(seed * 1000 + out.size(), logits);
      const TokenId token = sampler.sample(logits, static_cast<int64_t>(out.size()), scratch);
      if (std::ranges::count(spec.end_token_ids, token) > 0) return out;
      out.push_back(token);
    }
    return std::nullopt;
  }

  SamplingParams params_for(AnswerForm form, bool thinking) {
    auto generation = std::make_shared<PreparedGeneration>();
    PreparedPrompt& prompt = generation->prompts.emplace_back();
    prompt.ids = {5};
    prompt.thinking = thinking;
    prompt.params.form = std::move(form);
    std::promise<Result<void>> done;
    make_plans(grammars_.get(), model_, generation, [&](Result<void> made) { done.set_value(std::move(made)); });
    const auto made = done.get_future().get();
    EXPECT_TRUE(made) << made.error().message;
    return generation->prompts.front().params.sampling;
  }

  /// The parts of a reply, as the server reads it.
  std::vector<MessagePart> parts_of(const std::vector<TokenId>& tokens, bool thinking, const ToolSchemas& tools) {
    PreparedPrompt prompt;
    prompt.params.text.markers = model_.markers.all();
    prompt.message.emplace();
    prompt.message->parse_calls = !tools.empty();
    prompt.message->start = thinking ? MessageParserOptions::Start::kUndecided : MessageParserOptions::Start::kContent;
    prompt.message->tools = std::make_shared<const ToolSchemas>(tools);
    SampleDecoder decoder(*tokenizer_, model_.markers, prompt);
    std::string text;
    std::vector<MessagePart> parts;
    decoder.push(tokens, Finish{}, text, parts);
    return parts;
  }

  void check_answers(int count);
  void check_calls(int count);

  std::unique_ptr<Tokenizer> tokenizer_;
  ServedModel model_;
  std::unique_ptr<GrammarCompiler> grammars_;
  std::unique_ptr<NoiseModel> noise_;
};

void Constrained::check_answers(int count) {
  int whole = 0, thoughts = 0;
  for (int i = 0; i < count; ++i) {
    const Json schema = SchemaMaker(static_cast<uint64_t>(i / 4)).make();
    const bool thinking = i % 2 == 1;
    AnswerForm form;
    form.answer = GrammarSource{GrammarSource::Kind::kJsonSchema, schema.dump()};
    if (thinking) form.thinking_budget = i % 9;
    const auto tokens = run(params_for(std::move(form), thinking), static_cast<uint64_t>(i), 3000);
    if (!tokens) continue;
    ++whole;
    std::string content;
    for (const MessagePart& part : parts_of(*tokens, thinking, {})) {
      if (part.kind == MessagePart::Kind::kContent) content += part.text;
      thoughts += part.kind == MessagePart::Kind::kReasoning;
    }
    const auto value = parse_json(content);
    ASSERT_TRUE(value) << "answer " << i << ": " << value.error().message << "\n" << content << "\n" << schema.dump();
    ASSERT_EQ(Validator{schema}.check(schema, *value), "") << "answer " << i << "\n" << schema.dump();
  }
  EXPECT_GT(whole, count * 3 / 4) << "the others were too long";
  std::printf("%d of %d answers ended, all are valid; %d thoughts\n", whole, count, thoughts);
}

void Constrained::check_calls(int count) {
  int whole = 0, calls = 0;
  for (int i = 0; i < count; ++i) {
    const Json schema = SchemaMaker(static_cast<uint64_t>(1000 + i / 4)).make();
    const Json other = Json::object({{"type", "object"}});
    const bool thinking = i % 2 == 1;
    AnswerForm form;
    form.calls = GrammarSource{GrammarSource::Kind::kCalls,
                               Json::array({Json::object({{"name", "first_tool"}, {"parameters", schema}}),
                                            Json::object({{"name", "other-tool"}, {"parameters", other}})})
                                   .dump()};
    form.calls_required = true;
    form.single_call = i % 3 == 0;
    if (thinking) form.thinking_budget = i % 9;
    const auto tokens = run(params_for(std::move(form), thinking), static_cast<uint64_t>(i), 3000);
    if (!tokens) continue;
    ++whole;
    const Json* called = nullptr;
    int num_calls = 0;
    for (const MessagePart& part : parts_of(*tokens, thinking, {{"first_tool", schema}, {"other-tool", other}})) {
      ASSERT_NE(part.kind, MessagePart::Kind::kContent) << part.text;
      if (part.kind == MessagePart::Kind::kCallName) {
        ASSERT_TRUE(part.text == "first_tool" || part.text == "other-tool") << part.text;
        called = part.text == "first_tool" ? &schema : &other;
        ++num_calls;
      } else if (part.kind == MessagePart::Kind::kCallArguments) {
        const auto value = parse_json(part.text);
        ASSERT_TRUE(value) << part.text;
        ASSERT_EQ(Validator{*called}.check(*called, *value), "") << "call " << i << "\n"
                                                                 << tokenizer_->decode(*tokens, false) << "\n"
                                                                 << schema.dump();
        called = nullptr;
      }
    }
    ASSERT_EQ(called, nullptr) << "a call has its arguments";
    ASSERT_GE(num_calls, 1);
    if (i % 3 == 0) {
      ASSERT_EQ(num_calls, 1);
    }
    calls += num_calls;
  }
  EXPECT_GT(whole, count * 3 / 4) << "the others were too long";
  std::printf("%d of %d replies ended, all their %d calls are valid\n", whole, count, calls);
}

TEST_F(Constrained, AnswersFitTheirSchemas) {
  load(false);
  check_answers(num_answers(200));
}

TEST_F(Constrained, CallsFitTheirTools) {
  load(false);
  check_calls(num_answers(200));
}

TEST_F(Constrained, AnswersFitTheirSchemasInTheRealVocabulary) {
  load(true);
  if (!IsSkipped()) check_answers(num_answers(12));
}

TEST_F(Constrained, CallsFitTheirToolsInTheRealVocabulary) {
  load(true);
  if (!IsSkipped()) check_calls(num_answers(12));
}

}  // namespace
}  // namespace carat
