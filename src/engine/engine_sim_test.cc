// A simulation of the engine against a runner that keeps K/V memory page by page. One seed draws everything: sizes,
// arrivals, lengths, media, samples, cancellations, aborts, flushes, priorities, pipeline depth, tokens per decode.
// What is stored for a token depends on all that is visible to it through the pages, and the next token on that (and on
// the form of the answer, where one is drawn), so that any mix-up of pages, wrong prefix hit, missing window page, page
// returned too early, cut image or image taken for another changes an answer. Answers are compared with a direct
// computation; invariants are checked after every turn.
//
//   carat_engine_test --seed 17          replays one seed
//   carat_engine_test --seeds 10000      runs that many

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <random>

#include "base/str.h"
#include "engine/engine_core.h"
#include "engine/media_spans.h"
#include "sampling/constraint.h"
#include "sampling/grammar/grammar_compiler.h"
#include "sampling/sampler.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

int g_num_seeds = 300;
std::optional<uint64_t> g_only_seed;
volatile uint64_t g_current_seed = 0;

/// A failed check of the engine's own, or worse.
void print_seed_and_die(int signal) {
  std::fprintf(stderr, "replay with --seed %llu\n", static_cast<unsigned long long>(g_current_seed));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// ---- The "model": stored values of a position, and what follows it

/// Weighted sums of what a position sees; the weight is the position at which it is read.
struct Visible {
  uint64_t full = 0, sliding = 0;
};
uint64_t weigh(uint64_t value, int position) { return value * (2 * static_cast<uint64_t>(position) + 1); }
/// Positions [begin, end) are computed together: an image's, where the model has blocks, else a single one. Each gets
/// its first value from what stands there and what was before the block; the sliding pool stores that. The full pool
/// stores what comes of it and of all that is visible to the position, the block's later positions included.
uint64_t first_value(uint64_t input, int position, const Visible& before_block) {
  return mix(input * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(position) + mix(before_block.full) +
             mix(before_block.sliding + 1));
}
uint64_t sliding_value(uint64_t first) { return mix(first + 77); }
uint64_t full_value(uint64_t first, const Visible& visible) {
  return mix(first + mix(visible.full + 5) + mix(visible.sliding + 9));
}
/// What stands at a position: a token, or a place in an item.
uint64_t input_at(std::span<const TokenId> tokens, std::span<const MediaSpan> media, int position) {
  for (const MediaSpan& span : spans_within(media, position, position + 1))
    return mix(span.input->hash[0] + mix(static_cast<uint64_t>(position - span.begin))) | uint64_t{1} << 63;
  return static_cast<uint64_t>(tokens[static_cast<size_t>(position)]);
}
uint64_t context_of(const Visible& with_own) { return mix(mix(with_own.full) + with_own.sliding * 3); }
TokenId next_of(uint64_t context, uint64_t seed, int vocab) {
  return static_cast<TokenId>(mix(context ^ mix(seed)) % static_cast<uint64_t>(vocab));
}
/// The same among what a constraint allows.
TokenId next_of(uint64_t context, uint64_t seed, int vocab, std::optional<TokenConstraint>& constraint) {
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocab)));
  TokenId token = next_of(context, seed, vocab);
  if (!constraint) return token;
  if (constraint->fill_mask(mask)) {
    std::vector<TokenId> allowed;
    for (TokenId t = 0; t < vocab; ++t)
      if (mask_has(mask, t)) allowed.push_back(t);
    token = allowed[static_cast<size_t>(next_of(context, seed, static_cast<int>(allowed.size())))];
  }
  constraint->accept(token);
  return token;
}
std::optional<TokenConstraint> constraint_of(const SamplingParams& params, std::span<const TokenId> end_tokens,
                                             int vocab, std::span<const TokenId> generated = {}) {
  if (!params.constraint) return std::nullopt;
  return TokenConstraint(params.constraint, end_tokens, params.min_new_tokens, vocab, generated);
}

/// Forms of answers over a vocabulary of letters, 0 and 1 being end tokens and 2 to 7 markers.
std::shared_ptr<const ConstraintPlan> make_plan(int vocab, uint64_t choice) {
  static std::map<int, std::unique_ptr<GrammarCompiler>> compilers;
  auto& compiler = compilers[vocab];
  if (!compiler) {
    GrammarVocabulary vocabulary{std::vector<std::string>(static_cast<size_t>(vocab)), 5, 6};
    const std::string_view letters = "cal:fgx{}a,-0123456789";
    for (int t = 8; t < vocab; ++t)
      vocabulary.pieces[static_cast<size_t>(t)] = letters[static_cast<size_t>(t - 8) % letters.size()];
    compiler = std::make_unique<GrammarCompiler>(std::move(vocabulary), GrammarOptions{.threads = 1});
  }
  const auto grammar = [&](GrammarSource::Kind kind, std::string text) {
    return *compiler->compile_now({kind, std::move(text)});
  };
  auto plan = std::make_shared<ConstraintPlan>();
  plan->markers = {2, 3, 4, 5};
  plan->thought_label = {8};
  plan->thought_end = {9, 3};
  plan->start = static_cast<ConstraintPlan::Start>(choice % 3);
  if (choice / 3 % 3 == 0) plan->thinking_budget = static_cast<int>(choice / 9 % 12);
  const uint64_t form = choice / 128 % 4;
  if (form == 1 || form == 2)
    plan->call = grammar(GrammarSource::Kind::kCalls,
                         R"([{"name":"fg","parameters":{"properties":{"a":{"type":"integer"}}}},{"name":"x"}])");
  if (form == 2) plan->call_required = choice / 512 % 2 == 0;
  if (form == 3) plan->answer = grammar(GrammarSource::Kind::kRegex, "[acl]{2,9}(f|g)*x?");
  plan->single_call = choice / 1024 % 2 == 0;
  return plan;
}

float logprob_of(uint64_t context, TokenId token) { return -static_cast<float>(mix(context + token) % 4096); }

/// The same, computed directly from the tokens.
class Direct {
 public:
  explicit Direct(int window) : window_(window) {}
  /// Appends positions that are computed together; returns the contexts that predict the token after each.
  std::vector<uint64_t> push(std::span<const uint64_t> inputs) {
    const int begin = static_cast<int>(full_values_.size()), end = begin + static_cast<int>(inputs.size());
    std::vector<uint64_t> firsts, contexts;
    for (int p = begin; p < end; ++p)
      firsts.push_back(first_value(inputs[static_cast<size_t>(p - begin)], p, {full_, sliding(p, begin)}));
    for (const uint64_t first : firsts) sliding_values_.push_back(sliding_value(first));
    for (int p = begin; p < end; ++p) {
      full_values_.push_back(full_value(firsts[static_cast<size_t>(p - begin)], {full_, sliding(p, end)}));
      full_ += weigh(full_values_.back(), p);
      contexts.push_back(context_of({full_, sliding(p, end)}));
    }
    return contexts;
  }
  uint64_t push(TokenId token) {
    const uint64_t input = static_cast<uint64_t>(token);
    return push(std::span(&input, 1)).front();
  }

 private:
  /// What the query at p sees before `end`.
  uint64_t sliding(int p, int end) const {
    uint64_t sum = 0;
    if (window_ == 0) return 0;
    for (int i = std::max(0, p - window_ + 1); i < end; ++i) sum += weigh(sliding_values_[static_cast<size_t>(i)], i);
    return sum;
  }
  int window_;
  uint64_t full_ = 0;
  std::vector<uint64_t> full_values_, sliding_values_;
};

// ---- The runner

class PagedRunner final : public Runner {
 public:
  PagedRunner(RunnerInfo info, uint64_t seed) : info_(info), rng_(seed), slots_(info.max_slots) {
    memory_[0].resize(static_cast<size_t>(info.num_full_pages) * info.page_tokens);
    memory_[1].resize(static_cast<size_t>(info.num_sliding_pages) * info.page_tokens);
    for (auto& pool : memory_)
      for (uint64_t& cell : pool) cell = rng_();
  }
  const RunnerInfo& info() const override { return info_; }
  void launch(Step step) override {
    CARAT_CHECK(static_cast<int>(steps_.size()) < info_.pipeline_depth, "not more steps than the depth");
    CARAT_CHECK_EQ(step.id, next_id_++);
    CARAT_CHECK(!step.slices.empty(), "a step has work");
    steps_.push_back(std::move(step));
  }
  Result<StepResult> take() override {
    CARAT_CHECK(!steps_.empty(), "a step is in flight");
    CARAT_CHECK(!failed_, "a runner that has failed is let alone");
    const Step step = std::move(steps_.front());
    steps_.pop_front();
    failed_ = step.id == fails_at;
    if (failed_) return Error{Errc::kUnavailable, "the device has failed"};
    return execute(step);
  }
  bool ready() const override { return !steps_.empty(); }
  int64_t num_copies = 0;
  std::optional<int64_t> fails_at;  ///< the step whose results are lost

 private:
  struct Slot {
    bool open = false, has_tables = false;
    std::vector<TokenId> tokens;  ///< prompt and all that was sampled
    std::shared_ptr<const std::vector<MediaSpan>> media;
    int prompt_size = 0, length = 0, limit = 0;
    uint64_t seed = 0;
    LogprobParams logprobs;
    std::vector<TokenId> end_tokens;
    std::optional<TokenConstraint> constraint;
    std::vector<PageId> tables[2];
    int generated() const { return static_cast<int>(tokens.size()) - prompt_size; }
  };

  int pages_of(int pool) const { return pool == 0 ? info_.num_full_pages : info_.num_sliding_pages; }

  uint64_t& cell(const Slot& slot, int pool, int position) {
    const int logical = position / info_.page_tokens;
    CARAT_CHECK(logical < static_cast<int>(slot.tables[pool].size()), "a position in use has a page");
    const PageId page = slot.tables[pool][logical];
    CARAT_CHECK(page >= 0, "a visible position has a page");
    return memory_[pool][static_cast<size_t>(page) * info_.page_tokens + position % info_.page_tokens];
  }

  /// What the query at p sees: full cells before `full_end`, the window's sliding cells before `sliding_end`.
  Visible read(const Slot& slot, int p, int full_end, int sliding_end) {
    Visible v;
    for (int i = 0; i < full_end; ++i) v.full += weigh(cell(slot, 0, i), i);
    if (info_.window > 0)
      for (int i = std::max(0, p - info_.window + 1); i < sliding_end; ++i) v.sliding += weigh(cell(slot, 1, i), i);
    return v;
  }

  /// Computes `inputs`, the positions from the slot's length on, or the rest of them, of a block that begins at
  /// `block_begin`; returns the contexts that predict the token after each.
  std::vector<uint64_t> compute(Slot& slot, int block_begin, std::span<const uint64_t> inputs) {
    const int begin = slot.length, end = begin + static_cast<int>(inputs.size());
    slot.length = end;
    std::vector<uint64_t> firsts, contexts;
    for (int p = begin; p < end; ++p)
      firsts.push_back(first_value(inputs[static_cast<size_t>(p - begin)], p, read(slot, p, block_begin, block_begin)));
    if (info_.window > 0)
      for (int p = begin; p < end; ++p) cell(slot, 1, p) = sliding_value(firsts[static_cast<size_t>(p - begin)]);
    for (int p = begin; p < end; ++p) {
      cell(slot, 0, p) = full_value(firsts[static_cast<size_t>(p - begin)], read(slot, p, p, end));
      contexts.push_back(context_of(read(slot, p, p + 1, end)));
    }
    return contexts;
  }
  uint64_t compute(Slot& slot, TokenId token) {
    const uint64_t input = static_cast<uint64_t>(token);
    return compute(slot, slot.length, std::span(&input, 1)).front();
  }

  void sample(Slot& slot, uint64_t context, SlotResult& out) {
    const TokenId token = next_of(context, slot.seed, info_.vocab_size, slot.constraint);
    slot.tokens.push_back(token);
    out.tokens.push_back(token);
    if (slot.logprobs.enabled) out.logprobs.emplace_back().logprob = logprob_of(context, token);
  }

  StepResult execute(const Step& step) {
    for (const int slot : step.closes) {
      CARAT_CHECK(slots_[slot].open, "what is closed was open");
      slots_[slot] = {};
    }
    for (const SlotOpen& open : step.opens) {
      Slot& slot = slots_[open.slot];
      CARAT_CHECK(!slot.open, "what is opened was closed");
      slot.open = true;
      slot.tokens = *open.prompt;
      slot.media = open.media;
      slot.prompt_size = static_cast<int>(slot.tokens.size());
      slot.tokens.insert(slot.tokens.end(), open.generated.begin(), open.generated.end());
      slot.length = open.cached_length;
      slot.limit = open.sampler.params.max_new_tokens;
      slot.seed = open.sampler.seed;
      slot.logprobs = open.sampler.logprobs;
      slot.end_tokens = open.sampler.end_token_ids;
      slot.constraint = constraint_of(open.sampler.params, slot.end_tokens, info_.vocab_size, open.generated);
    }
    for (const PageCopy& copy : step.copies) {
      const int pool = static_cast<int>(copy.pool), P = info_.page_tokens;
      CARAT_CHECK(copy.from != copy.to, "a copy goes elsewhere");
      std::copy_n(memory_[pool].begin() + static_cast<int64_t>(copy.from) * P, P,
                  memory_[pool].begin() + static_cast<int64_t>(copy.to) * P);
      ++num_copies;
    }
    for (const PageUpdate& update : step.pages) {
      Slot& slot = slots_[update.slot];
      CARAT_CHECK(slot.open, "tables belong to open slots");
      const int pool = static_cast<int>(update.pool);
      CARAT_CHECK(update.page >= -1 && update.page < pages_of(pool), "pages exist");
      auto& table = slot.tables[pool];
      if (static_cast<int>(table.size()) <= update.logical) table.resize(update.logical + 1, -1);
      table[update.logical] = update.page;
    }
    StepResult result;
    result.id = step.id;
    int num_tokens = 0;
    std::vector<bool> seen(slots_.size(), false);
    for (const Slice& slice : step.slices) {
      CARAT_CHECK(!seen[slice.slot], "a slot has one slice in a step");
      seen[slice.slot] = true;
      num_tokens += slice.tokens.empty() ? info_.max_tokens_per_decode : static_cast<int>(slice.tokens.size());
      if (slice.tokens.empty())
        decode(slice, result);
      else
        prefill(slice, result);
    }
    CARAT_CHECK(num_tokens <= info_.max_step_tokens, "a step carries no more than the runner takes");
    return result;
  }

  void decode(const Slice& slice, StepResult& result) {
    Slot& slot = slots_[slice.slot];
    CARAT_CHECK(slot.open && slice.sample_slots.size() == 1 && slice.sample_slots[0] == slice.slot,
                "a decode is of a slot");
    CARAT_CHECK_EQ(slot.length, static_cast<int>(slot.tokens.size()) - 1);
    SlotResult out;
    out.slot = slice.slot;
    const int K = info_.max_tokens_per_decode;
    int count = std::min<int>(1 + static_cast<int>(rng_() % K), slot.limit - slot.generated());
    // After an end token a runner may go on or not; nobody may care.
    const auto& ends = slot.end_tokens;
    if (std::find(ends.begin(), ends.end(), slot.tokens.back()) != ends.end() && rng_() % 2) count = 0;
    const int drafted_end = std::min(slot.length + K, slot.prompt_size + slot.limit - 1);
    for (int i = 0; i < count; ++i) sample(slot, compute(slot, slot.tokens.back()), out);
    for (int p = slot.length; p < drafted_end; ++p) {  // drafts that were not accepted leave their K/V behind
      cell(slot, 0, p) = rng_();
      if (info_.window > 0) cell(slot, 1, p) = rng_();
    }
    result.slots.push_back(std::move(out));
  }

  void prefill(const Slice& slice, StepResult& result) {
    Slot& slot = slots_[slice.slot];
    CARAT_CHECK(slot.open, "a slice is of an open slot");
    std::vector<PositionLogprobs> prompt_logprobs;
    uint64_t context = 0;
    const int slice_end = slot.length + static_cast<int>(slice.tokens.size());
    CARAT_CHECK(slice_end <= static_cast<int>(slot.tokens.size()), "prefill computes known tokens");
    CARAT_CHECK(std::equal(slice.tokens.begin(), slice.tokens.end(), slot.tokens.begin() + slot.length),
                "a slice has the slot's tokens");
    const std::span<const MediaSpan> media =
        slot.media ? std::span<const MediaSpan>(*slot.media) : std::span<const MediaSpan>();
    while (slot.length < slice_end) {
      int begin = slot.length, end = slot.length + 1;  // of what is computed together
      if (info_.whole_media_blocks)
        for (const MediaSpan& span : spans_within(media, slot.length, slot.length + 1))
          if (is_block(span)) begin = span.begin, end = end_of(span);
      CARAT_CHECK(end <= slice_end, "no slice ends inside a block");
      std::vector<uint64_t> inputs;
      for (int p = slot.length; p < end; ++p) inputs.push_back(input_at(slot.tokens, media, p));
      int target = slot.length;
      for (const uint64_t next : compute(slot, begin, inputs)) {
        context = next;
        if (++target >= slice.prompt_logprob_begin && target < slice.prompt_logprob_end)
          prompt_logprobs.emplace_back().logprob = logprob_of(context, slot.tokens[target]);
      }
    }
    CARAT_CHECK_EQ(static_cast<int>(prompt_logprobs.size()), slice.prompt_logprob_end - slice.prompt_logprob_begin);
    const size_t first = result.slots.size();
    if (!slice.sample_slots.empty()) CARAT_CHECK_EQ(slot.length, static_cast<int>(slot.tokens.size()));
    const std::vector<TokenId> known = slot.tokens;
    for (const int other : slice.sample_slots) {
      Slot& sampled = slots_[other];
      if (other != slice.slot) {
        CARAT_CHECK(sampled.open && sampled.length == 0 && sampled.tokens == known, "a fork is of the same prompt");
        sampled.length = slot.length;
      }
      SlotResult out;
      out.slot = other;
      sample(sampled, context, out);
      result.slots.push_back(std::move(out));
    }
    if (prompt_logprobs.empty()) return;
    if (slice.sample_slots.empty()) result.slots.emplace_back().slot = slice.slot;
    result.slots[first].prompt_logprobs = std::move(prompt_logprobs);
  }

  RunnerInfo info_;
  std::mt19937_64 rng_;
  std::vector<Slot> slots_;
  std::vector<uint64_t> memory_[2];
  bool failed_ = false;
  std::deque<Step> steps_;
  int64_t next_id_ = 0;
};

// ---- The world

struct Expected {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs, prompt_logprobs;
  FinishReason reason = FinishReason::kLength;
  std::optional<TokenId> matched;
};

struct Got {
  std::vector<TokenId> tokens;
  std::vector<float> logprobs, prompt_logprobs;
  int num_finishes = 0;
  Finish finish;
};

struct Client {
  Request request;  // without its stream's events
  std::shared_ptr<RequestStream> stream;
  int arrival = 0;
  int limit = 0;
  bool submitted = false, refused = false;
  std::optional<int> cancel_at;
  std::map<int, int> cancel_samples_at;
  bool slow_reader = false, cut = false;
  std::map<int, Got> got;
  bool ended() const {
    if (refused) return true;
    int finished = 0;
    for (const auto& [i, g] : got) finished += g.num_finishes > 0;
    return submitted && finished == request.num_samples;
  }
};

struct Totals {
  int64_t steps = 0, requests = 0, tokens = 0, cached = 0, preempted = 0, copies = 0, cancelled = 0, flushed = 0,
          refused = 0, samples = 0, with_media = 0;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed) : rng_(mix(seed + 1)) {
    draw_sizes();
    runner_ = std::make_unique<PagedRunner>(info_, rng_());
    core_ = std::make_unique<EngineCore>(options_, *runner_);
    draw_clients();
  }

  /// The device fails at some step. Everyone hears of it once, and nothing is left behind.
  void run_into_failure(Totals& totals) {
    runner_->fails_at = between(0, 60);
    for (int turn = 0; !core_->failure() && !over(); ++turn) {
      arrive(turn);
      interfere(turn, totals);
      core_->step();
      core_->check_invariants();
      read(false);
    }
    totals.cancelled += core_->failure().has_value();
    core_->end_all(core_->failure().value_or(Error{Errc::kUnavailable, "stopped"}));
    EXPECT_FALSE(core_->failure() && core_->step()) << "no step after a failure";
    core_->check_invariants();
    read(true);
    EXPECT_TRUE(core_->idle());
    for (const Client& c : clients_) {
      if (!c.submitted || c.refused) continue;
      SCOPED_TRACE(c.request.id);
      EXPECT_EQ(static_cast<int>(c.got.size()), c.request.num_samples);
      for (const auto& [i, g] : c.got) {
        EXPECT_EQ(g.num_finishes, 1);
        const Expected e = expect(c.request, i, c.limit);
        ASSERT_LE(g.tokens.size(), e.tokens.size());
        EXPECT_TRUE(std::equal(g.tokens.begin(), g.tokens.end(), e.tokens.begin()));
      }
    }
  }

  void run(Totals& totals) {
    int turn = 0;
    const int max_turns = 200000;
    for (; turn < max_turns && !over(); ++turn) {
      arrive(turn);
      interfere(turn, totals);
      const bool moved = core_->step();
      core_->check_invariants();
      read(false);
      if (!moved && !core_->idle() && !paused_) FAIL() << "nothing moves";
    }
    ASSERT_LT(turn, max_turns) << "does not end";
    core_->resume();
    while (core_->step()) core_->check_invariants();
    core_->check_invariants();
    read(true);
    ASSERT_TRUE(core_->idle());
    for (const Client& c : clients_) compare(c);
    ASSERT_TRUE(core_->flush_cache());
    core_->check_invariants();
    const EngineStats stats = core_->stats();
    EXPECT_EQ(stats.full_tokens_used + stats.sliding_tokens_used + stats.cached_tokens_evictable, 0);
    totals.steps += stats.steps_total;
    totals.requests += stats.requests_total;
    totals.tokens += stats.generated_tokens_total;
    totals.cached += stats.cached_tokens_total;
    totals.preempted += stats.num_preempted;
    totals.cancelled += stats.aborted_total;
    totals.copies += runner_->num_copies;
    for (const Client& c : clients_) {
      totals.refused += c.refused;
      totals.with_media += !c.refused && !c.request.media.empty();
      totals.samples += c.request.num_samples;
    }
  }

 private:
  int between(int low, int high) { return low + static_cast<int>(rng_() % static_cast<uint64_t>(high - low + 1)); }
  bool chance(int percent) { return between(0, 99) < percent; }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[rng_() % values.size()];
  }

  void draw_sizes() {
    info_.vocab_size = one_of({2, 7, 30, 300, 3000});
    info_.page_tokens = one_of({1, 2, 4, 4, 8, 16});
    info_.window = one_of({0, 1, 2, 3, 5, 8, 8, 16, 33, 1000});
    info_.max_context = between(20, 160);
    info_.max_slots = between(1, 8);
    info_.pipeline_depth = between(1, 2);
    info_.max_tokens_per_decode = one_of({1, 1, 1, 2, 4});
    const int context_pages = info_.max_context / info_.page_tokens + 2;
    info_.num_full_pages = std::max(1, between(1, 100) * context_pages * 4 / 100);
    info_.num_sliding_pages = info_.window == 0 ? 0 : std::max(1, between(1, 100) * context_pages * 3 / 100);
    info_.max_step_tokens =
        between(info_.max_tokens_per_decode, 60) + (chance(80) ? info_.max_slots * info_.max_tokens_per_decode : 0);
    if (chance(60)) info_.max_media_tokens = one_of({3, 20, 1000});
    info_.whole_media_blocks = chance(70);
    options_.max_running = chance(30) ? between(1, 8) : 0;
    options_.chunked_prefill_size = one_of({-1, 1, 3, 8, 16, 64});
    options_.max_prefill_tokens = between(1, 100);
    options_.prefix_cache = chance(85);
    pause_chance_ = chance(20) ? 3 : 0;
    options_.checkpoint_tokens = one_of({1, 8, 16, 40, 4096});
    options_.policy = one_of({SchedulePolicy::kFcfs, SchedulePolicy::kFcfs, SchedulePolicy::kLpm, SchedulePolicy::kLof,
                              SchedulePolicy::kRandom});
    options_.priority_scheduling = chance(25);
    options_.priority_preemption = chance(70);
    options_.priority_preemption_threshold = between(0, 10);
    options_.prefill_max_requests = chance(20) ? between(1, 3) : 0;
    options_.schedule_conservativeness = one_of({0.0, 0.3, 1.0, 1.0, 2.0});
    options_.eos_token_ids = {1};
    if (chance(30)) options_.eos_token_ids.push_back(0);
    options_.random_seed = rng_();
    options_.decode_log_interval = 0;
  }

  std::vector<TokenId> draw_tokens(int count) {
    std::vector<TokenId> out(count);
    for (TokenId& t : out) t = between(0, info_.vocab_size - 1);
    return out;
  }

  void draw_items() {
    for (uint64_t i = 0; i < 5; ++i) {
      auto item = std::make_shared<EncoderInput>();
      item->kind = one_of({EncoderInput::Kind::kImage, EncoderInput::Kind::kVideoFrame, EncoderInput::Kind::kAudio});
      item->hash = {rng_(), i};
      item->num_tokens = i % 2 == 1 ? items_.back()->num_tokens : between(1, one_of({3, 8, 8, 30}));
      items_.push_back(std::move(item));
    }
  }

  struct Document {
    std::vector<TokenId> tokens;
    std::vector<MediaSpan> media;
  };
  Document draw_document() {
    Document out{draw_tokens(between(1, info_.max_context)), {}};
    if (info_.max_media_tokens == 0 && chance(95)) return out;
    for (int at = between(0, 10); chance(85);) {
      const MediaSpan span{at, items_[rng_() % items_.size()]};
      if (end_of(span) > static_cast<int>(out.tokens.size())) break;
      out.media.push_back(span);
      at = end_of(span) + between(0, chance(70) ? 3 : 30);
    }
    return out;
  }

  void draw_clients() {
    draw_items();
    std::vector<Document> documents;
    for (int i = 0; i < 3; ++i) documents.push_back(draw_document());
    const int count = between(1, 22), spread = one_of({1, 20, 200});
    for (int i = 0; i < count; ++i) {
      Client& c = clients_.emplace_back();
      Request& r = c.request;
      r.id = str_cat("r", i);
      r.sampling.seed = static_cast<int64_t>(rng_() >> (chance(50) ? 1 : 63));
      r.sampling.max_new_tokens = chance(8) ? 0 : between(1, one_of({2, 10, 60, 1000}));
      r.sampling.ignore_eos = chance(40);
      if (chance(20)) r.sampling.stop_token_ids = draw_tokens(2);
      if (info_.vocab_size >= 30 && chance(40)) r.sampling.constraint = make_plan(info_.vocab_size, rng_());
      // An answer in a form ends with it.
      if (r.sampling.constraint && r.sampling.constraint->binds_answer()) r.sampling.ignore_eos = false;
      r.num_samples = chance(70) ? 1 : between(2, 12);
      r.priority = one_of({0, 0, 5, 20, -20});
      r.cache_salt = chance(15) ? 1 : 0;
      r.logprobs.enabled = chance(25);
      if (chance(15)) r.logprobs.prompt_start = between(0, 40);
      const auto& document = documents[rng_() % documents.size()];
      r.prompt.assign(document.tokens.begin(),
                      document.tokens.begin() + between(0, static_cast<int>(document.tokens.size())));
      r.media = document.media;
      if (i > 0 && chance(30)) {  // a conversation goes on: an earlier prompt with its answer
        const Client& before = clients_[rng_() % static_cast<uint64_t>(i)];
        r.prompt = before.request.prompt;
        r.media = before.request.media;
        if (!r.prompt.empty()) {
          const auto answer = expect(before.request, 0, 1000).tokens;
          r.prompt.insert(r.prompt.end(), answer.begin(), answer.begin() + between(0, static_cast<int>(answer.size())));
        }
        r.cache_salt = before.request.cache_salt;
      }
      const auto tail = draw_tokens(chance(20) ? 0 : between(0, 12));
      r.prompt.insert(r.prompt.end(), tail.begin(), tail.end());
      if (chance(90) && static_cast<int>(r.prompt.size()) >= info_.max_context) r.prompt.resize(info_.max_context - 1);
      std::erase_if(r.media, [&](const MediaSpan& span) { return end_of(span) > static_cast<int>(r.prompt.size()); });
      for (MediaSpan& span : r.media)  // the same prompt with another image in a place
        if (const auto& other = items_[rng_() % items_.size()];
            chance(10) && other->num_tokens == span.input->num_tokens)
          span.input = other;
      c.arrival = between(0, spread);
      c.slow_reader = chance(20);
      if (chance(10)) c.cancel_at = c.arrival + between(0, 40);
      if (chance(10)) c.cancel_samples_at[between(0, r.num_samples)] = c.arrival + between(0, 40);
    }
    abort_at_ = chance(10) ? between(0, spread + 50) : -1;
    flush_chance_ = one_of({0, 0, 5, 30});
  }

  Expected expect(const Request& r, int sample, int limit) const {
    Expected out;
    Direct model(info_.window);
    uint64_t context = 0;
    if (r.logprobs.prompt_start && *r.logprobs.prompt_start == 0) out.prompt_logprobs.push_back(NAN);
    const int prompt_size = static_cast<int>(r.prompt.size());
    for (int begin = 0; begin < prompt_size;) {
      const int count = info_.whole_media_blocks ? smallest_slice(r.media, begin) : 1;
      std::vector<uint64_t> inputs;
      for (int p = begin; p < begin + count; ++p) inputs.push_back(input_at(r.prompt, r.media, p));
      for (const uint64_t next : model.push(inputs)) {
        if (begin > 0 && r.logprobs.prompt_start && begin >= *r.logprobs.prompt_start)
          out.prompt_logprobs.push_back(logprob_of(context, r.prompt[static_cast<size_t>(begin)]));
        context = next;
        ++begin;
      }
    }
    limit = std::min(limit, r.sampling.max_new_tokens);
    const uint64_t seed = sample_seed(static_cast<uint64_t>(*r.sampling.seed), sample);
    const auto contains = [](const std::vector<TokenId>& v, TokenId t) {
      return std::find(v.begin(), v.end(), t) != v.end();
    };
    std::vector<TokenId> ends;
    if (!r.sampling.ignore_eos) {
      ends = options_.eos_token_ids;
      ends.insert(ends.end(), r.sampling.stop_token_ids.begin(), r.sampling.stop_token_ids.end());
    }
    auto constraint = constraint_of(r.sampling, ends, info_.vocab_size);
    while (static_cast<int>(out.tokens.size()) < limit) {
      const TokenId token = next_of(context, seed, info_.vocab_size, constraint);
      out.tokens.push_back(token);
      if (r.logprobs.enabled) out.logprobs.push_back(logprob_of(context, token));
      if (static_cast<int>(out.tokens.size()) == limit) break;
      if (contains(ends, token)) {
        out.reason = FinishReason::kStop;
        out.matched = token;
        break;
      }
      context = model.push(token);
    }
    return out;
  }

  bool never_fits(const MediaSpan& span) const {
    const int count = span.input->num_tokens, P = info_.page_tokens;
    if (count > info_.max_media_tokens) return true;
    if (!info_.whole_media_blocks || !is_block(span)) return false;
    // Its window and itself, from a page's last position on.
    const int pages = std::min((end_of(span) + P - 1) / P, (info_.window - 1 + P - 1 + count + P - 1) / P + 1);
    return count > core_->max_block_tokens() || (info_.window > 0 && pages > info_.num_sliding_pages);
  }

  bool over() const {
    return std::all_of(clients_.begin(), clients_.end(),
                       [](const Client& c) { return c.refused || (c.submitted && (c.ended() || c.slow_reader)); }) &&
           core_->idle();
  }

  void arrive(int turn) {
    for (Client& c : clients_) {
      if (c.submitted || c.arrival > turn) continue;
      c.submitted = true;
      Request copy = c.request;
      copy.stream = c.stream = std::make_shared<RequestStream>();
      if (!core_->check(copy)) {
        const int size = static_cast<int>(c.request.prompt.size());
        c.refused = true;
        EXPECT_TRUE(size == 0 || size >= info_.max_context || size > core_->max_sequence_tokens() ||
                    std::ranges::any_of(c.request.media, [&](const MediaSpan& span) { return never_fits(span); }));
        continue;
      }
      c.limit = core_->new_token_limit(copy);
      core_->add(std::move(copy));
    }
  }

  void interfere(int turn, Totals& totals) {
    if (chance(paused_ ? 20 : pause_chance_)) pause_or_resume();
    for (Client& c : clients_) {
      if (!c.stream || c.refused) continue;
      if (c.cancel_at && *c.cancel_at <= turn) {
        c.stream->cancel();
        c.cut = true;
        c.cancel_at.reset();
      }
      for (auto it = c.cancel_samples_at.begin(); it != c.cancel_samples_at.end();)
        if (it->second <= turn) {
          c.stream->cancel_sample(it->first);
          cut_samples_.insert({&c, it->first});
          it = c.cancel_samples_at.erase(it);
        } else {
          ++it;
        }
    }
    if (turn == abort_at_) {
      const std::string prefix = one_of({"r1", "r", "r2", "nobody"});
      core_->abort(prefix);
      for (Client& c : clients_)
        if (c.stream && c.request.id.starts_with(prefix)) c.cut = true;
    }
    if (chance(flush_chance_)) {
      const bool idle = core_->idle();
      const bool flushed = core_->flush_cache();
      EXPECT_TRUE(flushed == idle || (flushed && paused_ && core_->stats().num_running == 0));
      totals.flushed += flushed;
    }
  }

  void pause_or_resume() {
    paused_ = !paused_;
    if (paused_)
      core_->pause(chance(50) ? PauseMode::kRetract : PauseMode::kInPlace);
    else
      core_->resume();
  }

  void read(bool all) {
    for (Client& c : clients_) {
      if (!c.stream || (c.slow_reader && !all)) continue;
      for (SampleEvent& e : c.stream->drain()) {
        Got& g = c.got[e.sample];
        EXPECT_EQ(g.num_finishes, 0) << "nothing comes after the end";
        g.tokens.insert(g.tokens.end(), e.tokens.begin(), e.tokens.end());
        for (const auto& p : e.logprobs) g.logprobs.push_back(p.logprob);
        for (const auto& p : e.prompt_logprobs) g.prompt_logprobs.push_back(p.logprob);
        if (e.finish) {
          ++g.num_finishes;
          g.finish = *e.finish;
        }
      }
    }
  }

  static bool same(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
  }

  void compare(const Client& c) {
    if (c.refused) {
      EXPECT_TRUE(c.got.empty());
      return;
    }
    SCOPED_TRACE(c.request.id);
    ASSERT_EQ(static_cast<int>(c.got.size()), c.request.num_samples);
    for (const auto& [i, g] : c.got) {
      ASSERT_EQ(g.num_finishes, 1);
      EXPECT_FALSE(g.finish.error) << g.finish.error->message;
      const Expected e = expect(c.request, i, c.limit);
      if (g.finish.reason == FinishReason::kAbort) {
        EXPECT_TRUE(c.cut || cut_samples_.contains({&c, i}));
        ASSERT_LE(g.tokens.size(), e.tokens.size());
        EXPECT_TRUE(std::equal(g.tokens.begin(), g.tokens.end(), e.tokens.begin()));
        continue;
      }
      EXPECT_EQ(g.tokens, e.tokens) << "sample " << i;
      EXPECT_EQ(g.finish.reason, e.reason);
      EXPECT_EQ(g.finish.matched_token, e.matched);
      EXPECT_TRUE(same(g.logprobs, e.logprobs));
      EXPECT_TRUE(same(g.prompt_logprobs, e.prompt_logprobs));
    }
  }

  std::mt19937_64 rng_;
  RunnerInfo info_;
  EngineOptions options_;
  std::unique_ptr<PagedRunner> runner_;
  std::unique_ptr<EngineCore> core_;
  std::deque<Client> clients_;
  std::vector<std::shared_ptr<const EncoderInput>> items_;
  std::set<std::pair<const Client*, int>> cut_samples_;
  int abort_at_ = -1, flush_chance_ = 0, pause_chance_ = 0;
  bool paused_ = false;
};

TEST(EngineSimulation, AnswersDoNotDependOnWhatElseHappens) {
  const uint64_t first = g_only_seed.value_or(0), count = g_only_seed ? 1 : static_cast<uint64_t>(g_num_seeds);
  Totals totals;
  const auto begin = std::chrono::steady_clock::now();
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(testing::Message() << "replay with --seed " << seed);
    g_current_seed = seed;
    Simulation(seed).run(totals);
    if (HasFailure()) break;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf(
      "%llu seeds in %.1f s: %lld steps, %lld requests (%lld samples, %lld with media, %lld refused, %lld cut), %lld "
      "tokens, %lld cached, "
      "%lld preemptions, %lld page copies, %lld flushes\n",
      static_cast<unsigned long long>(count), seconds, static_cast<long long>(totals.steps),
      static_cast<long long>(totals.requests), static_cast<long long>(totals.samples),
      static_cast<long long>(totals.with_media), static_cast<long long>(totals.refused),
      static_cast<long long>(totals.cancelled), static_cast<long long>(totals.tokens),
      static_cast<long long>(totals.cached), static_cast<long long>(totals.preempted),
      static_cast<long long>(totals.copies), static_cast<long long>(totals.flushed));
}

TEST(EngineSimulation, ADeviceFailureEndsEverythingOnce) {
  const uint64_t first = g_only_seed.value_or(0), count = g_only_seed ? 1 : static_cast<uint64_t>(g_num_seeds);
  Totals totals;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE(testing::Message() << "replay with --seed " << seed);
    g_current_seed = seed;
    Simulation(seed).run_into_failure(totals);
    if (HasFailure()) break;
  }
  EXPECT_TRUE(g_only_seed || totals.cancelled > static_cast<int64_t>(count / 4)) << "most runs see the failure";
}

}  // namespace
}  // namespace carat

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--seed") == 0) carat::g_only_seed = std::strtoull(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--seeds") == 0) carat::g_num_seeds = std::atoi(argv[i + 1]);
  }
  for (const int signal : {SIGABRT, SIGSEGV}) std::signal(signal, carat::print_seed_and_die);
  return RUN_ALL_TESTS();
}
