#pragma once
// Rates of the engine and the two periodic log lines that people and tools look for (spec/cli.md section 3).

#include <chrono>
#include <cstdint>

#include "engine/engine.h"

namespace carat {

class StepLog {
 public:
  /// A line every `interval` decode steps and one per prefill step; 0: none.
  StepLog(int interval, bool hybrid);

  struct Prefill {
    int num_sequences = 0, num_tokens = 0, cached_tokens = 0;
    int64_t pending_tokens = 0;  ///< of admitted prompts, still to be launched after this step
  };
  /// A step with prompt tokens was launched. `stats` is as of now; its rates are updated.
  void prefill(const Prefill& step, EngineStats& stats);
  /// A step with decodes was launched.
  void decode(EngineStats& stats);
  /// Nothing is left to do: rates begin anew.
  void idle(EngineStats& stats);

 private:
  using Clock = std::chrono::steady_clock;
  int interval_;
  bool hybrid_;
  int decodes_ = 0;
  Clock::time_point last_prefill_{}, last_decode_{};
  int64_t generated_before_ = 0;
};

}  // namespace carat
