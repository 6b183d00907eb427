#include "api/answer_form.h"

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "base/str.h"

namespace carat {
namespace {

using Kind = GrammarSource::Kind;

Error bad(std::string message) { return {Errc::kInvalidArgument, std::move(message)}; }

/// A text field; schemas and tags may also come as JSON. null and "" count as absent.
Result<std::optional<std::string>> text_of(const Json& fields, std::string_view key, bool json) {
  const Json* value = fields.find(key);
  if (!value || value->is_null()) return std::optional<std::string>();
  if (value->is_string()) return value->as_string().empty() ? std::nullopt : std::optional(value->as_string());
  if (json && value->is_object()) return std::optional(value->dump());
  return bad(str_cat(key, ": Input should be a valid string, got ", value->kind_name()));
}

Result<std::optional<GrammarSource>> schema_format(const Json& format) {
  const Json* named = format.find("json_schema");
  const Json* schema = named ? named->find("schema") : nullptr;
  if (!schema) schema = format.find("schema");
  if (!schema || schema->is_null()) return bad("schema_ is required for json_schema response format request.");
  if (const Json* strict = named ? named->find("strict") : nullptr; strict && !strict->is_bool() && !strict->is_null())
    return bad(
        str_cat("response_format.json_schema.strict: Input should be a valid boolean, got ", strict->kind_name()));
  return std::optional(GrammarSource{Kind::kJsonSchema, schema->dump()});
}

Result<std::optional<GrammarSource>> response_format(const Json& fields) {
  const Json* format = fields.find("response_format");
  if (!format || format->is_null()) return std::optional<GrammarSource>();
  if (!format->is_object())
    return bad(str_cat("response_format: Input should be an object, got ", format->kind_name()));
  const Json* type = format->find("type");
  if (!type || !type->is_string()) return bad("response_format.type: Field required");
  const std::string& name = type->as_string();
  if (name == "text") return std::optional<GrammarSource>();
  if (name == "json_object") return std::optional(GrammarSource{Kind::kAnyJson, ""});
  if (name == "json_schema") return schema_format(*format);
  if (name == "structural_tag") return std::optional(GrammarSource{Kind::kStructuralTag, format->dump()});
  return bad(
      str_cat("response_format.type: Input should be 'text', 'json_object', 'json_schema' or 'structural_tag', got '",
              name, "'"));
}

/// The forms of one request on their way to plans.
struct Compilation {
  Compilation(std::shared_ptr<PreparedGeneration> g, const ServedModel& m, std::function<void(Result<void>)> d)
      : generation(std::move(g)), model(m), done(std::move(d)) {}

  std::shared_ptr<PreparedGeneration> generation;
  const ServedModel& model;
  std::function<void(Result<void>)> done;
  std::vector<GrammarSource> sources;
  std::mutex mutex;
  std::vector<std::optional<Result<GrammarCompiler::GrammarPtr>>> made;  ///< beside sources; guarded by mutex
  size_t missing = 0;                                                    ///< the same

  size_t index_of(const GrammarSource& source) const {
    return static_cast<size_t>(std::ranges::find(sources, source) - sources.begin());
  }
  void add(const std::optional<GrammarSource>& source) {
    if (source && index_of(*source) == sources.size()) sources.push_back(*source);
  }
  const Result<GrammarCompiler::GrammarPtr>& grammar(const GrammarSource& source) const {
    return *made[index_of(source)];
  }
  Result<void> finish();
};

ConstraintPlan::Start start_of(const PreparedPrompt& prompt, const ServedModel& model) {
  using Start = ConstraintPlan::Start;
  if (model.markers.ends_in_thought(prompt.ids)) return Start::kThought;
  return prompt.thinking ? Start::kMaybeThought : Start::kAnswer;
}

/// Puts a plan into each prompt's parameters.
Result<void> Compilation::finish() {
  for (PreparedPrompt& prompt : generation->prompts) {
    const AnswerForm& form = prompt.params.form;
    if (!form.any()) continue;
    auto plan = std::make_shared<ConstraintPlan>(model.plain_plan);
    plan->start = start_of(prompt, model);
    plan->thinking_budget = form.thinking_budget;
    plan->single_call = form.single_call;
    plan->call_required = form.calls_required;
    if (form.answer) {
      const auto& answer = grammar(*form.answer);
      if (!answer) return Error{answer.error().code, str_cat("Invalid grammar request: ", answer.error().message)};
      plan->answer = *answer;
    }
    if (form.calls) {
      const auto& calls = grammar(*form.calls);
      if (calls)
        plan->call = *calls;
      else if (form.calls_required)
        return Error{calls.error().code, str_cat("Invalid grammar request: ", calls.error().message)};
      else
        log_debug("tool calls go unconstrained: ", calls.error().message);
    }
    SamplingParams& sampling = prompt.params.sampling;
    if (plan->binds_answer() && sampling.ignore_eos) {  // it ends where its form does, and by nothing else
      sampling.ignore_eos = false;
      sampling.stop_token_ids.clear();
    }
    sampling.constraint = std::move(plan);
  }
  return {};
}

}  // namespace

Result<void> read_answer_form(const Json& fields, AnswerForm& form) {
  CARAT_TRY(form.answer, response_format(fields));
  struct Field {
    std::string_view name;
    Kind kind;
    bool json;
  };
  static constexpr Field kFields[] = {{"json_schema", Kind::kJsonSchema, true},
                                      {"regex", Kind::kRegex, false},
                                      {"ebnf", Kind::kEbnf, false},
                                      {"structural_tag", Kind::kStructuralTag, true}};
  for (const Field& field : kFields) {
    CARAT_TRY(auto text, text_of(fields, field.name, field.json));
    if (!text) continue;
    if (form.answer) return bad("Only one of json_schema, regex, ebnf, or structural_tag can be set.");
    form.answer = GrammarSource{field.kind, std::move(*text)};
  }
  return {};
}

Result<void> read_thinking_budget(const Json& fields, AnswerForm& form) {
  for (const std::string_view key : {"thinking_budget", "max_thinking_tokens"}) {
    const Json* value = fields.find(key);
    if (!value || value->is_null()) continue;
    if (!value->is_int() || value->as_int() < 0 || value->as_int() > kMaxThinkingBudget)
      return bad(str_cat(key, " must be an integer between 0 and ", kMaxThinkingBudget, ", got ", value->dump(), "."));
    form.thinking_budget = static_cast<int>(value->as_int());
  }
  return {};
}

Result<void> add_call_form(const ChatInput& input, bool constrain_auto, AnswerForm& form) {
  using Mode = ChatToolChoice::Mode;
  const Mode mode = input.tool_choice.mode;
  form.calls_required = mode == Mode::kRequired || mode == Mode::kNamed;
  if (form.calls_required && form.answer)
    return bad(
        "tool_choice 'required' or a named tool cannot be combined with response_format, regex, or ebnf: the tool-call "
        "constraint and the output constraint cannot both be honored.");
  if (input.tools.empty() || mode == Mode::kNone || (mode == Mode::kAuto && !constrain_auto)) return {};
  Json tools = Json::array();
  for (const ChatTool& tool : input.tools)
    if (mode != Mode::kNamed || tool.name == input.tool_choice.name)
      tools.push_back(Json::object({{"name", tool.name}, {"parameters", tool.parameters}}));
  form.calls = GrammarSource{Kind::kCalls, tools.dump()};
  form.single_call = !input.options.parallel_tool_calls;
  return {};
}

ConstraintPlan plain_plan(const Tokenizer& tokenizer, const MarkerIds& markers) {
  ConstraintPlan plan;
  plan.markers = {markers.id(Marker::kChannelOpen), markers.id(Marker::kChannelClose), markers.id(Marker::kCallOpen),
                  markers.id(Marker::kCallClose)};
  if (!plan.markers.thought_open || !plan.markers.thought_close) return plan;
  plan.thought_label = tokenizer.encode("thought\n");
  plan.thought_end = tokenizer.encode("\n");
  plan.thought_end.push_back(*plan.markers.thought_close);
  return plan;
}

GrammarVocabulary grammar_vocabulary(const Tokenizer& tokenizer, const MarkerIds& markers, int vocab_size) {
  GrammarVocabulary out;
  out.pieces.reserve(static_cast<size_t>(vocab_size));
  for (TokenId id = 0; id < vocab_size; ++id)
    out.pieces.emplace_back(tokenizer.is_special(id) ? std::string_view() : tokenizer.token_bytes(id));
  out.call_close = markers.id(Marker::kCallClose);
  out.string_mark = markers.id(Marker::kQuote);
  return out;
}

void make_plans(GrammarCompiler* grammars, const ServedModel& model, std::shared_ptr<PreparedGeneration> generation,
                std::function<void(Result<void>)> done) {
  auto work = std::make_shared<Compilation>(std::move(generation), model, std::move(done));
  for (PreparedPrompt& prompt : work->generation->prompts) {
    AnswerForm& form = prompt.params.form;
    if (!grammars && !form.calls_required) form.calls.reset();
    work->add(form.answer);
    work->add(form.calls);
  }
  if (work->sources.empty()) return work->done(work->finish());
  if (!grammars)
    return work->done(
        bad("Grammar-based generation (json_schema, regex, ebnf, structural_tag) is not supported when the server is "
            "launched with --grammar-backend none"));
  work->made.resize(work->sources.size());
  work->missing = work->sources.size();
  for (size_t i = 0; i < work->sources.size(); ++i)
    grammars->compile(work->sources[i], [work, i](Result<GrammarCompiler::GrammarPtr> grammar) {
      {
        const std::lock_guard lock(work->mutex);
        work->made[i] = std::move(grammar);
        if (--work->missing > 0) return;
      }
      work->done(work->finish());
    });
}

}  // namespace carat
