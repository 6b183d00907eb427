#pragma once
// From what a request says about the form of its answer (response_format, regex, tools, thinking budget) to the plan
// that the sampler follows. Source: spec api.md sections 2 and 4.4, parsers.md section 5.

#include <functional>
#include <memory>

#include "api/generation.h"
#include "api/served_model.h"
#include "chat/chat_input.h"

namespace carat {

inline constexpr int kMaxThinkingBudget = 1 << 30;

/// Reads response_format, json_schema, regex, ebnf and structural_tag of a body or of sampling_params. Errors:
/// kInvalidArgument, also for more than one of them.
Result<void> read_answer_form(const Json& fields, AnswerForm& form);
/// Reads thinking_budget or max_thinking_tokens; null and absent leave what is there. Errors: kInvalidArgument.
Result<void> read_thinking_budget(const Json& fields, AnswerForm& form);
/// Adds what tools and tool choice ask for. `constrain_auto`: also under tool choice "auto". Errors: kInvalidArgument
/// for a required call beside a form of the answer.
Result<void> add_call_form(const ChatInput& input, bool constrain_auto, AnswerForm& form);

/// A plan with the tokenizer's markers, and nothing constrained.
ConstraintPlan plain_plan(const Tokenizer& tokenizer, const MarkerIds& markers);
/// What grammars know of a tokenizer; `vocab_size` is the model's.
GrammarVocabulary grammar_vocabulary(const Tokenizer& tokenizer, const MarkerIds& markers, int vocab_size);

/// Compiles the grammars that the prompts' forms name and puts the plans into their sampling parameters; then calls
/// `done` once, on any thread. `grammars` may be null (--grammar-backend none). Errors: kInvalidArgument, kOverloaded.
void make_plans(GrammarCompiler* grammars, const ServedModel& model, std::shared_ptr<PreparedGeneration> generation,
                std::function<void(Result<void>)> done);

}  // namespace carat
