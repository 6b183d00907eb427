#include "api/answer_form.h"
#include "api/json_testing.h"

#include <gmock/gmock.h>

#include <future>

#include "tokenizer/testing.h"

namespace carat {
namespace {

using Kind = GrammarSource::Kind;
using ::testing::HasSubstr;

std::string error_of(std::string_view fields) {
  AnswerForm form;
  const auto ok = read_answer_form(json(fields), form);
  return ok ? "" : ok.error().message;
}

std::optional<GrammarSource> answer_of(std::string_view fields) {
  AnswerForm form;
  EXPECT_TRUE(read_answer_form(json(fields), form)) << fields;
  return form.answer;
}

TEST(AnswerForm, IsReadFromEachField) {
  EXPECT_EQ(answer_of("{}"), std::nullopt);
  EXPECT_EQ(answer_of(R"({"response_format": null, "regex": "", "ebnf": null, "json_schema": ""})"), std::nullopt);
  EXPECT_EQ(answer_of(R"({"response_format": {"type": "text"}})"), std::nullopt);
  EXPECT_EQ(answer_of(R"({"response_format": {"type": "json_object"}})"), (GrammarSource{Kind::kAnyJson, ""}));
  const GrammarSource schema{Kind::kJsonSchema, R"({"type":"integer"})"};
  for (const char* format :
       {R"({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}, "strict": true}})",
        R"({"type": "json_schema", "json_schema": {"schema": {"type": "integer"}, "strict": null}})",
        R"({"type": "json_schema", "schema": {"type": "integer"}})"})
    EXPECT_EQ(answer_of(std::string(R"({"response_format": )") + format + "}"), schema) << format;
  EXPECT_EQ(answer_of(R"({"json_schema": "{\"type\":\"integer\"}"})"), schema);
  EXPECT_EQ(answer_of(R"({"json_schema": {"type": "integer"}})"), schema);
  EXPECT_EQ(answer_of(R"({"regex": "a+"})"), (GrammarSource{Kind::kRegex, "a+"}));
  EXPECT_EQ(answer_of(R"({"ebnf": "root ::= \"a\""})"), (GrammarSource{Kind::kEbnf, "root ::= \"a\""}));
  EXPECT_EQ(answer_of(R"({"structural_tag": "{\"format\":1}"})"),
            (GrammarSource{Kind::kStructuralTag, "{\"format\":1}"}));
  EXPECT_EQ(answer_of(R"({"response_format": {"type": "structural_tag", "structures": [], "triggers": []}})")->kind,
            Kind::kStructuralTag);
}

TEST(AnswerForm, ErrorsSayWhatIsWrong) {
  const char* const kOne = "Only one of json_schema, regex, ebnf, or structural_tag can be set.";
  EXPECT_EQ(error_of(R"({"regex": "a", "ebnf": "b"})"), kOne);
  EXPECT_EQ(error_of(R"({"response_format": {"type": "json_object"}, "structural_tag": {"format": {}}})"), kOne);
  EXPECT_EQ(error_of(R"({"response_format": {"type": "json_schema"}})"),
            "schema_ is required for json_schema response format request.");
  EXPECT_EQ(error_of(R"({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}})"),
            "schema_ is required for json_schema response format request.");
  EXPECT_THAT(error_of(R"({"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "strict": 1}}})"),
              HasSubstr("strict: Input should be a valid boolean"));
  EXPECT_THAT(error_of(R"({"response_format": {"type": "yaml"}})"), HasSubstr("response_format.type"));
  EXPECT_THAT(error_of(R"({"response_format": "text"})"), HasSubstr("should be an object"));
  EXPECT_THAT(error_of(R"({"response_format": {}})"), HasSubstr("response_format.type: Field required"));
  EXPECT_THAT(error_of(R"({"regex": 5})"), HasSubstr("regex: Input should be a valid string"));
}

TEST(AnswerForm, ThinkingBudgets) {
  const auto budget = [](std::string_view fields) {
    AnswerForm form;
    form.thinking_budget = 7;
    const auto ok = read_thinking_budget(json(fields), form);
    return ok ? *form.thinking_budget : -1;
  };
  EXPECT_EQ(budget("{}"), 7);
  EXPECT_EQ(budget(R"({"thinking_budget": null})"), 7);
  EXPECT_EQ(budget(R"({"thinking_budget": 0})"), 0);
  EXPECT_EQ(budget(R"({"max_thinking_tokens": 100})"), 100);
  EXPECT_EQ(budget(R"({"thinking_budget": 1073741824})"), 1 << 30);
  for (const char* bad : {"-1", "1073741825", "1.5", "\"5\"", "true"})
    EXPECT_EQ(budget(std::string(R"({"thinking_budget": )") + bad + "}"), -1) << bad;
}

ChatInput input_with(ChatToolChoice::Mode mode, std::string name = "") {
  ChatInput input;
  input.tools = {{.name = "f", .description = {}, .parameters = json(R"({"type": "object"})"), .strict = {}},
                 {.name = "g", .description = {}, .parameters = nullptr, .strict = {}}};
  input.tool_choice = {mode, std::move(name)};
  return input;
}

TEST(AnswerForm, CallsComeFromTools) {
  using Mode = ChatToolChoice::Mode;
  const auto form_of = [](const ChatInput& input, bool constrain_auto = true) {
    AnswerForm form;
    EXPECT_TRUE(add_call_form(input, constrain_auto, form));
    return form;
  };
  const std::string all = R"([{"name":"f","parameters":{"type":"object"}},{"name":"g","parameters":null}])";
  AnswerForm form = form_of(input_with(Mode::kAuto));
  EXPECT_EQ(form.calls, (GrammarSource{Kind::kCalls, all}));
  EXPECT_FALSE(form.calls_required || form.single_call);
  EXPECT_FALSE(form_of(input_with(Mode::kAuto), false).calls);
  EXPECT_FALSE(form_of(input_with(Mode::kNone)).calls);
  EXPECT_FALSE(form_of(ChatInput{}).any());
  form = form_of(input_with(Mode::kRequired), false);
  EXPECT_TRUE(form.calls_required);
  EXPECT_EQ(form.calls->text, all);
  ChatInput named = input_with(Mode::kNamed, "g");
  named.options.parallel_tool_calls = false;
  form = form_of(named);
  EXPECT_TRUE(form.calls_required && form.single_call);
  EXPECT_EQ(form.calls->text, R"([{"name":"g","parameters":null}])");
}

TEST(AnswerForm, RequiredCallsAndAnotherFormExcludeEachOther) {
  AnswerForm form;
  form.answer = GrammarSource{Kind::kRegex, "a"};
  EXPECT_TRUE(add_call_form(input_with(ChatToolChoice::Mode::kAuto), true, form));
  const auto refused = add_call_form(input_with(ChatToolChoice::Mode::kRequired), true, form);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message,
            "tool_choice 'required' or a named tool cannot be combined with response_format, regex, or ebnf: the "
            "tool-call constraint and the output constraint cannot both be honored.");
}

/// A model of Gemma's markers and single bytes.
class Plans : public ::testing::Test {
 protected:
  Plans() {
    Json file = testing::make_tokenizer_json({"t", "h", "o", "u", "g", "\n"}, {});
    int64_t id = static_cast<int64_t>(file.find("model")->find("vocab")->size());
    for (const char* marker : {"<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|\"|>"})
      file.find("added_tokens")->push_back(Json::object({{"id", id++}, {"content", marker}, {"special", true}}));
    auto parsed = Tokenizer::parse(file.dump(), "");
    EXPECT_TRUE(parsed) << parsed.error().message;
    tokenizer_ = std::move(*parsed);
    model_.tokenizer = tokenizer_.get();
    model_.markers = MarkerIds(*tokenizer_);
    model_.plain_plan = plain_plan(*tokenizer_, model_.markers);
    grammars_ = std::make_unique<GrammarCompiler>(
        grammar_vocabulary(*tokenizer_, model_.markers, tokenizer_->vocab_size()), GrammarOptions{});
  }

  /// One prompt's sampling parameters after make_plans, or the error.
  Result<SamplingParams> plan(AnswerForm form, bool thinking = false, std::vector<TokenId> ids = {5},
                              bool ignore_eos = false, bool backend = true) {
    auto generation = std::make_shared<PreparedGeneration>();
    PreparedPrompt& prompt = generation->prompts.emplace_back();
    prompt.ids = std::move(ids);
    prompt.thinking = thinking;
    prompt.params.form = std::move(form);
    prompt.params.sampling.ignore_eos = ignore_eos;
    prompt.params.sampling.stop_token_ids = {7};
    std::promise<Result<void>> done;
    make_plans(backend ? grammars_.get() : nullptr, model_, generation,
               [&](Result<void> made) { done.set_value(std::move(made)); });
    CARAT_TRY_VOID(done.get_future().get());
    return generation->prompts.front().params.sampling;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  ServedModel model_;
  std::unique_ptr<GrammarCompiler> grammars_;
};

AnswerForm regex(std::string text) {
  AnswerForm form;
  form.answer = GrammarSource{Kind::kRegex, std::move(text)};
  return form;
}

TEST_F(Plans, PlainPlansKnowTheMarkers) {
  const ConstraintPlan& plan = model_.plain_plan;
  EXPECT_TRUE(plan.markers.thought_open && plan.markers.call_close);
  EXPECT_EQ(tokenizer_->decode(plan.thought_label, false), "thought\n");
  EXPECT_EQ(tokenizer_->decode(plan.thought_end, false), "\n<channel|>");
}

TEST_F(Plans, RequestsWithoutAFormHaveNone) {
  const auto sampling = plan({});
  ASSERT_TRUE(sampling);
  EXPECT_EQ(sampling->constraint, nullptr);
}

TEST_F(Plans, StartsFollowThePrompt) {
  using Start = ConstraintPlan::Start;
  EXPECT_EQ(plan(regex("a"))->constraint->start, Start::kAnswer);
  EXPECT_EQ(plan(regex("a"), true)->constraint->start, Start::kMaybeThought);
  EXPECT_EQ(plan(regex("a"), true, {5, *tokenizer_->find("<|channel>")})->constraint->start, Start::kThought);
  EXPECT_EQ(
      plan(regex("a"), false, {*tokenizer_->find("<|channel>"), *tokenizer_->find("<channel|>")})->constraint->start,
      Start::kAnswer);
}

TEST_F(Plans, AFormOutweighsIgnoreEos) {
  const auto bound = plan(regex("a"), false, {5}, true);
  EXPECT_FALSE(bound->ignore_eos);
  EXPECT_TRUE(bound->stop_token_ids.empty()) << "as ignore_eos asked";
  AnswerForm budget;
  budget.thinking_budget = 3;
  EXPECT_TRUE(plan(budget, true, {5}, true)->ignore_eos) << "a budget alone does not end an answer";
}

TEST_F(Plans, BrokenFormsAreErrorsOnlyWhereTheyAreNeeded) {
  const auto broken = plan(regex("(("));
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, Errc::kInvalidArgument);
  EXPECT_THAT(broken.error().message, HasSubstr("Invalid grammar request: "));
  AnswerForm form;
  form.calls = GrammarSource{Kind::kCalls, R"([{"name":"f","parameters":{"type":"nothing"}}])"};
  const auto lenient = plan(form);
  ASSERT_TRUE(lenient) << "under tool choice auto calls go free";
  EXPECT_EQ(lenient->constraint->call, nullptr);
  form.calls_required = true;
  const auto strict = plan(form);
  ASSERT_FALSE(strict);
  EXPECT_THAT(strict.error().message, HasSubstr("tool 'f'"));
}

TEST_F(Plans, WithoutABackendFormsAreRefused) {
  const auto refused = plan(regex("a"), false, {5}, false, false);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--grammar-backend none"));
  AnswerForm form;
  form.calls = GrammarSource{Kind::kCalls, R"([{"name":"f"}])"};
  EXPECT_TRUE(plan(form, false, {5}, false, false)) << "under tool choice auto calls go free";
  form.calls_required = true;
  EXPECT_FALSE(plan(form, false, {5}, false, false));
  AnswerForm budget;
  budget.thinking_budget = 3;
  EXPECT_TRUE(plan(budget, true, {5}, false, false)) << "budgets need no grammar";
}

}  // namespace
}  // namespace carat
