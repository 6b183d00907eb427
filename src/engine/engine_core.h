#pragma once
// The engine without its thread: everything that happens in one turn of the loop, callable step by step. Engine wraps
// it; the simulation test drives it directly. One thread. The rules are in docs/engine_contract.md.

#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/sequence.h"
#include "engine/step_log.h"
#include "kv/prefix_cache.h"

namespace carat {

class EngineCore {
 public:
  /// `runner` outlives the core.
  EngineCore(EngineOptions options, Runner& runner);
  ~EngineCore();

  /// Whether the request can ever be served: kInvalidArgument if not. Reads constants only: any thread.
  Result<void> check(const Request& request) const;
  int max_sequence_tokens() const { return max_sequence_tokens_; }
  /// The largest image or frame, where its soft tokens see each other. Any thread.
  int max_block_tokens() const { return max_block_; }
  /// How many tokens each sample may generate: the request's limit, the context's and the pools' together. Any thread.
  int new_token_limit(const Request& request) const;

  /// Takes a request that check() has passed.
  void add(Request request);
  /// One turn: drops what was cancelled, launches a step if there is work, takes results as the pipeline's depth asks,
  /// tells readers. False if there was nothing to do, or after the runner has failed.
  bool step();
  /// Why no step can be made any more, if the runner has failed; end_all() is all that is left to do then.
  const std::optional<Error>& failure() const { return failure_; }
  /// Ends requests whose id begins with `prefix` (kAbort, without an error).
  void abort(std::string_view prefix);
  /// Ends everything with `error`; steps in flight are taken first, or forgotten if the runner has failed.
  void end_all(const Error& error);
  /// From the next step() on nothing is launched; what is in flight is taken, cancels are heard, arrivals wait.
  void pause(PauseMode mode);
  void resume();
  /// False, and nothing happens, if anything runs, or waits without being paused.
  bool flush_cache();
  bool idle() const { return requests_.empty() && in_flight_.empty(); }

  int num_open() const { return static_cast<int>(requests_.size()); }
  int num_waiting() const { return static_cast<int>(waiting_.size()); }
  EngineStats stats() const;
  /// Counts pages, slots and states anew and compares. Programmer error if they differ.
  void check_invariants() const;

 private:
  using State = Sequence::State;
  struct QueueOrder {
    bool by_priority;
    bool operator()(const Sequence* a, const Sequence* b) const;
  };
  /// What was launched for one slice, to be matched with its result.
  struct LaunchedSlice {
    Sequence* sequence = nullptr;
    bool prefill = false;
    int end = 0;                   ///< prefill: positions below this are computed afterwards
    bool ends_prompt = false;      ///< prefill: nothing is left to compute
    bool samples = false;          ///< a token or more for `sequence` ...
    std::vector<Sequence*> forks;  ///< ... and one for each of these, in the order of sample_slots
    bool prompt_logprobs = false;
  };
  struct LaunchedStep {
    int64_t id = 0;
    std::vector<LaunchedSlice> slices;
    std::vector<PageRef> held;  ///< sources of page copies
  };

  // Scheduling: fills next_ and launched_.
  void schedule();
  void retract_all();
  void schedule_decodes();
  void schedule_prefills();
  void admit(int budget);
  bool try_admit(Sequence& s);
  void preempt_for_priority();
  void add_decode(Sequence& s);
  int add_prefill(Sequence& s, int max_tokens);
  void fork_followers(Sequence& leader, Slice& slice, LaunchedSlice& note);
  void open_slot(Sequence& s);
  void start_running(Sequence& s, State state);
  void enqueue(Sequence& s);
  const std::vector<Sequence*>& queue_head();
  void blocked(const Sequence& s);
  void launch();

  // Pages.
  bool reserve(Sequence& s, int num_tokens);
  bool ensure_free(KvPool pool, int count);
  void grow(PageTable& table, PagePool& pool, KvPool kind, int num_tokens);
  void send_tables(Sequence& s);
  void preempt(Sequence& s);
  Sequence* youngest_running() const;

  // Results.
  void take();
  void deliver(StepResult result);
  void forget_steps();
  void settle(Sequence& s);
  void prefill_done(const LaunchedSlice& note);
  void take_result(Sequence& s, SlotResult& result, bool prefill);
  void append(Sequence& s, SlotResult& result);
  std::optional<Finish> finish_at(const Sequence& s, TokenId token) const;
  void advance(Sequence& s, int known, bool ends_prompt);
  void insert_prefix(Sequence& s, int length);
  void emit(Sequence& s, SampleEvent event);

  // Ends.
  void drop_cancelled();
  void cancel_samples(RequestState& r, const std::vector<int>& samples);
  void finish(Sequence& s, Finish how, SampleEvent event = {});
  void finish_request(RequestState& r, const Finish& how);
  void leave_slot(Sequence& s);
  void release(Sequence& s);
  void fail_head();
  void wake_readers();
  void erase_released();

  bool is_end_token(const RequestState& r, TokenId token) const;
  Result<void> check_media(const Request& request) const;
  std::span<const TokenId> cache_ids(const Sequence& s);
  /// What no slice may cut.
  std::span<const MediaSpan> blocks(const Sequence& s) const;
  int page_count(int num_tokens) const { return (num_tokens + info_.page_tokens - 1) / info_.page_tokens; }
  int kv_base(const Sequence& s) const;

  const EngineOptions options_;
  Runner& runner_;
  const RunnerInfo info_;
  int max_running_ = 0, max_prefill_ = 0, chunk_ = 0;
  int max_block_ = 0;    ///< prompt tokens that every step has room for, whatever decodes beside them
  int pool_tokens_ = 0;  ///< that one sequence can have pages for
  int max_sequence_tokens_ = 0;
  int ring_pages_ = 0;  ///< sliding pages with which a sequence can always go on

  PagePool full_pool_, sliding_pool_;
  PrefixCache cache_;
  RequestList requests_;
  std::set<Sequence*, QueueOrder> waiting_;
  std::vector<Sequence*> running_;  ///< most important first
  std::vector<int> free_slots_;
  std::deque<LaunchedStep> in_flight_;
  std::optional<Error> failure_;

  Step next_;
  LaunchedStep launched_;
  std::vector<int> closes_;  ///< slots to close with the next step
  bool drain_ = false;       ///< launch nothing until nothing is in flight: somebody must be preempted
  bool paused_ = false, retracting_ = false;
  bool priority_blocked_ = false;
  /// The queue's head did not fit when so many pages were to be had beside so many others: no need to try again yet.
  const Sequence* blocked_ = nullptr;
  int blocked_full_ = 0, blocked_sliding_ = 0, blocked_running_ = 0;

  std::vector<Sequence*> candidates_, prefills_;
  std::vector<TokenId> cache_ids_;  ///< see cache_ids()
  StepLog::Prefill prefill_log_;
  std::vector<RequestState*> news_;
  std::vector<RequestState*> released_;  ///< whose samples are all kDone
  std::mt19937_64 random_;
  uint64_t next_order_ = 0;
  int64_t next_step_id_ = 0, turn_ = 0;
  EngineStats stats_;
  StepLog log_;
};

}  // namespace carat
