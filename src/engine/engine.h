#pragma once
// The engine: owns sequences, pages, prefix cache and batch; one thread. Others submit requests and read their streams.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/runner.h"

namespace carat {

enum class SchedulePolicy { kFcfs, kLpm, kLof, kRandom };

struct EngineOptions {
  int max_running = 0;             ///< sequences at once; 0: the runner's slots
  int max_queued = 0;              ///< requests waiting; 0: 65,536. More: kOverloaded
  int chunked_prefill_size = 512;  ///< prompt tokens of one sequence in a step; <= 0: whole prompts
  int max_prefill_tokens = 16384;  ///< prompt tokens in a step, at most the runner's max_step_tokens
  bool prefix_cache = true;
  int checkpoint_tokens =
      4096;  ///< prompts can be resumed from the prefix cache at multiples of this, beside their ends
  SchedulePolicy policy = SchedulePolicy::kFcfs;
  bool priority_scheduling = false;        ///< higher priority first; else priorities are ignored
  bool priority_preemption = true;         ///< with priority_scheduling: may push running sequences out
  int priority_preemption_threshold = 10;  ///< ... whose priority is lower by more than this
  int prefill_max_requests = 0;            ///< sequences prefilled in a step; 0: no limit
  double schedule_conservativeness = 1.0;  ///< larger: keep more pages free for running sequences when admitting
  std::vector<TokenId> eos_token_ids;
  std::vector<TokenId> suppress_token_ids;  ///< never sampled, greedy neither
  uint64_t random_seed = 0;                 ///< source of seeds for requests without one
  int decode_log_interval = 40;             ///< a line of statistics every so many decode steps, and one per prefill
                                            ///< step; 0: none of either
};

/// A snapshot for /metrics, /server_info and log lines.
struct EngineStats {
  bool paused = false;
  int num_running = 0;  ///< sequences: a request with n samples counts n
  int num_queued = 0;   ///< requests that wait, and preempted sequences
  int num_open = 0;     ///< requests that submit() took and that have not ended; 0: all answers are complete
  int num_preempted = 0;
  int64_t full_tokens_used = 0, full_tokens_total = 0, sliding_tokens_used = 0, sliding_tokens_total = 0;
  int64_t cached_tokens_evictable = 0, sliding_tokens_evictable = 0;            ///< held by the prefix cache alone
  int64_t evicted_tokens_total = 0;                                             ///< that the prefix cache gave up
  int64_t retracted_input_tokens_total = 0, retracted_output_tokens_total = 0;  ///< of preempted sequences
  int64_t prompt_tokens_total = 0, generated_tokens_total = 0, cached_tokens_total = 0, requests_total = 0,
          aborted_total = 0;
  double generation_tokens_per_second = 0;
  double cache_hit_rate = 0;
  int64_t steps_total = 0;
};

/// How the engine pauses. Requests that arrive meanwhile wait.
enum class PauseMode {
  kAbort,    ///< requests are ended first (kAbort, without an error)
  kInPlace,  ///< sequences keep their K/V and go on where they were
  kRetract,  ///< sequences give up their K/V, so that the cache can be flushed, and compute it again later
};

class Engine {
 public:
  /// Starts the engine thread. `runner` lives as long as the engine.
  Engine(EngineOptions options, std::unique_ptr<Runner> runner);
  ~Engine();  ///< as stop()

  /// Queues a request. Any thread. Errors: kOverloaded (queue full), kUnavailable (stopping or failed),
  /// kInvalidArgument (longer than the context or than the KV pools can ever hold).
  Result<void> submit(Request request);
  /// Cancels requests whose id begins with `prefix` (all if empty). Any thread.
  void abort(std::string prefix);
  /// Empties the prefix cache if nothing runs or waits, or all wait for resume(); false if it could not. Any thread;
  /// waits for the engine thread.
  bool flush_cache();
  /// Computes nothing more until resume(); steps under way are finished. Any thread; soon, not at once.
  void pause(PauseMode mode);
  void resume();
  EngineStats stats() const;
  const RunnerInfo& runner_info() const;
  /// Largest number of tokens one sequence may have here: the context or the pool, whichever is smaller.
  int max_sequence_tokens() const;
  /// Steady-clock time of the last turn of the loop, for watchdog and health.
  int64_t heartbeat_ns() const;
  /// Why the engine ended by itself, if the device has failed: all requests were ended with this error (kAbort,
  /// kUnavailable), new ones are refused with it. What is left is to end the process. Any thread.
  std::optional<Error> failure() const;
  /// Ends all requests (kAbort, kUnavailable) and joins the thread. Idempotent.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
