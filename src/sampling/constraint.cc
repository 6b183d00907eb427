#include "sampling/constraint.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "sampling/grammar/grammar.h"
#include "sampling/token_mask.h"

namespace carat {

TokenConstraint::TokenConstraint(std::shared_ptr<const ConstraintPlan> plan, std::span<const TokenId> end_tokens,
                                 int min_new_tokens, int vocab_size, std::span<const TokenId> generated)
    : plan_(std::move(plan)), min_new_tokens_(min_new_tokens), vocab_size_(vocab_size) {
  CARAT_CHECK(!plan_->call_required || plan_->call, "required calls have a grammar");
  CARAT_CHECK(!plan_->call || (plan_->markers.call_open && plan_->markers.call_close), "calls have their markers");
  for (const TokenId token : end_tokens)
    if (token >= 0 && token < vocab_size) end_tokens_.push_back(token);
  using Start = ConstraintPlan::Start;
  const ConstraintMarkers& markers = plan_->markers;
  if (plan_->start == Start::kAnswer || !markers.thought_open || !markers.thought_close) {
    begin_answer();
  } else if (plan_->start == Start::kThought) {
    phase_ = Phase::kThought;
    thought_length_ = 1 + static_cast<int>(plan_->thought_label.size());
    spend_budget();
  } else if (plan_->answer) {
    matcher_ = std::make_unique<GrammarMatcher>(*plan_->answer);
  }
  for (const TokenId token : generated) accept(token);
}

TokenConstraint::~TokenConstraint() = default;
TokenConstraint::TokenConstraint(TokenConstraint&&) noexcept = default;
TokenConstraint& TokenConstraint::operator=(TokenConstraint&&) noexcept = default;

bool TokenConstraint::is_end(TokenId token) const { return std::ranges::count(end_tokens_, token) > 0; }

bool TokenConstraint::may_call() const { return plan_->call && !(plan_->single_call && num_calls_ > 0); }

/// Nothing that was promised is missing: the sequence may end here.
bool TokenConstraint::complete() const {
  switch (phase_) {
    case Phase::kStart:
    case Phase::kThought:
      return !plan_->binds_answer();
    case Phase::kBegin:
      return !plan_->call_required && (!matcher_ || matcher_->complete());
    case Phase::kAnswer:
      return matcher_->complete();
    case Phase::kCall:
      return false;
    case Phase::kText:
    case Phase::kCalled:
    case Phase::kFailed:
      return true;
  }
  return true;
}

// ---- What was sampled

void TokenConstraint::accept(TokenId token) {
  ++num_generated_;
  if (!forced_.empty() && forced_.back() == token)
    forced_.pop_back();
  else
    forced_.clear();
  if (is_end(token) && complete()) return;  // the last one
  const ConstraintMarkers& markers = plan_->markers;
  switch (phase_) {
    case Phase::kStart:
      if (token == markers.thought_open) {
        open_thought();
      } else {
        begin_answer();
        accept_begin(token);
      }
      break;
    case Phase::kThought:
      accept_thought(token);
      break;
    case Phase::kBegin:
      accept_begin(token);
      break;
    case Phase::kText:
      if (token == markers.thought_open)
        open_thought();
      else if (token == markers.call_open && may_call())
        open_call();
      break;
    case Phase::kAnswer:
      if (!follow(token)) phase_ = Phase::kFailed;
      break;
    case Phase::kCall:
      if (!follow(token)) {
        phase_ = Phase::kFailed;
      } else if (matcher_->complete()) {
        matcher_.reset();
        phase_ = plan_->binds_answer() ? Phase::kCalled : Phase::kText;
      }
      break;
    case Phase::kCalled:
      if (token == markers.call_open && may_call())
        open_call();
      else
        phase_ = Phase::kFailed;
      break;
    case Phase::kFailed:
      break;
  }
  last_ = token;
}

/// A token of a grammar. One that has become too slow ends here, whole or not: it would cut the answer anywhere.
bool TokenConstraint::follow(TokenId token) { return matcher_->accept(token) && !matcher_->exhausted(); }

void TokenConstraint::begin_answer() {
  phase_ = Phase::kBegin;
  if (plan_->answer && !matcher_) matcher_ = std::make_unique<GrammarMatcher>(*plan_->answer);
}

void TokenConstraint::accept_begin(TokenId token) {
  if (token == plan_->markers.call_open && may_call()) return open_call();
  if (plan_->answer) {
    phase_ = follow(token) ? Phase::kAnswer : Phase::kFailed;
  } else if (plan_->call_required) {
    phase_ = Phase::kFailed;
  } else {
    phase_ = Phase::kText;
    if (token == plan_->markers.thought_open) open_thought();
  }
}

void TokenConstraint::open_call() {
  phase_ = Phase::kCall;
  ++num_calls_;
  matcher_ = std::make_unique<GrammarMatcher>(*plan_->call);
}

void TokenConstraint::open_thought() {
  phase_ = Phase::kThought;
  ++thought_tokens_;
  thought_length_ = 1;
  label_whole_ = true;
  spend_budget();
}

void TokenConstraint::accept_thought(TokenId token) {
  ++thought_tokens_;
  const auto place = static_cast<size_t>(thought_length_++ - 1);
  if (place < plan_->thought_label.size() && plan_->thought_label[place] != token) label_whole_ = false;
  if (token == plan_->markers.thought_close) return begin_answer();
  if (token == plan_->markers.call_open && may_call()) return open_call();
  last_ = token;
  if (forced_.empty()) spend_budget();
}

/// Closes the thought as a model would: after the whole label, and on a line of its own.
void TokenConstraint::spend_budget() {
  if (!plan_->thinking_budget || thought_tokens_ < *plan_->thinking_budget || plan_->thought_end.empty()) return;
  const std::vector<TokenId>& label = plan_->thought_label;
  const std::vector<TokenId>& end = plan_->thought_end;
  const auto spoken = static_cast<size_t>(thought_length_ - 1);
  if (label_whole_ && spoken <= label.size()) {  // no text yet
    forced_.assign({end.back()});
    forced_.insert(forced_.end(), label.rbegin(), label.rend() - static_cast<ptrdiff_t>(spoken));
  } else {
    forced_.assign(end.rbegin(), end.rend());
    if (end.size() > 1 && last_ == end.front()) forced_.pop_back();
  }
}

std::optional<Error> TokenConstraint::failure() const {
  if (phase_ != Phase::kFailed) return std::nullopt;
  if (matcher_ && matcher_->exhausted())
    return Error{Errc::kInvalidArgument,
                 str_cat("the grammar is too ambiguous: ", GrammarMatcher::kMaxSlowTokens, " tokens took more than ",
                         GrammarMatcher::kMaxTokenSeconds * 1e3, " ms each to match")};
  return Error{Errc::kInvalidArgument, "the grammar leads to a dead end: no token can follow what was generated"};
}

// ---- What may come

bool TokenConstraint::fill_mask(std::span<uint32_t> mask) {
  CARAT_DCHECK(mask.size() == static_cast<size_t>(num_mask_words(vocab_size_)), "a mask has a bit per token");
  if (!forced_.empty()) {
    std::ranges::fill(mask, 0u);
    mask_add(mask, forced_.back());
    return true;
  }
  if (!fill_phase(mask)) return false;
  finish_mask(mask);
  return true;
}

/// Everything but end tokens, which finish_mask() decides.
bool TokenConstraint::fill_phase(std::span<uint32_t> mask) {
  const bool binds = plan_->binds_answer();
  switch (phase_) {
    case Phase::kStart:
      if (!binds) return false;
      fill_begin(mask);
      mask_add(mask, *plan_->markers.thought_open);
      return true;
    case Phase::kThought:
      if (binds) mask_add_all(mask, vocab_size_);
      return binds;
    case Phase::kBegin:
      if (binds) {
        fill_begin(mask);
        return true;
      }
      [[fallthrough]];
    case Phase::kText:
      if (!plan_->call || may_call()) return false;
      mask_add_all(mask, vocab_size_);
      mask_remove(mask, *plan_->markers.call_open);
      return true;
    case Phase::kAnswer:
    case Phase::kCall:
      matcher_->fill_mask(mask);
      return true;
    case Phase::kCalled:
      std::ranges::fill(mask, 0u);
      if (may_call()) mask_add(mask, *plan_->markers.call_open);
      return true;
    case Phase::kFailed:
      std::ranges::fill(mask, 0u);
      return !end_tokens_.empty();
  }
  return false;
}

void TokenConstraint::fill_begin(std::span<uint32_t> mask) {
  if (plan_->answer)
    matcher_->fill_mask(mask);
  else
    std::ranges::fill(mask, 0u);
  if (may_call()) mask_add(mask, *plan_->markers.call_open);
}

/// End tokens are possible where the form is complete: at once, or from min_new_tokens on if something else is
/// possible. A grammar without a way on (its author's mistake) ends the sequence.
void TokenConstraint::finish_mask(std::span<uint32_t> mask) const {
  for (const TokenId token : end_tokens_) mask_remove(mask, token);
  const bool may_end = complete() && num_generated_ >= min_new_tokens_;
  if (may_end || mask_empty(mask))
    for (const TokenId token : end_tokens_) mask_add(mask, token);
  if (mask_empty(mask)) mask_add_all(mask, vocab_size_);
}

}  // namespace carat
