#include "engine/cpu_runner.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/thread_name.h"
#include "base/worker_pool.h"
#include "engine/media_spans.h"
#include "engine/soft_token_cache.h"
#include "model/text/kv_memory.h"
#include "model/text/text_model.h"
#include "sampling/mask_worker.h"
#include "sampling/sampler.h"
#include "tensor/bf16.h"

namespace carat {

namespace {

/// Logits computed at once. More rows read the head's weights again, once per so many rows, where a larger product
/// gains nothing any more.
constexpr int kMaxLogitRows = 64;

TextModel::Limits model_limits(int max_running, const CpuRunnerOptions& options) {
  return {options.max_step_tokens, std::clamp(max_running, 1, std::min(kMaxLogitRows, options.max_step_tokens))};
}

/// What the runner knows of an open sequence.
struct Slot {
  std::shared_ptr<const std::vector<TokenId>> prompt;
  std::shared_ptr<const std::vector<MediaSpan>> media;  ///< null: none
  std::optional<SequenceSampler> sampler;               ///< set while the slot is open
  std::vector<int32_t> full_table, sliding_table;
  int length = 0;          ///< tokens whose K/V are in the pages
  TokenId last_token = 0;  ///< the newest sampled token, at position `length`; its K/V are not computed yet

  bool open() const { return sampler.has_value(); }
  /// Nothing more may come: the limit of tokens is reached or the sequence has ended itself.
  bool done() const {
    const SamplerSpec& spec = sampler->spec();
    return sampler->num_generated() >= spec.params.max_new_tokens ||
           (sampler->num_generated() > 0 && std::ranges::count(spec.end_token_ids, last_token) > 0);
  }
};

/// A row of the step whose logits are wanted, and what for.
struct LogitRow {
  int slice = 0;
  int next_position = 0;  ///< of the token that the row predicts
  bool sampled = false;
};

/// Soft tokens of the items that slices touch: encoded when first needed, kept in the cache, and copied from there for
/// the step, since what one step needs may be more than the cache holds.
class SoftTokens {
 public:
  /// Of the cache and of a step.
  static int64_t num_bytes(const ModelConfig& config, const CpuRunnerOptions& options) {
    if (options.encoder_cache_tokens == 0) return 0;
    return (int64_t{options.encoder_cache_tokens} + options.max_step_tokens) * config.text.hidden_size *
           static_cast<int64_t>(sizeof(Bf16));
  }
  SoftTokens(std::unique_ptr<MediaEncoder> encoder, Buffer memory, int hidden_size, const CpuRunnerOptions& options)
      : encoder_(std::move(encoder)),
        memory_(std::move(memory)),
        hidden_size_(hidden_size),
        cache_(encoder_ ? options.encoder_cache_tokens : 0),
        step_{row(cache_.num_rows())} {}

  int max_item_tokens() const { return cache_.num_rows(); }
  /// `count` soft tokens from the item's token `first` on, to be the step's rows from `step_row` on.
  SoftRows fetch(ops::Context& ctx, const EncoderInput& input, int first, int count, int step_row) {
    cache_.release();  // what was asked for before has been copied
    const SoftTokenCache::Place place = cache_.find_or_take(input).value();
    if (place.fresh) encoder_->encode(ctx, input, {row(place.row), DType::kBf16, {input.num_tokens, hidden_size_}});
    Bf16* const values = step_ + int64_t{step_row} * hidden_size_;
    std::copy_n(row(place.row + first), int64_t{count} * hidden_size_, values);
    return {step_row, {values, DType::kBf16, {count, hidden_size_}}};
  }

 private:
  Bf16* row(int i) { return reinterpret_cast<Bf16*>(memory_.data()) + int64_t{i} * hidden_size_; }

  std::unique_ptr<MediaEncoder> encoder_;
  Buffer memory_;
  int64_t hidden_size_;
  SoftTokenCache cache_;
  Bf16* step_;  // [max_step_tokens, H]
};

}  // namespace

struct CpuRunner::Impl {
  Impl(std::unique_ptr<TextModel> text_model, const ModelConfig& config, const MemoryBudget& budget,
       const CpuRunnerOptions& options, KvMemory kv_memory, Buffer logits_memory, SoftTokens soft_tokens)
      : model(std::move(text_model)),
        kv(std::move(kv_memory)),
        logits_buffer(std::move(logits_memory)),
        media(std::move(soft_tokens)),
        workers(std::max(options.num_threads, 1)),
        context{options.backend, &workers},
        scratch(static_cast<size_t>(workers.num_threads())) {
    info.vocab_size = config.text.vocab_size;
    info.max_context = budget.max_context;
    info.page_tokens = budget.page_tokens;
    info.window = budget.sliding_page_bytes > 0 ? config.text.sliding_window : 0;
    info.num_full_pages = budget.num_full_pages;
    info.num_sliding_pages = budget.num_sliding_pages;
    info.max_slots = budget.max_running;
    info.max_step_tokens = options.max_step_tokens;
    info.pipeline_depth = options.pipeline_depth;
    info.max_media_tokens = media.max_item_tokens();
    info.whole_media_blocks = config.text.bidirectional_vision;
    make_slots();
    reserve_batch();
    thread = std::thread([this] { loop(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  void make_slots();
  void reserve_batch();
  void loop();
  StepResult run(const Step& step);
  void prepare(const Step& step);
  void open(const SlotOpen& o);
  void build_batch(const Step& step, StepResult& result);
  void start_masks(const Step& step);
  void add_rows(const Step& step, size_t slice, std::span<const TokenId> input);
  void add_media(const Slot& slot, int begin, int end);
  void sample_rows(const Step& step, StepResult& result);
  void finish_row(const Slice& slice, const LogitRow& row, std::span<float> logits, std::span<SlotResult> entries,
                  int worker);
  void sample(int slot, int position, std::span<float> logits, SlotResult& entry, SamplerScratch& sampler_scratch);
  Slot& slot_at(int slot) {
    CARAT_CHECK(slot >= 0 && slot < info.max_slots, "a step names a slot that does not exist");
    return slots[static_cast<size_t>(slot)];
  }

  // Set once.
  RunnerInfo info;
  std::unique_ptr<TextModel> model;
  KvMemory kv;
  Buffer logits_buffer;  // [max_logit_rows, V] f32, and one row per worker for samples that share logits
  SoftTokens media;

  // The runner's thread.
  WorkerPool workers;
  ops::Context context;
  std::vector<SamplerScratch> scratch;  // per worker
  std::vector<Slot> slots;
  std::vector<TokenId> tokens;
  std::vector<int32_t> positions, last_keys, indptr, logit_rows;
  std::vector<SoftRows> soft;
  bool blocks = false;  // some last key is not the row's own
  std::vector<const int32_t*> full_tables, sliding_tables;
  std::vector<LogitRow> row_uses;  // beside logit_rows
  std::vector<NextMask*> next_masks;
  MaskWorker masks;
  std::vector<size_t> first_entries;  // per slice, in the result

  // Both threads, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::deque<Step> waiting;
  std::deque<StepResult> finished;
  int in_flight = 0;  // launched and not taken
  bool stopping = false;

  std::thread thread;
};

void CpuRunner::Impl::make_slots() {
  const size_t pages = static_cast<size_t>((info.max_context + info.page_tokens - 1) / info.page_tokens);
  slots.resize(static_cast<size_t>(info.max_slots));
  for (Slot& slot : slots) {
    slot.full_table.assign(pages, -1);
    slot.sliding_table.assign(pages, -1);
  }
}

void CpuRunner::Impl::reserve_batch() {
  const size_t max_tokens = static_cast<size_t>(info.max_step_tokens);
  for (auto* list : {&positions, &last_keys, &indptr, &logit_rows}) list->reserve(max_tokens + 1);
  soft.reserve(max_tokens);
  tokens.reserve(max_tokens);
  full_tables.reserve(max_tokens);
  sliding_tables.reserve(max_tokens);
  row_uses.reserve(max_tokens);
  next_masks.reserve(static_cast<size_t>(info.max_slots));
  first_entries.reserve(max_tokens);
}

void CpuRunner::Impl::loop() try {
  set_thread_name("runner");
  std::unique_lock lock(mutex);
  while (true) {
    changed.wait(lock, [&] { return stopping || !waiting.empty(); });
    if (waiting.empty()) return;
    const Step step = std::move(waiting.front());
    waiting.pop_front();
    lock.unlock();
    StepResult result = run(step);
    lock.lock();
    finished.push_back(std::move(result));
    changed.notify_all();
  }
} catch (const std::exception& e) {
  log_error("the runner failed: ", e.what());
  std::abort();
}

StepResult CpuRunner::Impl::run(const Step& step) {
  StepResult result;
  result.id = step.id;
  prepare(step);
  build_batch(step, result);
  if (!tokens.empty()) {
    start_masks(step);
    const std::span<const int32_t> ahead = blocks ? std::span<const int32_t>(last_keys) : std::span<const int32_t>();
    model->forward(context, {tokens, positions, indptr, full_tables, sliding_tables, logit_rows, soft, ahead},
                   kv.view());
    masks.finish();
    sample_rows(step, result);
  }
  return result;
}

/// Which tokens may come next is known before the logits are.
void CpuRunner::Impl::start_masks(const Step& step) {
  next_masks.clear();
  for (const LogitRow& row : row_uses)
    if (row.sampled)
      for (const int slot : step.slices[static_cast<size_t>(row.slice)].sample_slots)
        if (NextMask* mask = slot_at(slot).sampler->next_mask()) next_masks.push_back(mask);
  masks.start(next_masks);
}

void CpuRunner::Impl::prepare(const Step& step) {
  for (const int slot : step.closes) {
    slot_at(slot).sampler.reset();
    slot_at(slot).prompt.reset();
    slot_at(slot).media.reset();
  }
  for (const SlotOpen& o : step.opens) open(o);
  for (const PageCopy& copy : step.copies)
    kv.copy_page(copy.pool == KvPool::kFull ? AttentionKind::kFull : AttentionKind::kSliding, copy.from, copy.to);
  for (const PageUpdate& update : step.pages) {
    Slot& slot = slot_at(update.slot);
    const bool full = update.pool == KvPool::kFull;
    CARAT_CHECK(update.page < (full ? info.num_full_pages : info.num_sliding_pages), "a page that does not exist");
    (full ? slot.full_table : slot.sliding_table).at(static_cast<size_t>(update.logical)) = update.page;
  }
}

void CpuRunner::Impl::open(const SlotOpen& o) {
  Slot& slot = slot_at(o.slot);
  CARAT_CHECK(!slot.open(), "a slot is opened twice");
  slot.prompt = o.prompt;
  slot.media = o.media;
  slot.sampler.emplace(o.sampler, info.vocab_size, o.generated);
  slot.length = o.cached_length;
  slot.last_token = o.generated.empty() ? 0 : o.generated.back();
  std::ranges::fill(slot.full_table, -1);
  std::ranges::fill(slot.sliding_table, -1);
}

/// Flattens the slices and makes their entries in the result. Slices of sequences that are done add no rows.
void CpuRunner::Impl::build_batch(const Step& step, StepResult& result) {
  tokens.clear();
  positions.clear();
  last_keys.clear();
  soft.clear();
  blocks = false;
  logit_rows.clear();
  row_uses.clear();
  full_tables.clear();
  sliding_tables.clear();
  first_entries.clear();
  indptr.assign(1, 0);
  for (size_t i = 0; i < step.slices.size(); ++i) {
    const Slice& slice = step.slices[i];
    const Slot& slot = slot_at(slice.slot);
    CARAT_CHECK(slot.open(), "a slice of a slot that is not open");
    first_entries.push_back(result.slots.size());
    for (const int sampled : slice.sample_slots) result.slots.emplace_back().slot = sampled;
    const int num_prompt_logprobs = slice.prompt_logprob_end - slice.prompt_logprob_begin;
    if (num_prompt_logprobs > 0) {
      if (slice.sample_slots.empty()) result.slots.emplace_back().slot = slice.slot;
      result.slots[first_entries.back()].prompt_logprobs.resize(static_cast<size_t>(num_prompt_logprobs));
    }
    const bool decode = slice.tokens.empty();
    if (decode && slot.done()) continue;
    add_rows(step, i, decode ? std::span(&slot.last_token, 1) : std::span(slice.tokens));
  }
}

void CpuRunner::Impl::add_rows(const Step& step, size_t slice_idx, std::span<const TokenId> input) {
  const Slice& slice = step.slices[slice_idx];
  Slot& slot = slot_at(slice.slot);
  const int end = slot.length + static_cast<int>(input.size());
  CARAT_CHECK(end <= info.max_context, "a slice beyond the context");
  CARAT_CHECK(tokens.size() + input.size() <= static_cast<size_t>(info.max_step_tokens), "a step with too many tokens");
  for (int position = slot.length; position < end; ++position) {
    const LogitRow use{static_cast<int>(slice_idx), position + 1, position + 1 == end && !slice.sample_slots.empty()};
    if (use.sampled ||
        (use.next_position >= slice.prompt_logprob_begin && use.next_position < slice.prompt_logprob_end)) {
      logit_rows.push_back(static_cast<int32_t>(positions.size()));
      row_uses.push_back(use);
    }
    positions.push_back(position);
  }
  last_keys.insert(last_keys.end(), positions.begin() + static_cast<int64_t>(tokens.size()), positions.end());
  if (slot.media) add_media(slot, slot.length, end);
  tokens.insert(tokens.end(), input.begin(), input.end());
  indptr.push_back(static_cast<int32_t>(tokens.size()));
  full_tables.push_back(slot.full_table.data());
  sliding_tables.push_back(slot.sliding_table.data());
  slot.length = end;
}

/// Soft rows and last keys of the positions [begin, end), which follow the step's `tokens`.
void CpuRunner::Impl::add_media(const Slot& slot, int begin, int end) {
  const int first_row = static_cast<int>(tokens.size());
  for (const MediaSpan& span : spans_within(*slot.media, begin, end)) {
    const int from = std::max(span.begin, begin), to = std::min(end_of(span), end), row = first_row + from - begin;
    soft.push_back(media.fetch(context, *span.input, from - span.begin, to - from, row));
    if (!info.whole_media_blocks || !is_block(span)) continue;
    CARAT_CHECK(to == end_of(span), "a slice ends inside an image whose soft tokens see each other");
    std::fill_n(last_keys.begin() + row, to - from, to - 1);
    blocks = true;
  }
}

void CpuRunner::Impl::sample_rows(const Step& step, StepResult& result) {
  const int block = model->limits().max_logit_rows, num_rows = static_cast<int>(logit_rows.size());
  const int64_t vocab = info.vocab_size;
  float* data = reinterpret_cast<float*>(logits_buffer.data());
  for (int first = 0; first < num_rows; first += block) {
    const int count = std::min(block, num_rows - first);
    model->logits(context, first, {data, DType::kF32, {count, vocab}});
    workers.parallel_for(count, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) {
        const LogitRow& row = row_uses[static_cast<size_t>(first + i)];
        const auto slice = static_cast<size_t>(row.slice);
        finish_row(step.slices[slice], row, {data + i * vocab, static_cast<size_t>(vocab)},
                   std::span(result.slots).subspan(first_entries[slice]), worker);
      }
    });
  }
}

/// Everything that a row's logits are for. The sampler changes them, so what else reads them comes first, and all
/// samples but the last work on a copy.
void CpuRunner::Impl::finish_row(const Slice& slice, const LogitRow& row, std::span<float> logits,
                                 std::span<SlotResult> entries, int worker) {
  const Slot& slot = slots[static_cast<size_t>(slice.slot)];
  SamplerScratch& sampler_scratch = scratch[static_cast<size_t>(worker)];
  if (row.next_position >= slice.prompt_logprob_begin && row.next_position < slice.prompt_logprob_end) {
    const TokenId next = slot.prompt->at(static_cast<size_t>(row.next_position));
    entries[0].prompt_logprobs[static_cast<size_t>(row.next_position - slice.prompt_logprob_begin)] =
        position_logprobs(logits, next, slot.sampler->spec().logprobs, 1.0f, sampler_scratch);
  }
  if (!row.sampled) return;
  const size_t last = slice.sample_slots.size() - 1;
  const std::span<float> copy(reinterpret_cast<float*>(logits_buffer.data()) +
                                  (model->limits().max_logit_rows + worker) * int64_t{info.vocab_size},
                              logits.size());
  for (size_t i = 0; i <= last; ++i) {
    if (i < last) std::ranges::copy(logits, copy.begin());
    sample(slice.sample_slots[i], row.next_position, i < last ? copy : logits, entries[i], sampler_scratch);
  }
}

void CpuRunner::Impl::sample(int slot_idx, int position, std::span<float> logits, SlotResult& entry,
                             SamplerScratch& sampler_scratch) {
  Slot& slot = slot_at(slot_idx);
  CARAT_CHECK(slot.open(), "a token for a slot that is not open");
  const bool wanted = slot.sampler->spec().logprobs.enabled;
  if (wanted) entry.logprobs.resize(1);
  slot.last_token = slot.sampler->sample(logits, position, sampler_scratch, wanted ? entry.logprobs.data() : nullptr);
  slot.length = position;  // further samples of a request continue from here too
  entry.tokens.push_back(slot.last_token);
  entry.failure = slot.sampler->failure();
}

CpuRunner::CpuRunner() = default;
CpuRunner::~CpuRunner() = default;

int64_t CpuRunner::workspace_bytes(const ModelConfig& config, int max_running, const CpuRunnerOptions& options) {
  const TextModel::Limits limits = model_limits(max_running, options);
  const int64_t rows = limits.max_logit_rows + std::max(options.num_threads, 1);
  return TextModel::workspace_bytes(config, limits) + SoftTokens::num_bytes(config, options) +
         rows * config.text.vocab_size * static_cast<int64_t>(sizeof(float));
}

Result<std::unique_ptr<CpuRunner>> CpuRunner::create(const ModelConfig& config,
                                                     std::shared_ptr<const TextWeights> weights,
                                                     const MemoryBudget& budget, const CpuRunnerOptions& options,
                                                     std::unique_ptr<MediaEncoder> encoder) {
  CARAT_CHECK(options.pipeline_depth >= 1 && options.max_step_tokens >= 1, "a runner takes steps");
  CARAT_CHECK(budget.max_running <= options.max_step_tokens, "every running sequence has a row in a step");
  const TextModel::Limits limits = model_limits(budget.max_running, options);
  CARAT_TRY(auto model, TextModel::create(config, std::move(weights), limits));
  CARAT_TRY(auto kv, KvMemory::create(model->kv_layout(),
                                      {budget.num_full_pages, budget.num_sliding_pages, budget.page_tokens}));
  CARAT_CHECK((encoder != nullptr) == (options.encoder_cache_tokens > 0), "an encoder has a cache");
  CARAT_TRY(auto soft, Buffer::allocate(SoftTokens::num_bytes(config, options)));
  const int64_t rows = limits.max_logit_rows + std::max(options.num_threads, 1);
  CARAT_TRY(auto logits, Buffer::allocate(rows * config.text.vocab_size * static_cast<int64_t>(sizeof(float))));
  std::unique_ptr<CpuRunner> runner(new CpuRunner);
  runner->impl_ =
      std::make_unique<Impl>(std::move(model), config, budget, options, std::move(kv), std::move(logits),
                             SoftTokens(std::move(encoder), std::move(soft), config.text.hidden_size, options));
  return runner;
}

const RunnerInfo& CpuRunner::info() const { return impl_->info; }

void CpuRunner::launch(Step step) {
  {
    const std::lock_guard lock(impl_->mutex);
    CARAT_CHECK(impl_->in_flight < impl_->info.pipeline_depth, "more steps in flight than the runner takes");
    ++impl_->in_flight;
    impl_->waiting.push_back(std::move(step));
  }
  impl_->changed.notify_all();
}

Result<StepResult> CpuRunner::take() {
  std::unique_lock lock(impl_->mutex);
  CARAT_CHECK(impl_->in_flight > 0, "no step is in flight");
  impl_->changed.wait(lock, [&] { return !impl_->finished.empty(); });
  StepResult result = std::move(impl_->finished.front());
  impl_->finished.pop_front();
  --impl_->in_flight;
  return result;
}

bool CpuRunner::ready() const {
  const std::lock_guard lock(impl_->mutex);
  return !impl_->finished.empty();
}

}  // namespace carat
