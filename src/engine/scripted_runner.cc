#include "engine/scripted_runner.h"

#include <algorithm>
#include <thread>

#include "base/check.h"

namespace carat {

ScriptedRunner::ScriptedRunner(RunnerInfo info, Script script)
    : info_(info), script_(std::move(script)), slots_(info.max_slots) {}

/// Whether the device fails before the slot's next token.
bool ScriptedRunner::fails(const Slot& slot) const {
  return slot.answer.end == ScriptedEnd::kFault && slot.position >= static_cast<int>(slot.answer.tokens.size());
}

TokenId ScriptedRunner::next_token(Slot& slot) const {
  const ScriptedAnswer& a = slot.answer;
  const size_t i = static_cast<size_t>(slot.position++);
  if (i < a.tokens.size()) return a.tokens[i];
  if (a.end == ScriptedEnd::kStop || a.tokens.empty()) return a.end_token;
  return a.tokens[i % a.tokens.size()];
}

PositionLogprobs ScriptedRunner::logprobs(const LogprobParams& params) const {
  PositionLogprobs out;
  for (TokenId id = 0; id < std::min(params.num_top, info_.vocab_size); ++id) out.top.push_back({id, 0});
  for (const TokenId id : params.token_ids) out.ids.push_back({id, 0});
  return out;
}

SlotResult ScriptedRunner::yield(int slot_idx, int max_tokens) {
  Slot& slot = slots_[slot_idx];
  SlotResult out;
  out.slot = slot_idx;
  const int count = std::min({max_tokens, info_.max_tokens_per_decode, slot.limit - slot.position});
  for (int i = 0; i < count && !fails(slot); ++i) {
    out.tokens.push_back(next_token(slot));
    if (slot.logprobs.enabled) out.logprobs.push_back(logprobs(slot.logprobs));
  }
  return out;
}

void ScriptedRunner::launch(Step step) {
  CARAT_CHECK(static_cast<int>(in_flight_.size()) < info_.pipeline_depth, "no more steps than the pipeline's depth");
  for (const SlotOpen& open : step.opens) {
    Slot& slot = slots_[open.slot];
    slot.answer = script_(*open.prompt);
    slot.position = static_cast<int>(open.generated.size());
    slot.limit = open.sampler.params.max_new_tokens;
    slot.logprobs = open.sampler.logprobs;
  }
  StepResult result;
  result.id = step.id;
  double ms = 0;
  bool fault = false;
  for (const Slice& slice : step.slices) {
    const bool decode = slice.tokens.empty();
    if (decode) ms = std::max(ms, slots_[slice.slot].answer.ms_per_step);
    const size_t first = result.slots.size();
    for (const int slot : slice.sample_slots) {
      fault |= fails(slots_[slot]);
      result.slots.push_back(yield(slot, decode ? std::max(1, slots_[slot].answer.tokens_per_step) : 1));
    }
    if (slice.prompt_logprob_begin == slice.prompt_logprob_end) continue;
    if (slice.sample_slots.empty()) result.slots.emplace_back().slot = slice.slot;
    for (int p = slice.prompt_logprob_begin; p < slice.prompt_logprob_end; ++p)
      result.slots[first].prompt_logprobs.push_back(logprobs(slots_[slice.slot].logprobs));
  }
  Done done{std::move(result), {}};
  if (fault) done.result = Error{Errc::kUnavailable, "The device has failed, as the script says."};
  if (ms > 0) {
    busy_until_ = std::max(busy_until_, Clock::now()) +
                  std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(ms));
    done.at = busy_until_;
  } else {
    done.at = busy_until_;  // behind what is still under way, if anything
  }
  in_flight_.push_back(std::move(done));
}

Result<StepResult> ScriptedRunner::take() {
  CARAT_CHECK(!in_flight_.empty(), "a step is in flight");
  std::this_thread::sleep_until(in_flight_.front().at);
  Result<StepResult> result = std::move(in_flight_.front().result);
  in_flight_.pop_front();
  return result;
}

bool ScriptedRunner::ready() const { return !in_flight_.empty() && Clock::now() >= in_flight_.front().at; }

}  // namespace carat
