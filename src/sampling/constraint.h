#pragma once
// What a sequence may generate next, where the request asked for a form: answers after a grammar, calls that fit the
// declared tools, thoughts of limited length. Token ids in, sets of token ids out. See docs/adr/ on constrained
// decoding.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/token.h"

namespace carat {

class Grammar;
class GrammarMatcher;

/// The special tokens between the parts of an answer. Absent where the vocabulary has none.
struct ConstraintMarkers {
  std::optional<TokenId> thought_open, thought_close;
  std::optional<TokenId> call_open, call_close;
};

/// The form of one request's answers. Made once per request, shared by its samples, constant.
///
/// An answer is thought* (text | answer grammar | calls) end. End and stop tokens are possible only where the form is
/// complete; a form that is never complete without them (neither grammar nor required calls) leaves them alone.
struct ConstraintPlan {
  enum class Start {
    kAnswer,        ///< the answer begins with the first token
    kMaybeThought,  ///< the first token may open a thought; whatever else it is begins the answer
    kThought,       ///< the prompt ends inside an open thought
  };
  ConstraintMarkers markers;
  Start start = Start::kAnswer;
  /// Generated tokens that may belong to thoughts, opener and label included; then thoughts are closed.
  std::optional<int> thinking_budget;
  std::vector<TokenId> thought_label;     ///< what has to follow an opener, before a thought may be closed by force
  std::vector<TokenId> thought_end;       ///< what closes a thought by force; the last one is markers.thought_close
  std::shared_ptr<const Grammar> answer;  ///< null: text is free
  /// What follows markers.call_open, up to and with markers.call_close. Null: calls are free, like text.
  std::shared_ptr<const Grammar> call;
  bool call_required = false;  ///< the answer is calls; needs `call`
  bool single_call = false;    ///< one call at most

  /// Whether the answer has a form that must be completed: sequences end when it is, with ignore_eos too.
  bool binds_answer() const { return answer || call_required; }
};

/// One sequence's place in its plan. Movable. One thread at a time; no function throws. A decode step costs accept()
/// and fill_mask() together a few microseconds, up to some tens inside of JSON strings (carat_grammar_bench).
class TokenConstraint {
 public:
  /// `end_tokens`: what ends the sequence (SamplerSpec::end_token_ids), never before `min_new_tokens` while anything
  /// else is possible. `generated`: tokens sampled before, after a preemption.
  TokenConstraint(std::shared_ptr<const ConstraintPlan> plan, std::span<const TokenId> end_tokens, int min_new_tokens,
                  int vocab_size, std::span<const TokenId> generated = {});
  ~TokenConstraint();
  TokenConstraint(TokenConstraint&&) noexcept;
  TokenConstraint& operator=(TokenConstraint&&) noexcept;

  /// Takes note of the next token. Any token: one that the mask did not allow (nobody should sample it) ends the form:
  /// failure() says so, and only end tokens are possible from there.
  void accept(TokenId token);
  /// Whether the next token is restricted. If so `mask` [ceil(V / 32)] has the tokens that are possible, at least one,
  /// and min_new_tokens is accounted for; else `mask` holds anything. Call it once or more per position.
  bool fill_mask(std::span<uint32_t> mask);
  /// Why the form cannot be kept, once that is so: what was generated is not of the form. kInvalidArgument: its grammar
  /// leads to a dead end, or is too ambiguous to be followed.
  std::optional<Error> failure() const;

 private:
  enum class Phase {
    kStart,    ///< before the first token of kMaybeThought
    kThought,  ///< inside a thought
    kBegin,    ///< before the first token of the answer
    kText,     ///< free text
    kAnswer,   ///< inside the answer grammar
    kCall,     ///< inside a call
    kCalled,   ///< after a call, where nothing but calls may follow
    kFailed,   ///< a token came that was not possible
  };

  bool follow(TokenId token);
  void begin_answer();
  void accept_begin(TokenId token);
  void accept_thought(TokenId token);
  void open_thought();
  void open_call();
  void spend_budget();
  bool may_call() const;
  bool is_end(TokenId token) const;
  bool complete() const;
  void fill_begin(std::span<uint32_t> mask);
  bool fill_phase(std::span<uint32_t> mask);
  void finish_mask(std::span<uint32_t> mask) const;

  std::shared_ptr<const ConstraintPlan> plan_;
  std::vector<TokenId> end_tokens_;
  int min_new_tokens_, vocab_size_;
  Phase phase_ = Phase::kStart;
  int num_generated_ = 0;
  int num_calls_ = 0;
  int thought_tokens_ = 0;   ///< generated ones of all thoughts
  int thought_length_ = 0;   ///< of this thought, opener included; kThought's label counts as given
  bool label_whole_ = true;  ///< this thought began with the label, as far as it goes
  TokenId last_ = -1;
  std::vector<TokenId> forced_;              ///< what must come next, last one first
  std::unique_ptr<GrammarMatcher> matcher_;  ///< of the answer that is to come or under way, or of a call
};

}  // namespace carat
