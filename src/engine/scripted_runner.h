#pragma once
// A runner without a model: answers are given, not computed. For testing clients, routers and this server's own doors
// without weights (`--load-format scripted`).

#include <chrono>
#include <deque>
#include <functional>
#include <span>
#include <vector>

#include "engine/runner.h"

namespace carat {

/// What comes after a scripted answer.
enum class ScriptedEnd {
  kStop,    ///< `end_token`
  kLength,  ///< the answer again, until the request's limit; an empty one as `end_token` again and again, which ends a
            ///< request that does not ignore end tokens
  kFault,   ///< no more: the device fails (Runner::take()), as a GPU might
};

/// What a prompt is answered with.
struct ScriptedAnswer {
  std::vector<TokenId> tokens;
  int tokens_per_step = 1;  ///< per decode step, at most RunnerInfo::max_tokens_per_decode; the first token comes
                            ///< alone, with the prompt's step
  double ms_per_step = 0;   ///< a decode step with this answer in it takes at least so long
  ScriptedEnd end = ScriptedEnd::kStop;
  TokenId end_token = 0;
};

/// Steps take place on a timeline of their own: a step begins when it is launched or when the one before ends,
/// whichever is later, and takes the largest ms_per_step of its decode slices; prompts take no time. With 0 nothing
/// waits. Samples of one request get the same answer; a preempted sequence goes on where it was. Sampling parameters
/// have no influence but for the limit; log-probabilities are 0, top entries the ids 0, 1, 2 ... with 0, all defined.
class ScriptedRunner final : public Runner {
 public:
  /// The answer to a prompt. Engine thread; called once per sequence opened.
  using Script = std::function<ScriptedAnswer(std::span<const TokenId> prompt)>;

  ScriptedRunner(RunnerInfo info, Script script);

  const RunnerInfo& info() const override { return info_; }
  void launch(Step step) override;
  Result<StepResult> take() override;
  bool ready() const override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Slot {
    ScriptedAnswer answer;
    int position = 0;  ///< tokens yielded
    int limit = 0;
    LogprobParams logprobs;
  };
  struct Done {
    Result<StepResult> result;
    Clock::time_point at;
  };

  bool fails(const Slot& slot) const;
  TokenId next_token(Slot& slot) const;
  PositionLogprobs logprobs(const LogprobParams& params) const;
  SlotResult yield(int slot, int max_tokens);

  RunnerInfo info_;
  Script script_;
  std::vector<Slot> slots_;
  std::deque<Done> in_flight_;
  Clock::time_point busy_until_{};
};

}  // namespace carat
