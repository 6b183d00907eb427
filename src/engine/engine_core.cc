#include "engine/engine_core.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/str.h"
#include "engine/media_spans.h"
#include "sampling/sampler.h"

namespace carat {
namespace {

/// Long prompts in progress at once: one more than one, so that a short long prompt can pass a long one.
constexpr int kChunkSlots = 2;
/// How far down the queue a short prompt may stand and still pass long ones that wait for a chunk slot.
constexpr size_t kMaxCandidates = 64;
/// Longest-prefix-match looks at so many waiting requests; with more, arrival decides (as SGLang does).
constexpr size_t kMaxPrefixMatches = 128;

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }

bool contains(const std::vector<TokenId>& tokens, TokenId token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

}  // namespace

bool EngineCore::QueueOrder::operator()(const Sequence* a, const Sequence* b) const {
  if (by_priority) {
    const int pa = a->request->request.priority, pb = b->request->request.priority;
    if (pa != pb) return pa > pb;
  }
  if (a->resumed != b->resumed) return a->resumed;
  if (a->policy_key != b->policy_key) return a->policy_key < b->policy_key;
  if (a->request->order != b->request->order) return a->request->order < b->request->order;
  return a->sample < b->sample;
}

EngineCore::EngineCore(EngineOptions options, Runner& runner)
    : options_(std::move(options)),
      runner_(runner),
      info_(runner.info()),
      full_pool_(info_.num_full_pages),
      sliding_pool_(info_.window > 0 ? info_.num_sliding_pages : 0),
      cache_(full_pool_, sliding_pool_, info_.page_tokens, info_.window),
      waiting_(QueueOrder{options_.priority_scheduling}),
      random_(options_.random_seed),
      log_(options_.decode_log_interval, info_.window > 0) {
  CARAT_CHECK(info_.vocab_size > 0 && info_.page_tokens > 0 && info_.max_slots > 0 && info_.max_step_tokens > 0 &&
                  info_.num_full_pages > 0 && info_.max_context > 1 && info_.pipeline_depth >= 1 &&
                  info_.max_tokens_per_decode >= 1 && info_.max_step_tokens >= info_.max_tokens_per_decode,
              "a runner has room for something");
  const int wanted = options_.max_running > 0 ? options_.max_running : info_.max_slots;
  const int by_step = (info_.max_step_tokens - 1) / info_.max_tokens_per_decode;  // one token is left for a prompt
  max_running_ = std::max(1, std::min({wanted, info_.max_slots, by_step}));
  max_prefill_ = std::min(options_.max_prefill_tokens > 0 ? options_.max_prefill_tokens : info_.max_step_tokens,
                          info_.max_step_tokens);
  max_block_ = std::min(max_prefill_, info_.max_step_tokens - max_running_ * info_.max_tokens_per_decode);
  chunk_ = options_.chunked_prefill_size > 0 ? options_.chunked_prefill_size : std::numeric_limits<int>::max();
  const int64_t P = info_.page_tokens;
  int64_t pool_tokens = info_.num_full_pages * P;
  if (info_.window > 0) {
    // The window before the last page border, the rest of its page, and what steps in flight may write.
    ring_pages_ =
        page_count(info_.window - 1 + info_.page_tokens - 1 + info_.max_tokens_per_decode * info_.pipeline_depth) + 1;
    // One more for a fork's copy of a page. With fewer pages no sequence may be longer than the pool.
    if (info_.num_sliding_pages < ring_pages_ + 1) pool_tokens = std::min(pool_tokens, info_.num_sliding_pages * P);
  }
  pool_tokens_ = static_cast<int>(std::min<int64_t>(pool_tokens, std::numeric_limits<int>::max() / 2));
  max_sequence_tokens_ = std::min(info_.max_context, pool_tokens_);
  for (int slot = info_.max_slots - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

EngineCore::~EngineCore() = default;

// ---- The door

int EngineCore::new_token_limit(const Request& request) const {
  const int prompt = static_cast<int>(request.prompt.size());
  const int context_room = std::max(1, info_.max_context - 2 - prompt);
  const int copied = request.num_samples > 1 ? info_.page_tokens : 0;  // a fork holds a page and its copy for a moment
  const int pool_room = std::max(1, pool_tokens_ - copied - prompt);
  return std::min({request.sampling.max_new_tokens, context_room, pool_room});
}

Result<void> EngineCore::check(const Request& request) const {
  CARAT_CHECK(request.stream != nullptr, "a request has a stream");
  if (request.prompt.empty()) return invalid("Prompt cannot be empty");
  if (request.num_samples < 1) return invalid(str_cat("n must be at least 1, got ", request.num_samples, "."));
  CARAT_TRY_VOID(validate(request.sampling, info_.vocab_size));
  const auto in_vocabulary = [&](TokenId token) { return token >= 0 && token < info_.vocab_size; };
  for (const TokenId token : request.prompt)
    if (!in_vocabulary(token))
      return invalid(str_cat("The prompt contains out-of-vocabulary token id ", token, ", ids must be in [0, ",
                             info_.vocab_size - 1, "]."));
  for (const TokenId token : request.logprobs.token_ids)
    if (!in_vocabulary(token))
      return invalid(str_cat("token_ids_logprob contains out-of-vocabulary token id ", token, ", ids must be in [0, ",
                             info_.vocab_size - 1, "]."));
  const int64_t length = static_cast<int64_t>(request.prompt.size());
  if (length >= info_.max_context)
    return invalid(str_cat("The input (", length, " tokens) is longer than the model's context length (",
                           info_.max_context, " tokens)."));
  if (length > max_sequence_tokens_)
    return invalid(str_cat("The input (", length, " tokens) is longer than the KV cache can hold (",
                           max_sequence_tokens_, " tokens)."));
  return check_media(request);
}

Result<void> EngineCore::check_media(const Request& request) const {
  if (request.media.empty()) return {};
  if (info_.max_media_tokens == 0) return invalid("This model is served without its encoders: it takes text only.");
  const int prompt_size = static_cast<int>(request.prompt.size());
  int end = 0;
  for (const MediaSpan& span : request.media) {
    CARAT_CHECK(span.input != nullptr, "a span has an input");
    const int count = span.input->num_tokens;
    if (count < 1 || span.begin < end || count > prompt_size - span.begin)
      return invalid(str_cat("Media of ", count, " tokens at position ", span.begin,
                             " overlap others or lie outside of the prompt of ", prompt_size, " tokens."));
    end = span.begin + count;
    if (count > info_.max_media_tokens)
      return invalid(str_cat("An image, video frame or clip of ", count, " tokens is longer than the encoders' cache (",
                             info_.max_media_tokens, " tokens)."));
    if (!info_.whole_media_blocks || !is_block(span)) continue;
    if (count > max_block_)
      return invalid(str_cat("An image of ", count, " tokens does not fit into a step, which has room for ", max_block_,
                             ": raise --chunked-prefill-size and --max-prefill-tokens."));
    // The window before its first token, from a page border on, and the block itself.
    const int pages = std::min(page_count(end), page_count(info_.window + info_.page_tokens - 2 + count) + 1);
    if (info_.window > 0 && pages > info_.num_sliding_pages)
      return invalid(str_cat("An image of ", count, " tokens needs ", pages,
                             " pages of the sliding KV cache, which has ", info_.num_sliding_pages, "."));
  }
  return {};
}

void EngineCore::add(Request request) {
  auto state = std::make_unique<RequestState>();
  RequestState& r = *state;
  r.order = next_order_++;
  r.seed = request.sampling.seed ? static_cast<uint64_t>(*request.sampling.seed) : random_();
  r.limit = new_token_limit(request);
  r.prompt = std::make_shared<const std::vector<TokenId>>(std::move(request.prompt));
  if (!request.media.empty()) {
    r.media = std::make_shared<const std::vector<MediaSpan>>(std::move(request.media));
    r.cache_ids = carat::cache_ids(*r.prompt, *r.media);
  }
  r.num_unfinished = request.num_samples;
  r.prompt_logprobs_launched = r.prompt_size();
  if (request.logprobs.prompt_start) {
    const int start = std::max(0, *request.logprobs.prompt_start);
    r.prompt_logprobs_launched = std::max(start, 1);
    if (start == 0) r.prompt_logprobs.emplace_back().logprob = std::numeric_limits<float>::quiet_NaN();
  }
  r.stats.queued = std::chrono::steady_clock::now();
  for (int i = 0; i < request.num_samples; ++i)
    r.samples.push_back(std::make_unique<Sequence>(&r, i, info_.page_tokens));
  r.request = std::move(request);
  requests_.push_back(std::move(state));
  r.self = std::prev(requests_.end());
  enqueue(*r.samples.front());
}

void EngineCore::enqueue(Sequence& s) {
  s.state = State::kWaiting;
  switch (options_.policy) {
    case SchedulePolicy::kLof:
      s.policy_key = static_cast<uint64_t>(std::numeric_limits<int>::max() - s.request->limit);
      break;
    case SchedulePolicy::kRandom:
      s.policy_key = random_();
      break;
    case SchedulePolicy::kFcfs:
    case SchedulePolicy::kLpm:
      s.policy_key = 0;
      break;
  }
  waiting_.insert(&s);
}

// ---- The turn

bool EngineCore::step() {
  if (failure_) return false;
  ++turn_;
  drop_cancelled();
  if (!paused_)
    schedule();
  else if (retracting_ && in_flight_.empty())
    retract_all();
  const bool launched = !next_.slices.empty();
  if (launched) launch();
  const bool full = static_cast<int>(in_flight_.size()) >= info_.pipeline_depth;
  const bool took = full || (!launched && !in_flight_.empty());
  if (took) take();
  bool moved = launched || took;
  if (!moved && !paused_ && !(running_.empty() && waiting_.empty())) {
    fail_head();
    moved = true;
  }
  if (!moved) log_.idle(stats_);
  wake_readers();
  erase_released();
  return moved;
}

void EngineCore::launch() {
  next_.id = launched_.id = next_step_id_++;
  next_.closes = std::exchange(closes_, {});
  bool decodes = false;
  for (const LaunchedSlice& slice : launched_.slices) decodes |= !slice.prefill;
  in_flight_.push_back(std::exchange(launched_, {}));
  runner_.launch(std::exchange(next_, {}));
  ++stats_.steps_total;
  if (prefill_log_.num_sequences > 0) {
    for (const Sequence* s : running_)
      if (s->state == State::kPrefill) prefill_log_.pending_tokens += static_cast<int>(s->tokens.size()) - s->launched;
    stats_ = stats();
    log_.prefill(prefill_log_, stats_);
  }
  if (decodes) {
    stats_ = stats();
    log_.decode(stats_);
  }
  prefill_log_ = {};
}

void EngineCore::schedule() {
  if (drain_) {
    if (!in_flight_.empty()) return;
    drain_ = false;
    preempt_for_priority();
  }
  schedule_decodes();
  if (!drain_) schedule_prefills();
}

void EngineCore::schedule_decodes() {
  next_.slices.reserve(running_.size());
  launched_.slices.reserve(running_.size());
  // Most important first, so that whoever is preempted has no slice in this step yet.
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence& s = *running_[i];
    if (s.state != State::kDecode) continue;
    const int limit = s.request->limit;
    if (s.num_generated() + s.pending_prefill + s.pending_decodes >= limit) continue;
    const int longest = kv_base(s) + info_.max_tokens_per_decode * (s.pending_decodes + 1);
    const int num_tokens = std::min(longest, s.request->prompt_size() + limit - 1);
    while (s.state == State::kDecode && !reserve(s, num_tokens)) {
      if (!in_flight_.empty()) {
        drain_ = true;  // results may free pages; if they do not, somebody goes
        return;
      }
      if (running_.size() == 1) return;  // nothing can move: see step()
      preempt(*running_.back());
    }
    if (s.state == State::kDecode) add_decode(s);
  }
}

int EngineCore::kv_base(const Sequence& s) const { return s.pending_prefill > 0 ? s.launched : s.known; }

void EngineCore::add_decode(Sequence& s) {
  send_tables(s);
  next_.slices.push_back({.slot = s.slot, .tokens = {}, .sample_slots = {s.slot}});
  LaunchedSlice& note = launched_.slices.emplace_back();
  note.sequence = &s;
  note.samples = true;
  ++s.steps_in_flight;
  ++s.pending_decodes;
}

void EngineCore::schedule_prefills() {
  const int decode_tokens = static_cast<int>(next_.slices.size()) * info_.max_tokens_per_decode;
  const int budget = std::min(max_prefill_, info_.max_step_tokens - decode_tokens);
  if (budget <= 0) return;
  admit(budget);
  prefills_.clear();
  for (Sequence* s : running_)
    if (s->state == State::kPrefill) prefills_.push_back(s);
  if (prefills_.empty()) return;

  // Shortest remaining first; a quarter is kept for the oldest, so that it ends in spite of a stream of short ones, or
  // what its next block needs.
  const auto remaining = [&](const Sequence* s) { return static_cast<int>(s->tokens.size()) - s->launched; };
  const auto least = [&](const Sequence* s) { return smallest_slice(blocks(*s), s->launched); };
  const auto wanted = [&](const Sequence* s) { return std::min(remaining(s), std::max(chunk_, least(s))); };
  Sequence* oldest = *std::min_element(prefills_.begin(), prefills_.end(), [](const Sequence* a, const Sequence* b) {
    return a->request->order < b->request->order;
  });
  std::stable_sort(prefills_.begin(), prefills_.end(),
                   [&](const Sequence* a, const Sequence* b) { return remaining(a) < remaining(b); });
  int kept = std::min(wanted(oldest), std::max(least(oldest), budget / 4));
  int left = budget - kept;
  for (Sequence* s : prefills_) {
    if (left + (s == oldest ? kept : 0) <= 0) continue;
    if (s == oldest) left += std::exchange(kept, 0);
    left -= add_prefill(*s, std::min(wanted(s), left));
  }
  while (next_.slices.empty() && in_flight_.empty() && running_.size() > 1) {
    // Prompts that hold pages, none of which can get another: the youngest gives its own back.
    preempt(*running_.back());
    schedule_decodes();
    for (size_t i = 0; i < running_.size() && next_.slices.empty(); ++i)
      if (running_[i]->state == State::kPrefill) add_prefill(*running_[i], std::min(wanted(running_[i]), budget));
  }
}

int EngineCore::add_prefill(Sequence& s, int max_tokens) {
  RequestState& r = *s.request;
  const int begin = s.launched, total = static_cast<int>(s.tokens.size());
  int count = max_tokens;
  if (info_.window > 0) {
    const int64_t reachable =
        (static_cast<int64_t>(s.sliding.end()) + sliding_pool_.num_available()) * info_.page_tokens;
    count = static_cast<int>(std::min<int64_t>(count, reachable - begin));
  }
  if (count > 0) count = uncut_end(blocks(s), begin, begin + count) - begin;
  if (count <= 0) return 0;
  CARAT_CHECK(reserve(s, begin + count), "a chunk's pages were counted before");
  if (!s.opened) open_slot(s);
  send_tables(s);

  const int end = begin + count;
  Slice slice;
  slice.slot = s.slot;
  slice.tokens.assign(s.tokens.begin() + begin, s.tokens.begin() + end);
  LaunchedSlice note;
  note.sequence = &s;
  note.prefill = true;
  note.end = end;
  note.ends_prompt = end == total;
  // The row of position p predicts position p + 1.
  const int wanted_end = std::min(end + 1, r.prompt_size());
  if (r.prompt_logprobs_launched < wanted_end) {
    slice.prompt_logprob_begin = r.prompt_logprobs_launched;
    slice.prompt_logprob_end = wanted_end;
    r.prompt_logprobs_launched = wanted_end;
    note.prompt_logprobs = true;
  }
  s.launched = end;
  ++s.steps_in_flight;
  if (note.ends_prompt) {
    s.state = State::kDecode;
    s.long_prefill = false;
    if (r.limit > 0) {
      slice.sample_slots.push_back(s.slot);
      note.samples = true;
      s.pending_prefill = 1;
      fork_followers(s, slice, note);
    }
  }
  ++prefill_log_.num_sequences;
  prefill_log_.num_tokens += count;
  next_.slices.push_back(std::move(slice));
  launched_.slices.push_back(std::move(note));
  return count;
}

void EngineCore::fork_followers(Sequence& leader, Slice& slice, LaunchedSlice& note) {
  for (const auto& owned : leader.request->samples) {
    Sequence& f = *owned;
    if (f.state != State::kAttached) continue;
    if (free_slots_.empty() || static_cast<int>(running_.size()) >= max_running_) {
      enqueue(f);  // on its own then; the prefix cache has most of the prompt
      continue;
    }
    f.tokens = leader.tokens;
    f.known = 0;
    f.launched = leader.launched;
    f.full = leader.full.fork(leader.launched);
    if (info_.window > 0) f.sliding = leader.sliding.fork(leader.launched);
    f.cached_length = 0;
    start_running(f, State::kDecode);
    open_slot(f);
    f.pending_prefill = 1;
    ++f.steps_in_flight;
    slice.sample_slots.push_back(f.slot);
    note.forks.push_back(&f);
  }
}

void EngineCore::start_running(Sequence& s, State state) {
  s.state = state;
  s.slot = free_slots_.back();
  free_slots_.pop_back();
  s.opened = false;
  s.full_sent = 0;
  s.sliding_sent = s.sliding_dropped = s.sliding.begin();
  const auto place = std::lower_bound(running_.begin(), running_.end(), &s, [&](const Sequence* a, const Sequence* b) {
    return more_important(*a, *b, options_.priority_scheduling);
  });
  running_.insert(place, &s);
}

void EngineCore::open_slot(Sequence& s) {
  const RequestState& r = *s.request;
  SlotOpen open;
  open.slot = s.slot;
  open.prompt = r.prompt;
  open.media = r.media;
  open.generated.assign(s.tokens.begin() + r.prompt_size(), s.tokens.end());
  open.cached_length = s.cached_length;
  open.sampler.params = r.request.sampling;
  open.sampler.params.max_new_tokens = r.limit;
  open.sampler.logprobs = r.request.logprobs;
  open.sampler.seed = sample_seed(r.seed, s.sample);
  if (!r.request.sampling.ignore_eos) {
    open.sampler.end_token_ids = options_.eos_token_ids;
    for (const TokenId token : r.request.sampling.stop_token_ids) open.sampler.end_token_ids.push_back(token);
  }
  open.sampler.suppressed_token_ids = options_.suppress_token_ids;
  next_.opens.push_back(std::move(open));
  s.opened = true;
}

// ---- Admission

const std::vector<Sequence*>& EngineCore::queue_head() {
  candidates_.clear();
  if (options_.policy == SchedulePolicy::kLpm && options_.prefix_cache && waiting_.size() <= kMaxPrefixMatches) {
    std::vector<std::pair<int, Sequence*>> matches;
    for (Sequence* s : waiting_)
      matches.emplace_back(
          cache_.match_length(cache_ids(*s), s->request->request.cache_salt, static_cast<int>(s->content().size()) - 1),
          s);
    std::stable_sort(matches.begin(), matches.end(), [&](const auto& a, const auto& b) {
      const auto rank = [&](const Sequence& s) {  // what comes before the match in the queue's order
        return std::pair(options_.priority_scheduling ? -s.request->request.priority : 0, !s.resumed);
      };
      const auto ra = rank(*a.second), rb = rank(*b.second);
      return ra != rb ? ra < rb : a.first > b.first;
    });
    for (const auto& [length, s] : matches) candidates_.push_back(s);
  } else {
    for (Sequence* s : waiting_) {
      if (candidates_.size() == kMaxCandidates) break;
      candidates_.push_back(s);
    }
  }
  return candidates_;
}

void EngineCore::admit(int budget) {
  if (waiting_.empty()) return;
  const auto no_slot = [&] { return free_slots_.empty() || static_cast<int>(running_.size()) >= max_running_; };
  if (no_slot()) return blocked(**waiting_.begin());
  int64_t demand = 0;
  int num_long = 0, num_prefills = 0;
  for (const Sequence* s : running_) {
    if (s->state != State::kPrefill) continue;
    ++num_prefills;
    num_long += s->long_prefill;
    if (!s->long_prefill) demand += static_cast<int>(s->tokens.size()) - s->launched;
  }
  for (Sequence* s : queue_head()) {
    if (no_slot()) return blocked(*s);
    if (options_.prefill_max_requests > 0 && num_prefills >= options_.prefill_max_requests) return;
    int to_compute = static_cast<int>(s->content().size());
    // Whole in this step: long prompts in progress are left only their quarter (schedule_prefills()).
    const auto whole = [&] {
      return to_compute <= chunk_ && demand + to_compute <= budget - (num_long > 0 ? std::max(1, budget / 4) : 0);
    };
    if (!whole() && options_.prefix_cache)
      to_compute -= cache_.match_length(cache_ids(*s), s->request->request.cache_salt, to_compute - 1);
    const bool is_long = !whole();
    if (is_long && num_long >= kChunkSlots) continue;  // a shorter one behind it may still go
    if (!try_admit(*s)) return blocked(*s);
    s->long_prefill = is_long;
    num_long += is_long;
    ++num_prefills;
    if (!is_long) demand += to_compute;
  }
}

void EngineCore::blocked(const Sequence& s) {
  if (!options_.priority_scheduling || !options_.priority_preemption || running_.empty()) return;
  const int lowest = running_.back()->request->request.priority;
  if (s.request->request.priority <= static_cast<int64_t>(lowest) + options_.priority_preemption_threshold) return;
  priority_blocked_ = drain_ = true;
}

void EngineCore::preempt_for_priority() {
  if (!std::exchange(priority_blocked_, false) || waiting_.empty() || running_.empty()) return;
  const int64_t wanted = (*waiting_.begin())->request->request.priority;
  const int64_t lowest = running_.back()->request->request.priority;
  if (wanted > lowest + options_.priority_preemption_threshold) preempt(*running_.back());
}

bool EngineCore::try_admit(Sequence& s) {
  RequestState& r = *s.request;
  const int running = static_cast<int>(running_.size());
  if (blocked_ == &s && running > 0 && running >= blocked_running_ && full_pool_.num_available() <= blocked_full_ &&
      sliding_pool_.num_available() <= blocked_sliding_)
    return false;
  const int total = static_cast<int>(s.content().size());
  int max_hit = total - 1;  // something must be left to compute: its logits are what is sampled from
  if (r.prompt_logprobs_missing()) max_hit = std::min(max_hit, r.prompt_logprobs_launched - 1);
  PrefixCache::Match hit;
  if (options_.prefix_cache) hit = cache_.match(cache_ids(s), r.request.cache_salt, max_hit);

  const int headroom =
      running == 0 ? 0 : static_cast<int>(std::ceil(std::max(0.0, options_.schedule_conservativeness) * running));
  const int need_full = page_count(total) - static_cast<int>(hit.full.size());
  const int need_sliding =
      info_.window > 0 ? std::max(1, std::min(page_count(total), ring_pages_) - static_cast<int>(hit.sliding.size()))
                       : 0;
  if (full_pool_.num_available() < need_full + headroom ||
      (info_.window > 0 && running > 0 && sliding_pool_.num_available() < need_sliding + headroom)) {
    hit = {};  // the pages go back before they are counted
    blocked_ = &s;
    blocked_full_ = full_pool_.num_available();
    blocked_sliding_ = sliding_pool_.num_available();
    blocked_running_ = running;
    return false;
  }
  blocked_ = nullptr;
  waiting_.erase(&s);
  if (s.tokens.empty()) s.tokens = *r.prompt;
  s.known = s.launched = s.cached_length = hit.length;
  s.branch_point = hit.known_length > hit.length ? hit.known_length : 0;
  for (PageRef& page : hit.full) s.full.append(std::move(page));
  if (info_.window > 0) {
    s.sliding.start_at(hit.sliding_begin);
    for (PageRef& page : hit.sliding) s.sliding.append(std::move(page));
  }
  CARAT_CHECK(ensure_free(KvPool::kFull, s.full.missing(total)), "available pages can be had");
  grow(s.full, full_pool_, KvPool::kFull, total);
  start_running(s, State::kPrefill);
  prefill_log_.cached_tokens += hit.length;
  if (!r.admitted) {
    r.admitted = true;
    r.stats.cached_tokens = hit.length;
    r.stats.scheduled = std::chrono::steady_clock::now();
    if (!r.request.untracked) {
      stats_.prompt_tokens_total += r.prompt_size();
      stats_.cached_tokens_total += hit.length;
    }
  }
  return true;
}

// ---- Pages

bool EngineCore::ensure_free(KvPool kind, int count) {
  const PagePool& pool = kind == KvPool::kFull ? full_pool_ : sliding_pool_;
  if (pool.num_free() >= count) return true;
  if (pool.num_available() < count) return false;
  const int blocks = cache_.num_blocks();
  cache_.evict(kind, count - pool.num_free());
  stats_.evicted_tokens_total += int64_t{blocks - cache_.num_blocks()} * info_.page_tokens;
  return pool.num_free() >= count;
}

bool EngineCore::reserve(Sequence& s, int num_tokens) {
  const int full = s.full.missing(num_tokens);
  const int sliding = info_.window > 0 ? s.sliding.missing(num_tokens) : 0;
  if (!ensure_free(KvPool::kFull, full) || !ensure_free(KvPool::kSliding, sliding)) return false;
  // Evicting for one pool may free pages of the other, never take any.
  grow(s.full, full_pool_, KvPool::kFull, num_tokens);
  if (info_.window > 0) grow(s.sliding, sliding_pool_, KvPool::kSliding, num_tokens);
  return true;
}

void EngineCore::grow(PageTable& table, PagePool& pool, KvPool kind, int num_tokens) {
  if (table.copy_before_write()) {
    PageRef fresh = std::move(*pool.allocate());
    const PageId to = fresh.id();
    PageRef source = table.replace_last(std::move(fresh));
    next_.copies.push_back({kind, source.id(), to});
    launched_.held.push_back(std::move(source));
  }
  table.begin_write();
  for (int missing = table.missing(num_tokens); missing > 0; --missing) table.append(std::move(*pool.allocate()));
}

void EngineCore::send_tables(Sequence& s) {
  for (; s.full_sent < s.full.end(); ++s.full_sent)
    next_.pages.push_back({s.slot, KvPool::kFull, s.full_sent, s.full.at(s.full_sent)});
  if (info_.window == 0) return;
  for (; s.sliding_dropped < std::min(s.sliding.begin(), s.sliding_sent); ++s.sliding_dropped)
    next_.pages.push_back({s.slot, KvPool::kSliding, s.sliding_dropped, -1});
  s.sliding_dropped = s.sliding.begin();
  s.sliding_sent = std::max(s.sliding_sent, s.sliding.begin());
  for (; s.sliding_sent < s.sliding.end(); ++s.sliding_sent)
    next_.pages.push_back({s.slot, KvPool::kSliding, s.sliding_sent, s.sliding.at(s.sliding_sent)});
}

void EngineCore::preempt(Sequence& s) {
  CARAT_CHECK(s.running() && s.steps_in_flight == 0, "only a sequence at rest is preempted");
  insert_prefix(s, s.known);
  leave_slot(s);
  std::erase(running_, &s);
  s.resumed = true;
  s.long_prefill = false;
  s.known = s.launched = s.cached_length = s.branch_point = 0;
  ++s.request->stats.num_preemptions;
  ++stats_.num_preempted;
  stats_.retracted_input_tokens_total += s.request->prompt_size();
  stats_.retracted_output_tokens_total += s.num_generated();
  enqueue(s);
}

// ---- Results

void EngineCore::take() {
  auto result = runner_.take();
  if (result) return deliver(std::move(*result));
  failure_ = std::move(result).error();
  forget_steps();
}

/// A step that named `s` is over, or lost.
void EngineCore::settle(Sequence& s) {
  --s.steps_in_flight;
  if (s.state == State::kDraining && s.steps_in_flight == 0) release(s);
}

/// The results of all steps in flight will not come.
void EngineCore::forget_steps() {
  for (const LaunchedStep& step : std::exchange(in_flight_, {}))
    for (const LaunchedSlice& note : step.slices) {
      settle(*note.sequence);
      for (Sequence* fork : note.forks) settle(*fork);
    }
}

void EngineCore::deliver(StepResult result) {
  CARAT_CHECK(!in_flight_.empty(), "results come from steps");
  const LaunchedStep step = std::move(in_flight_.front());
  in_flight_.pop_front();
  CARAT_CHECK_EQ(result.id, step.id);
  size_t next = 0;
  for (const LaunchedSlice& note : step.slices) {
    Sequence& s = *note.sequence;
    RequestState& r = *s.request;
    const size_t entries = note.samples ? 1 + note.forks.size() : (note.prompt_logprobs ? 1 : 0);
    CARAT_CHECK(next + entries <= result.slots.size(), "a result has an entry for each slot that was asked for");
    SlotResult* entry = result.slots.data() + next;
    next += entries;
    if (note.prompt_logprobs)
      for (PositionLogprobs& p : entry->prompt_logprobs) r.prompt_logprobs.push_back(std::move(p));
    if (note.prefill) prefill_done(note);
    if (note.samples) {
      take_result(s, *entry++, note.prefill);
      for (Sequence* f : note.forks) take_result(*f, *entry++, note.prefill);
    } else {
      --s.steps_in_flight;
      if (note.ends_prompt) finish_request(r, {.reason = FinishReason::kLength, .matched_token = {}, .error = {}});
      if (s.state == State::kDraining && s.steps_in_flight == 0) release(s);
    }
  }
}

void EngineCore::take_result(Sequence& s, SlotResult& result, bool prefill) {
  --s.steps_in_flight;
  --(prefill ? s.pending_prefill : s.pending_decodes);
  if (s.running()) {
    CARAT_CHECK_EQ(result.slot, s.slot);
    append(s, result);
  } else if (s.steps_in_flight == 0) {  // ended while this step was in flight: one row wasted
    release(s);
  }
}

void EngineCore::prefill_done(const LaunchedSlice& note) {
  Sequence& s = *note.sequence;
  if (s.running()) advance(s, note.end, note.ends_prompt);
  for (Sequence* f : note.forks)
    if (f->running()) advance(*f, note.end, false);
}

/// K/V of positions below `known` is computed now: checkpoints on the way, then pages behind the window go back.
void EngineCore::advance(Sequence& s, int known, bool ends_prompt) {
  const int P = info_.page_tokens, from = s.known;
  s.known = known;
  if (options_.prefix_cache && info_.window > 0) {
    const int stride = std::max(P, options_.checkpoint_tokens / P * P);
    for (int border = (from / stride + 1) * stride; border <= known; border += stride) insert_prefix(s, border);
    if (s.branch_point > from && s.branch_point <= known) insert_prefix(s, s.branch_point);
  }
  if (ends_prompt) {
    // An equal prompt later may use all but its last token; the next turn of a conversation all of it.
    insert_prefix(s, (known - 1) / P * P);
    if (known % P == 0) insert_prefix(s, known);
  }
  if (info_.window > 0) s.sliding.release_before(first_visible_page(known, info_.window, P), [](int) {});
}

void EngineCore::insert_prefix(Sequence& s, int length) {
  if (!options_.prefix_cache) return;
  CARAT_DCHECK(length <= s.known, "only what is computed can be found again");
  cache_.insert(cache_ids(s), s.request->request.cache_salt, length, s.full, s.sliding);
}

/// The sequence's tokens as the prefix cache knows them; valid until the next call. A hit may end inside a block: what
/// the cache has of it was computed with the whole block in sight, and the ids say that it is the same one.
std::span<const TokenId> EngineCore::cache_ids(const Sequence& s) {
  const std::vector<TokenId>& prompt = s.request->cache_ids;
  if (prompt.empty()) return s.content();
  if (s.num_generated() == 0) return prompt;
  cache_ids_ = prompt;
  cache_ids_.insert(cache_ids_.end(), s.tokens.begin() + s.request->prompt_size(), s.tokens.end());
  return cache_ids_;
}

std::span<const MediaSpan> EngineCore::blocks(const Sequence& s) const {
  const auto& media = s.request->media;
  return info_.whole_media_blocks && media ? std::span<const MediaSpan>(*media) : std::span<const MediaSpan>();
}

bool EngineCore::is_end_token(const RequestState& r, TokenId token) const {
  return !r.request.sampling.ignore_eos &&
         (contains(r.request.sampling.stop_token_ids, token) || contains(options_.eos_token_ids, token));
}

std::optional<Finish> EngineCore::finish_at(const Sequence& s, TokenId token) const {
  // Length first, so that an end token as the very last allowed one reports "length" (spec/api.md 3.1).
  if (s.num_generated() >= s.request->limit)
    return Finish{.reason = FinishReason::kLength, .matched_token = {}, .error = {}};
  if (is_end_token(*s.request, token))
    return Finish{.reason = FinishReason::kStop, .matched_token = token, .error = {}};
  return std::nullopt;
}

void EngineCore::append(Sequence& s, SlotResult& result) {
  CARAT_CHECK(!result.tokens.empty(), "a sequence that goes on gets a token");
  RequestState& r = *s.request;
  const bool with_logprobs = r.request.logprobs.enabled;
  CARAT_CHECK(!with_logprobs || result.logprobs.size() == result.tokens.size(), "log-probabilities come per token");
  SampleEvent event;
  std::optional<Finish> end;
  size_t used = 0;
  while (used < result.tokens.size() && !end) {
    s.tokens.push_back(result.tokens[used]);
    end = finish_at(s, result.tokens[used]);
    ++used;
  }
  if (result.failure)
    end = Finish{.reason = FinishReason::kAbort, .matched_token = {}, .error = std::move(result.failure)};
  result.tokens.resize(used);
  event.tokens = std::move(result.tokens);
  if (with_logprobs) {
    result.logprobs.resize(used);
    event.logprobs = std::move(result.logprobs);
  }
  if (!r.request.untracked) stats_.generated_tokens_total += static_cast<int64_t>(used);
  advance(s, static_cast<int>(s.tokens.size()) - 1, false);
  if (end)
    finish(s, std::move(*end), std::move(event));
  else
    emit(s, std::move(event));
}

void EngineCore::emit(Sequence& s, SampleEvent event) {
  RequestState& r = *s.request;
  event.sample = s.sample;
  if (s.first_event && (!event.tokens.empty() || r.limit == 0)) {
    s.first_event = false;
    event.prompt_logprobs = r.prompt_logprobs;
    if (r.stats.first_token == decltype(r.stats.first_token){}) r.stats.first_token = std::chrono::steady_clock::now();
    r.request.stream->set_stats(r.stats);
  }
  r.request.stream->push(std::move(event));
  if (!std::exchange(r.has_news, true)) news_.push_back(&r);
}

// ---- Ends

void EngineCore::finish(Sequence& s, Finish how, SampleEvent event) {
  RequestState& r = *s.request;
  if (s.state == State::kWaiting) {
    waiting_.erase(&s);
    if (blocked_ == &s) blocked_ = nullptr;
  }
  const bool was_running = s.running();
  if (was_running) {
    insert_prefix(s, s.known);
    std::erase(running_, &s);
  }
  s.state = State::kDraining;
  if (--r.num_unfinished == 0) {
    r.stats.finished = std::chrono::steady_clock::now();
    if (!r.request.untracked) {
      ++stats_.requests_total;
      if (how.reason == FinishReason::kAbort) ++stats_.aborted_total;
    }
  }
  r.request.stream->set_stats(r.stats);
  event.finish = std::move(how);
  emit(s, std::move(event));
  if (s.steps_in_flight == 0) release(s);
}

void EngineCore::finish_request(RequestState& r, const Finish& how) {
  for (const auto& s : r.samples)
    if (s->state != State::kDraining && s->state != State::kDone) finish(*s, how);
}

void EngineCore::leave_slot(Sequence& s) {
  if (s.opened) closes_.push_back(s.slot);
  free_slots_.push_back(s.slot);
  s.slot = -1;
  s.opened = false;
  s.full = PageTable(info_.page_tokens);
  s.sliding = PageTable(info_.page_tokens);
}

void EngineCore::release(Sequence& s) {
  if (s.slot >= 0) leave_slot(s);
  s.state = State::kDone;
  if (++s.request->num_released == static_cast<int>(s.request->samples.size())) released_.push_back(s.request);
}

void EngineCore::drop_cancelled() {
  const auto drop = [&](RequestState& r) {
    if (r.request.stream->cancelled()) {
      finish_request(r, {.reason = FinishReason::kAbort, .matched_token = {}, .error = {}});
    } else {
      cancel_samples(r, r.request.stream->take_cancelled_samples());
    }
  };
  // Those that hold something every turn; the whole queue less often if it is long.
  if (requests_.size() <= 256 || turn_ % 32 == 0) {
    for (const auto& r : requests_) drop(*r);
    return;
  }
  candidates_ = running_;  // running_ changes on the way
  for (Sequence* s : candidates_) drop(*s->request);
}

void EngineCore::cancel_samples(RequestState& r, const std::vector<int>& samples) {
  for (const int i : samples) {
    if (i < 0 || i >= static_cast<int>(r.samples.size())) continue;
    Sequence& s = *r.samples[i];
    if (s.state == State::kDraining || s.state == State::kDone) continue;
    const bool leads = s.state != State::kAttached;
    finish(s, {.reason = FinishReason::kAbort, .matched_token = {}, .error = {}});
    if (!leads) continue;
    const auto heir = std::find_if(r.samples.begin(), r.samples.end(),
                                   [](const auto& other) { return other->state == State::kAttached; });
    if (heir != r.samples.end()) enqueue(**heir);  // the others stay attached to it
  }
}

void EngineCore::abort(std::string_view prefix) {
  for (const auto& r : requests_)
    if (std::string_view(r->request.id).starts_with(prefix))
      finish_request(*r, {.reason = FinishReason::kAbort, .matched_token = {}, .error = {}});
  wake_readers();
  erase_released();
}

void EngineCore::end_all(const Error& error) {
  while (!in_flight_.empty()) take();
  for (const auto& r : requests_)
    finish_request(*r, {.reason = FinishReason::kAbort, .matched_token = {}, .error = error});
  wake_readers();
  erase_released();
}

void EngineCore::fail_head() {
  Sequence& s = running_.empty() ? **waiting_.begin() : *running_.front();
  finish_request(*s.request,
                 {.reason = FinishReason::kAbort,
                  .matched_token = {},
                  .error = Error{Errc::kOverloaded,
                                 str_cat("No progress is possible: a sequence of ", s.content().size(),
                                         " tokens does not get the KV pages it needs (", full_pool_.num_available(),
                                         " of ", full_pool_.num_pages(), " full and ", sliding_pool_.num_available(),
                                         " of ", sliding_pool_.num_pages(), " sliding pages are to be had).")}});
}

void EngineCore::wake_readers() {
  // Nearly always there is one waker: one pass per distinct one.
  while (!news_.empty()) {
    StreamWaker* const waker = news_.front()->request.stream->waker();
    std::vector<std::shared_ptr<RequestStream>> streams;
    size_t kept = 0;
    for (RequestState* r : news_) {
      if (r->request.stream->waker() != waker) {
        news_[kept++] = r;
        continue;
      }
      r->has_news = false;
      if (waker) streams.push_back(r->request.stream);
    }
    news_.resize(kept);
    if (waker) waker->wake(std::move(streams));
  }
}

void EngineCore::erase_released() {
  for (RequestState* r : released_) requests_.erase(r->self);
  released_.clear();
}

void EngineCore::pause(PauseMode mode) {
  paused_ = true;
  retracting_ = mode == PauseMode::kRetract;
  if (mode == PauseMode::kAbort) abort("");
}

void EngineCore::resume() { paused_ = retracting_ = false; }

void EngineCore::retract_all() {
  retracting_ = false;
  while (!running_.empty()) preempt(*running_.back());
}

bool EngineCore::flush_cache() {
  if (!running_.empty() || !in_flight_.empty() || !(paused_ || requests_.empty())) return false;
  cache_.clear();
  return true;
}

// ---- Numbers

EngineStats EngineCore::stats() const {
  EngineStats s = stats_;
  s.paused = paused_;
  const int64_t P = info_.page_tokens;
  s.num_running = static_cast<int>(running_.size());
  s.num_queued = num_waiting();
  s.num_open = num_open();
  s.full_tokens_total = full_pool_.num_pages() * P;
  s.full_tokens_used = (full_pool_.num_leased() - full_pool_.num_evictable()) * P;
  s.sliding_tokens_total = sliding_pool_.num_pages() * P;
  s.sliding_tokens_used = (sliding_pool_.num_leased() - sliding_pool_.num_evictable()) * P;
  s.cached_tokens_evictable = full_pool_.num_evictable() * P;
  s.sliding_tokens_evictable = sliding_pool_.num_evictable() * P;
  return s;
}

void EngineCore::check_invariants() const {
  full_pool_.check();
  sliding_pool_.check();
  cache_.check();
  CARAT_CHECK(static_cast<int>(in_flight_.size()) < info_.pipeline_depth || in_flight_.empty(),
              "a turn ends with fewer steps in flight than the depth");
  CARAT_CHECK(static_cast<int>(running_.size()) <= max_running_, "not more than allowed are running");
  std::vector<int> full_refs(full_pool_.num_pages(), 0), sliding_refs(sliding_pool_.num_pages(), 0);
  std::vector<bool> slots(info_.max_slots, false);
  for (const int slot : free_slots_) {
    CARAT_CHECK(!slots[slot], "a slot is free once");
    slots[slot] = true;
  }
  size_t running = 0, waiting = 0;
  for (const auto& r : requests_) {
    int unfinished = 0;
    for (const auto& s : r->samples) {
      const bool ended = s->state == State::kDraining || s->state == State::kDone;
      unfinished += !ended;
      running += s->running();
      waiting += s->state == State::kWaiting;
      CARAT_CHECK((s->slot >= 0) == (s->running() || s->state == State::kDraining), "who runs or drains has a slot");
      if (s->slot >= 0) {
        CARAT_CHECK(!slots[s->slot], "a slot has one owner");
        slots[s->slot] = true;
      }
      if (s->state == State::kDraining) CARAT_CHECK(s->steps_in_flight > 0, "who drains waits for a step");
      for (int i = s->full.begin(); i < s->full.end(); ++i) ++full_refs[s->full.at(i)];
      for (int i = s->sliding.begin(); i < s->sliding.end(); ++i) ++sliding_refs[s->sliding.at(i)];
      if (s->running() && info_.window > 0)
        CARAT_CHECK(s->sliding.end() - s->sliding.begin() <=
                        ring_pages_ +
                            page_count(static_cast<int>(std::max(s->tokens.size(), size_t{1})) - s->known +
                                       info_.max_tokens_per_decode) +
                            1,
                    "pages behind the window are returned");
    }
    CARAT_CHECK_EQ(unfinished, r->num_unfinished);
    CARAT_CHECK(unfinished > 0 || r->num_released < static_cast<int>(r->samples.size()), "what has ended is forgotten");
  }
  CARAT_CHECK_EQ(running, running_.size());
  CARAT_CHECK_EQ(waiting, waiting_.size());
  for (int page = 0; page < full_pool_.num_pages(); ++page)
    if (full_refs[page] > 0) CARAT_CHECK(full_pool_.used_by_sequence(page), "a table's page is held");
  for (int page = 0; page < sliding_pool_.num_pages(); ++page)
    if (sliding_refs[page] > 0) CARAT_CHECK(sliding_pool_.used_by_sequence(page), "a table's page is held");
  if (requests_.empty() && in_flight_.empty()) {
    CARAT_CHECK_EQ(full_pool_.num_leased(), full_pool_.num_evictable());
    CARAT_CHECK_EQ(sliding_pool_.num_leased(), sliding_pool_.num_evictable());
    CARAT_CHECK_EQ(free_slots_.size(), static_cast<size_t>(info_.max_slots));
  }
}

}  // namespace carat
