#include "engine/cuda_runner.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <numeric>

#include "base/log.h"
#include "base/str.h"
#include "engine/cuda_sampler.h"
#include "engine/cuda_soft_tokens.h"
#include "engine/media_spans.h"
#include "model/text/cuda_text_model.h"
#include "sampling/sampler.h"
#include "tensor/bf16.h"
#include "tensor/cuda/device.h"

namespace carat {

namespace {

constexpr int kPageTokens = CudaTextModel::kPageTokens;
/// Beside what is planned: the context, libraries' handles and kernels, captured graphs.
constexpr int64_t kReserveBytes = int64_t{512} << 20;
constexpr int kStaging = CudaSampler::kSteps;  // step inputs in page-locked memory

/// The arrays of one step in one buffer, cut for its sizes; the same offsets on host and device.
struct InputLayout {
  int rows = 0, logits = 0, samples = 0;
  bool media = false;
  int64_t tokens, positions, slots, decode_tiles, prefill_tiles[2], up_tokens, up_positions, up_slots, up_tiles,
      logit_rows, sample_rows, sample_slots, counts, table_updates, device_rows, soft_rows, last_keys, up_soft_rows,
      size;

  InputLayout(int rows_, int prefill_rows, int logits_, int samples_, int updates, int num_device_rows, bool media_)
      : rows(rows_), logits(logits_), samples(samples_), media(media_) {
    int64_t at = 0;
    const auto take = [&](int64_t bytes) {
      const int64_t begin = at;
      at += (bytes + 63) / 64 * 64;
      return begin;
    };
    const int64_t tile = sizeof(cuda::AttentionTile);
    tokens = take(4 * rows);
    positions = take(4 * rows);
    slots = take(4 * rows);
    decode_tiles = take(tile * rows);
    for (auto& t : prefill_tiles) t = take(tile * prefill_rows);
    up_tokens = take(4 * logits);
    up_positions = take(4 * logits);
    up_slots = take(4 * logits);
    up_tiles = take(tile * logits);
    logit_rows = take(4 * logits);
    sample_rows = take(4 * samples);
    sample_slots = take(4 * samples);
    counts = take(8);  // samples, updates
    table_updates = take(static_cast<int64_t>(sizeof(cuda::TableUpdate)) * updates);
    device_rows = take(static_cast<int64_t>(sizeof(cuda::SampleRow)) * num_device_rows);
    soft_rows = take(media ? 4 * rows : 0);
    last_keys = take(media ? 4 * rows : 0);
    up_soft_rows = take(media ? 4 * logits : 0);
    size = at;
  }
};

struct Slot {
  bool open = false;
  int length = 0;
  std::shared_ptr<const std::vector<TokenId>> prompt;
  std::shared_ptr<const std::vector<MediaSpan>> media;  ///< null: none
};

class CudaRunnerImpl final : public CudaRunner {
 public:
  const RunnerInfo& info() const override { return info_; }
  const CudaBudget& budget() const override { return budget_; }
  void launch(Step step) override;
  Result<StepResult> take() override;
  bool ready() const override { return !in_flight_.empty() && staging_done_[in_flight_.front().staging].done(); }

  Result<void> init(const ModelConfig& config, std::shared_ptr<const TextWeights> weights, uint64_t seed,
                    const CudaRunnerOptions& options, std::unique_ptr<CudaMediaEncoder> encoder);

 private:
  /// What take() still has to do for a launched step.
  struct InFlight {
    int64_t id = 0;
    int staging = 0;
    StepResult result;  ///< host-sampled slots are complete
    struct DeviceToken {
      size_t entry;  ///< of result.slots
      int sample;    ///< its number in the step
    };
    std::vector<DeviceToken> device_tokens;
    std::vector<CudaSampler::Draw> masked;  ///< still to be sampled: their masks depend on the step before
    bool logprobs = false;                  ///< some device-sampled slot wants them
    int num_samples = 0;
  };
  /// Slices of a step turned into rows.
  struct Rows {
    struct Prefill {
      int slot, row, count, position;
    };
    std::vector<int32_t> tokens, positions, slots, logit_rows;
    std::vector<Prefill> prefills;
    std::vector<SoftSpan> soft;
    std::vector<cuda::AttentionTile> decode_tiles;
    std::vector<int32_t> sample_rows, sample_slots;  ///< index into logit_rows, slot
    CudaSampleRows device;                           ///< those of them that the sampler's kernel samples
  };

  cuda::Launch make_launch() const {
    cuda::Launch launch;
    launch.stream = stream_.handle();
    launch.num_sms = num_sms_;
    launch.dependent = options_.dependent_launches;
    launch.workspace = workspace_.data();
    launch.few_tokens = options_.few_tokens.value_or(launch.few_tokens);
    return launch;
  }
  CudaKvPool pool(KvPool which) const {
    CudaKvPool p;
    const bool full = which == KvPool::kFull;
    p.data = (full ? full_pages_ : sliding_pages_).data();
    p.page_bytes = model_->page_bytes(full ? AttentionKind::kFull : AttentionKind::kSliding);
    p.table = (full ? full_table_ : sliding_table_).as<int32_t>();
    p.table_stride = p.ring = full ? full_stride_ : sliding_stride_;
    return p;
  }
  Result<void> plan(const ModelConfig& config, const cuda::DeviceLimits& limits, int max_tokens);
  Result<CudaTextWeights> load(const TextWeights& weights) const;
  void apply_slots(const Step& step);
  void apply_excess(std::vector<cuda::TableUpdate>& updates, int staging);
  void copy_pages(const Step& step);
  const cuda::SampleRow* run_rows(const Rows& rows, const std::vector<cuda::TableUpdate>& updates, int staging,
                                  bool decode_only);
  void begin_rows(const InputLayout& layout, int32_t* ids, int64_t tokens, int64_t slots, int num_rows);
  void enqueue(const InputLayout& layout, const CudaStep& step);
  void add_prefill(Rows& rows, const Slot& s, int slot, std::span<const TokenId> tokens, int position) const;
  std::vector<PositionLogprobs> prompt_logprobs(const Slice& slice, std::vector<cuda::TableUpdate>& updates,
                                                int staging);
  std::span<const float> host_logits(int row);
  void complete(InFlight& flight);
  void wait_staging(int staging);

  CudaRunnerOptions options_;
  RunnerInfo info_;
  CudaBudget budget_;
  PleTable ple_table_ = PleTable::kDevice;
  TextConfig config_;
  cuda::PadIds pads_{};
  int num_sms_ = 132;
  cuda::Stream stream_;
  std::unique_ptr<CudaTextModel> model_;
  CudaSampler sampler_;
  CudaSoftTokens soft_tokens_;
  cuda::DeviceBuffer workspace_, input_, ids_, last_token_, full_table_, sliding_table_, full_pages_, sliding_pages_,
      copies_;
  cuda::PinnedBuffer input_staging_[kStaging], logits_staging_, host_tokens_, copies_staging_;
  cuda::Event staging_done_[kStaging];
  int full_stride_ = 1, sliding_stride_ = 1;
  int max_logits_ = 0, max_updates_ = 0;
  int next_staging_ = 0;
  std::vector<Slot> slots_;
  std::deque<InFlight> in_flight_;
  std::map<int, cuda::Graph> graphs_;  ///< by rows of a decode step
  SamplerScratch sampler_scratch_;
  std::vector<float> logits_f32_;
};

int graph_bucket(int rows) {
  if (rows <= 4) return rows;
  if (rows <= 32) return (rows + 3) / 4 * 4;
  if (rows <= 128) return (rows + 7) / 8 * 8;
  return (rows + 31) / 32 * 32;
}

Result<void> CudaRunnerImpl::init(const ModelConfig& config, std::shared_ptr<const TextWeights> weights, uint64_t seed,
                                  const CudaRunnerOptions& options, std::unique_ptr<CudaMediaEncoder> encoder) {
  options_ = options;
  config_ = config.text;
  pads_ = {{config.media.image.value_or(-1), config.media.video.value_or(-1), config.media.audio.value_or(-1)},
           config.generation.pad_token_id};
  CARAT_TRY_VOID(cuda::use_device(options.device));
  CARAT_TRY(const auto limits, cuda::device_limits());
  if (limits.compute_capability < 90)
    return Error{Errc::kUnsupported,
                 str_cat("GPU ", options.device, " has compute capability ", limits.compute_capability / 10, ".",
                         limits.compute_capability % 10, "; the kernels need 9.0 (Hopper); use --device cpu")};
  num_sms_ = limits.num_sms;
  budget_.total = limits.total_bytes;
  const char* detail = nullptr;
  budget_.has_cublaslt = cuda::cublaslt_available(&detail);
  budget_.matmul_library = detail;
  max_logits_ = std::max(64, options.max_slots);
  const int max_tokens = std::max(options.max_step_tokens, max_logits_);

  CARAT_TRY_VOID(plan(config, limits, max_tokens));
  const MemoryBudget& memory = budget_.plan;
  CARAT_TRY(stream_, cuda::Stream::create());
  CARAT_TRY(auto device_weights, weights ? load(*weights) : CudaTextWeights::random(config_, seed, ple_table_));
  budget_.host_bytes = device_weights.host_bytes;
  CARAT_TRY(model_, CudaTextModel::create(config_, std::move(device_weights), max_tokens, max_logits_, num_sms_));
  CARAT_TRY_VOID(model_->set_banned(options.suppressed_token_ids));
  CARAT_TRY(workspace_, cuda::DeviceBuffer::allocate(cuda::workspace_bytes(num_sms_)));

  full_stride_ = (memory.max_context + kPageTokens - 1) / kPageTokens;
  sliding_stride_ = config_.sliding_window / kPageTokens + 2 + (max_tokens + kPageTokens - 1) / kPageTokens + 1;
  CARAT_CHECK_EQ(memory.full_page_bytes, model_->page_bytes(AttentionKind::kFull));
  CARAT_CHECK_EQ(memory.sliding_page_bytes, model_->page_bytes(AttentionKind::kSliding));
  CARAT_TRY(full_pages_, cuda::DeviceBuffer::allocate(memory.full_bytes()));
  CARAT_TRY(sliding_pages_, cuda::DeviceBuffer::allocate(memory.sliding_bytes()));
  CARAT_TRY(full_table_, cuda::DeviceBuffer::allocate(int64_t{4} * options.max_slots * full_stride_));
  CARAT_TRY(sliding_table_, cuda::DeviceBuffer::allocate(int64_t{4} * options.max_slots * sliding_stride_));
  CARAT_TRY(ids_, cuda::DeviceBuffer::allocate(int64_t{4} *
                                               (options.max_step_tokens + 2 * int64_t{max_logits_} + max_tokens)));
  CARAT_TRY(last_token_, cuda::DeviceBuffer::allocate(int64_t{4} * options.max_slots));
  CARAT_TRY_VOID(sampler_.init(options.max_slots, config_.vocab_size, options.suppressed_token_ids, stream_));
  CARAT_TRY_VOID(soft_tokens_.init(std::move(encoder), config_.hidden_size, options.encoder_cache_tokens, max_tokens));
  max_updates_ = options.max_slots * 4 + 4 * full_stride_ + 4 * max_tokens;
  const InputLayout largest(max_tokens, max_tokens, max_logits_, options.max_slots, max_updates_, options.max_slots,
                            options.encoder_cache_tokens > 0);
  CARAT_TRY(input_, cuda::DeviceBuffer::allocate(largest.size));
  for (int i = 0; i < kStaging; ++i) {
    CARAT_TRY(input_staging_[i], cuda::PinnedBuffer::allocate(largest.size));
    CARAT_TRY(staging_done_[i], cuda::Event::create());
    staging_done_[i].record(stream_);
  }
  CARAT_TRY(logits_staging_, cuda::PinnedBuffer::allocate(int64_t{2} * max_logits_ * config_.vocab_size));
  CARAT_TRY(host_tokens_, cuda::PinnedBuffer::allocate(int64_t{4} * options.max_slots));
  CARAT_TRY(copies_, cuda::DeviceBuffer::allocate(int64_t{8} * options.max_slots * 4));
  CARAT_TRY(copies_staging_, cuda::PinnedBuffer::allocate(int64_t{8} * options.max_slots * 4));
  stream_.fill(workspace_.data(), 0, workspace_.size());
  stream_.fill(full_table_.data(), 0, full_table_.size());
  stream_.fill(sliding_table_.data(), 0, sliding_table_.size());
  stream_.fill(last_token_.data(), 0, last_token_.size());
  stream_.synchronize();
  slots_.resize(static_cast<size_t>(options.max_slots));
  logits_f32_.resize(static_cast<size_t>(config_.vocab_size));

  if (const Error* failure = cuda::device_failure()) return *failure;
  info_.vocab_size = config_.vocab_size;
  info_.max_context = memory.max_context;
  info_.page_tokens = kPageTokens;
  info_.window = config_.sliding_window;
  info_.num_full_pages = memory.num_full_pages;
  info_.num_sliding_pages = memory.num_sliding_pages;
  info_.max_slots = options.max_slots;
  info_.max_step_tokens = options.max_step_tokens;
  info_.pipeline_depth = 2;
  info_.max_media_tokens = soft_tokens_.max_item_tokens();
  info_.whole_media_blocks = config_.bidirectional_vision;
  CARAT_TRY(const auto after, cuda::device_limits());
  budget_.free_after = after.free_bytes;
  return {};
}

/// Who gets how much, before anything is taken.
Result<void> CudaRunnerImpl::plan(const ModelConfig& config, const cuda::DeviceLimits& limits, int max_tokens) {
  MemoryRequest request;
  request.available_bytes = limits.total_bytes;
  request.fraction = options_.mem_fraction;
  request.free_bytes = limits.free_bytes - kReserveBytes;
  request.workspace_bytes =
      CudaTextModel::workspace_bytes(config_, max_tokens, max_logits_, num_sms_) + cuda::workspace_bytes(num_sms_) +
      CudaSampler::device_bytes(options_.max_slots, config_.vocab_size) +
      CudaSoftTokens::device_bytes(config_.hidden_size, options_.encoder_cache_tokens, max_tokens);
  request.max_total_tokens = options_.max_total_tokens;
  request.max_running = options_.max_slots;
  request.max_context = options_.max_context;
  request.max_step_tokens = max_tokens;
  request.page_tokens = kPageTokens;
  request.sliding_ratio = options_.sliding_ratio;
  const auto with = [&](PleTable table) {
    request.weight_bytes = CudaTextWeights::bytes_needed(config_, table);
    return plan_memory(config, request);
  };
  ple_table_ = options_.ple_table.value_or(PleTable::kDevice);
  auto planned = with(ple_table_);
  if (!options_.ple_table && config_.ple_size > 0 && (!planned || !planned->holds_context())) {
    auto without = with(PleTable::kHost);
    if (without && (!planned || without->num_full_pages > planned->num_full_pages)) {
      ple_table_ = PleTable::kHost;
      planned = std::move(without);
    }
  }
  CARAT_TRY(budget_.plan, std::move(planned));
  return {};
}

Result<CudaTextWeights> CudaRunnerImpl::load(const TextWeights& weights) const {
  const int64_t total = CudaTextWeights::bytes_needed(config_, PleTable::kDevice);
  const auto progress = [&](int64_t done) {
    if (options_.load_progress) options_.load_progress(std::min(done, total), total);
  };
  return CudaTextWeights::upload(config_, weights, ple_table_, progress);
}

void CudaRunnerImpl::apply_slots(const Step& step) {
  for (const int slot : step.closes) {
    slots_[static_cast<size_t>(slot)] = Slot{};
    sampler_.close(slot);
  }
  for (const SlotOpen& open : step.opens) {
    Slot& s = slots_[static_cast<size_t>(open.slot)];
    s = Slot{};
    s.open = true;
    s.length = open.cached_length;
    s.prompt = open.prompt;
    s.media = open.media;
    sampler_.open(open, stream_);
  }
}

/// Takes off `updates` what does not fit beside a step's rows: when many long sequences with a known beginning come at
/// once, or fork.
void CudaRunnerImpl::apply_excess(std::vector<cuda::TableUpdate>& updates, int staging) {
  const auto room = static_cast<size_t>(max_updates_);
  while (updates.size() > room) {
    const InputLayout l(0, 0, 0, 0, max_updates_, 0, false);
    char* const host = input_staging_[staging].as<char>();
    const int32_t counts[2] = {0, max_updates_};
    std::memcpy(host + l.counts, counts, sizeof counts);
    std::memcpy(host + l.table_updates, updates.data(), room * sizeof(cuda::TableUpdate));
    stream_.copy_to_device(input_.data(), host, l.size);
    begin_rows(l, ids_.as<int32_t>(), l.tokens, l.slots, 0);
    stream_.synchronize();  // the staging buffer is used again
    updates.erase(updates.begin(), updates.begin() + max_updates_);
  }
}

void CudaRunnerImpl::copy_pages(const Step& step) {
  if (step.copies.empty()) return;
  stream_.synchronize();  // forks are rare; the staging buffer is reused
  for (const KvPool which : {KvPool::kFull, KvPool::kSliding}) {
    auto* ops = copies_staging_.as<cuda::PageCopyOp>();
    int n = 0;
    const CudaKvPool target = pool(which);
    const auto flush = [&] {
      if (n == 0) return;
      stream_.copy_to_device(copies_.data(), ops, int64_t{8} * n);
      cuda::copy_pages(make_launch(), target.data, target.page_bytes, copies_.as<cuda::PageCopyOp>(), n);
      stream_.synchronize();
      n = 0;
    };
    for (const PageCopy& c : step.copies) {
      if (c.pool != which) continue;
      ops[n++] = {c.from, c.to};
      if (n == options_.max_slots * 4) flush();
    }
    flush();
  }
}

/// Page-table entries, and the ids of rows whose tokens and slots are at these offsets of the device's input buffer.
void CudaRunnerImpl::begin_rows(const InputLayout& l, int32_t* ids, int64_t tokens, int64_t slots, int num_rows) {
  char* const base = input_.as<char>();
  const auto ints = [&](int64_t offset) { return reinterpret_cast<const int32_t*>(base + offset); };
  cuda::begin_step(make_launch(), ids, ints(tokens), ints(slots), last_token_.as<int32_t>(), num_rows,
                   full_table_.as<int32_t>(), sliding_table_.as<int32_t>(),
                   reinterpret_cast<const cuda::TableUpdate*>(base + l.table_updates), ints(l.counts) + 1, pads_);
}

/// The step's launches, with pointers into the device's input buffer.
void CudaRunnerImpl::enqueue(const InputLayout& l, const CudaStep& shape) {
  const cuda::Launch launch = make_launch();
  char* const base = input_.as<char>();
  const auto ints = [&](int64_t offset) { return reinterpret_cast<int32_t*>(base + offset); };
  const auto tiles = [&](int64_t offset) { return reinterpret_cast<const cuda::AttentionTile*>(base + offset); };
  const CudaKvPool full = pool(KvPool::kFull), sliding = pool(KvPool::kSliding);
  begin_rows(l, ids_.as<int32_t>(), l.tokens, l.slots, shape.all.num_rows);
  CudaStep step = shape;
  step.all.ids = ids_.as<int32_t>();
  step.all.positions = ints(l.positions);
  step.all.slots = ints(l.slots);
  step.all.decode_tiles = tiles(l.decode_tiles);
  for (int k = 0; k < 2; ++k) step.all.prefill_tiles[k] = tiles(l.prefill_tiles[k]);
  if (l.media) {
    step.all.soft = {soft_tokens_.step_rows(), ints(l.soft_rows)};
    if (config_.bidirectional_vision) step.all.last_keys = ints(l.last_keys);
  }
  step.logit_rows = ints(l.logit_rows);
  if (shape.narrow && shape.num_logits > 0) {
    // The wanted rows' ids: the same rule, so that decode rows find the token sampled last.
    int32_t* up_ids = ids_.as<int32_t>() + options_.max_step_tokens + max_logits_;
    begin_rows(l, up_ids, l.up_tokens, l.up_slots, shape.upper.num_rows);
    step.upper.ids = up_ids;
    step.upper.positions = ints(l.up_positions);
    step.upper.slots = ints(l.up_slots);
    step.upper.decode_tiles = tiles(l.up_tiles);
    if (l.media) step.upper.soft = {soft_tokens_.step_rows(), ints(l.up_soft_rows)};
  }
  model_->forward(launch, step, full, sliding);
  if (l.samples > 0)
    cuda::end_step(launch, last_token_.as<int32_t>(), sampler_.tokens(), model_->argmax(), ints(l.sample_rows),
                   ints(l.sample_slots), ints(l.counts), l.samples);
}

/// Sends the step and runs it; where its rows.device lie on the device.
const cuda::SampleRow* CudaRunnerImpl::run_rows(const Rows& rows, const std::vector<cuda::TableUpdate>& updates,
                                                int staging, bool decode_only) {
  const int real = static_cast<int>(rows.tokens.size());
  int num_rows = real, num_logits = static_cast<int>(rows.logit_rows.size());
  int update_room = static_cast<int>(updates.size());
  const int samples = static_cast<int>(rows.sample_rows.size());
  int sample_room = samples;
  bool graph = false;
  if (decode_only && options_.graphs && samples == real && num_logits == real) {
    const int bucket = std::min(graph_bucket(real), options_.max_slots);
    if (bucket >= real && update_room <= 4 * bucket + 16) {
      graph = true;
      num_rows = num_logits = sample_room = bucket;
      update_room = 4 * bucket + 16;
    }
  }
  const bool narrow = !decode_only && model_->shares_kv();
  const int prefill_rows = decode_only ? 0 : real;
  const std::vector<cuda::SampleRow>& device_rows = rows.device.rows;
  const InputLayout l(num_rows, prefill_rows, num_logits, sample_room, update_room,
                      static_cast<int>(device_rows.size()), !rows.soft.empty());
  CARAT_CHECK(l.size <= input_.size(), "a step's input does not fit its buffer");
  char* const host = input_staging_[staging].as<char>();
  const auto ints = [&](int64_t offset) { return reinterpret_cast<int32_t*>(host + offset); };
  const auto tiles = [&](int64_t offset) { return reinterpret_cast<cuda::AttentionTile*>(host + offset); };
  for (int r = 0; r < num_rows; ++r) {
    const bool pad = r >= real;
    ints(l.tokens)[r] = pad ? 0 : rows.tokens[static_cast<size_t>(r)];
    ints(l.positions)[r] = pad ? 0 : rows.positions[static_cast<size_t>(r)];
    ints(l.slots)[r] = pad ? -1 : rows.slots[static_cast<size_t>(r)];
  }
  const int num_decode = static_cast<int>(rows.decode_tiles.size());
  std::copy(rows.decode_tiles.begin(), rows.decode_tiles.end(), tiles(l.decode_tiles));
  for (int i = num_decode; i < (graph ? num_rows : num_decode); ++i) tiles(l.decode_tiles)[i] = {0, 0, 0, 0};
  CudaStep step;
  step.narrow = narrow;
  step.all.num_rows = num_rows;
  step.all.num_decode_tiles = graph ? num_rows : num_decode;
  for (int kind = 0; kind < 2; ++kind) {
    const int per = model_->prefill_tile_tokens(static_cast<AttentionKind>(kind));
    int n = 0;
    for (const auto& p : rows.prefills)
      for (int at = 0; at < p.count; at += per)
        tiles(l.prefill_tiles[kind])[n++] = {p.slot, p.row + at, std::min(per, p.count - at), p.position + at};
    step.all.num_prefill_tiles[kind] = n;
  }
  for (int i = 0; i < num_logits; ++i)
    ints(l.logit_rows)[i] = i < static_cast<int>(rows.logit_rows.size()) ? rows.logit_rows[static_cast<size_t>(i)] : 0;
  step.num_logits = num_logits;
  if (narrow) {
    for (int i = 0; i < num_logits; ++i) {
      const auto r = static_cast<size_t>(rows.logit_rows[static_cast<size_t>(i)]);
      ints(l.up_tokens)[i] = rows.tokens[r];
      ints(l.up_positions)[i] = rows.positions[r];
      ints(l.up_slots)[i] = rows.slots[r];
      tiles(l.up_tiles)[i] = {rows.slots[r], i, 1, rows.positions[r]};
    }
    step.upper.num_rows = step.upper.num_decode_tiles = num_logits;
  }
  if (l.media) {
    soft_tokens_.gather(make_launch(), stream_, rows.soft);
    std::fill_n(ints(l.soft_rows), num_rows, -1);
    std::copy_n(ints(l.positions), num_rows, ints(l.last_keys));
    for (const SoftSpan& span : rows.soft) {
      std::iota(ints(l.soft_rows) + span.row, ints(l.soft_rows) + span.row + span.count, span.row);
      if (span.last_key) std::fill_n(ints(l.last_keys) + span.row, span.count, *span.last_key);
    }
    for (int i = 0; narrow && i < num_logits; ++i)
      ints(l.up_soft_rows)[i] = ints(l.soft_rows)[rows.logit_rows[static_cast<size_t>(i)]];
  }
  std::copy(rows.sample_rows.begin(), rows.sample_rows.end(), ints(l.sample_rows));
  std::copy(rows.sample_slots.begin(), rows.sample_slots.end(), ints(l.sample_slots));
  ints(l.counts)[0] = samples;
  ints(l.counts)[1] = static_cast<int32_t>(updates.size());
  std::memcpy(host + l.table_updates, updates.data(), updates.size() * sizeof(cuda::TableUpdate));
  std::memcpy(host + l.device_rows, device_rows.data(), device_rows.size() * sizeof(cuda::SampleRow));
  stream_.copy_to_device(input_.data(), host, l.size);
  const auto* const sent_rows = reinterpret_cast<const cuda::SampleRow*>(input_.as<char>() + l.device_rows);
  if (!graph) {
    enqueue(l, step);
    return sent_rows;
  }
  auto found = graphs_.find(num_rows);
  if (found == graphs_.end()) {
    // The first step of a size runs launch by launch, which also makes libraries and kernels load; then it is captured
    // for the next.
    enqueue(l, step);
    stream_.synchronize();
    if (auto captured = cuda::Graph::capture(stream_, [&] { enqueue(l, step); }))
      graphs_.emplace(num_rows, std::move(captured));
  } else {
    found->second.launch(stream_);
  }
  return sent_rows;
}

std::span<const float> CudaRunnerImpl::host_logits(int row) {
  const auto* src = logits_staging_.as<uint16_t>() + static_cast<int64_t>(row) * config_.vocab_size;
  for (size_t i = 0; i < logits_f32_.size(); ++i) logits_f32_[i] = static_cast<float>(Bf16::from_bits(src[i]));
  return logits_f32_;
}

/// Rows for `tokens` of a prompt, from `position` on.
void CudaRunnerImpl::add_prefill(Rows& rows, const Slot& s, int slot, std::span<const TokenId> tokens,
                                 int position) const {
  const int first_row = static_cast<int>(rows.tokens.size()), count = static_cast<int>(tokens.size());
  rows.tokens.insert(rows.tokens.end(), tokens.begin(), tokens.end());
  for (int i = 0; i < count; ++i) {
    rows.positions.push_back(position + i);
    rows.slots.push_back(slot);
  }
  rows.prefills.push_back({slot, first_row, count, position});
  if (!s.media) return;
  for (const MediaSpan& span : spans_within(*s.media, position, position + count)) {
    const int begin = std::max(span.begin, position), end = std::min(end_of(span), position + count);
    SoftSpan soft{span.input, begin - span.begin, first_row + begin - position, end - begin, {}};
    if (info_.whole_media_blocks && is_block(span)) {
      CARAT_CHECK(end == end_of(span), "a slice ends inside an image whose soft tokens see each other");
      soft.last_key = end - 1;
    }
    std::fill_n(rows.tokens.begin() + soft.row, soft.count, pads_.to);  // whose per-layer embeddings they have
    rows.soft.push_back(std::move(soft));
  }
}

/// A prefill slice whose prompt positions are scored: run in pieces whose every wanted row fits the logits buffer. A
/// piece that must be longer, for an image's sake, runs once per so many rows.
std::vector<PositionLogprobs> CudaRunnerImpl::prompt_logprobs(const Slice& slice,
                                                              std::vector<cuda::TableUpdate>& updates, int staging) {
  Slot& s = slots_[static_cast<size_t>(slice.slot)];
  std::vector<PositionLogprobs> out;
  const int begin = s.length, last = begin + static_cast<int>(slice.tokens.size()) - 1;
  const std::span<const MediaSpan> blocks =
      info_.whole_media_blocks && s.media ? std::span<const MediaSpan>(*s.media) : std::span<const MediaSpan>();
  // All but the last row; that one joins the step's other rows. A piece contains it only as the end of an image.
  for (int position = begin; position < last;) {
    int end = uncut_end(blocks, position, std::min(last, position + max_logits_));
    if (end == position) end = position + smallest_slice(blocks, position);
    std::vector<int32_t> wanted;
    for (int p = position; p < std::min(end, last); ++p)
      if (p + 1 >= slice.prompt_logprob_begin && p + 1 < slice.prompt_logprob_end) wanted.push_back(p - position);
    size_t scored = 0;
    do {
      Rows rows;
      add_prefill(
          rows, s, slice.slot,
          std::span(slice.tokens).subspan(static_cast<size_t>(position - begin), static_cast<size_t>(end - position)),
          position);
      const size_t count = std::min(wanted.size() - scored, static_cast<size_t>(max_logits_));
      rows.logit_rows.assign(wanted.begin() + static_cast<int64_t>(scored),
                             wanted.begin() + static_cast<int64_t>(scored + count));
      stream_.synchronize();
      run_rows(rows, updates, staging, false);
      updates.clear();
      stream_.copy_to_host(logits_staging_.data(), model_->logits(),
                           int64_t{2} * static_cast<int64_t>(count) * config_.vocab_size);
      stream_.synchronize();
      for (size_t i = 0; i < count; ++i) {
        const auto predicted = static_cast<size_t>(position + rows.logit_rows[i] + 1);
        out.push_back(position_logprobs(host_logits(static_cast<int>(i)), (*s.prompt)[predicted],
                                        sampler_.spec(slice.slot).logprobs, 1.0f, sampler_scratch_));
      }
      scored += count;
    } while (scored < wanted.size());
    position = end;
  }
  return out;
}

void CudaRunnerImpl::launch(Step step) {
  // Steps come from the engine's thread, which has not chosen the device yet.
  if (auto chosen = cuda::use_device(options_.device); !chosen) cuda::report_failure(std::move(chosen).error());
  apply_slots(step);
  copy_pages(step);
  const int staging = next_staging_;
  next_staging_ = (next_staging_ + 1) % kStaging;
  staging_done_[staging].synchronize();

  std::vector<cuda::TableUpdate> updates;
  for (const PageUpdate& u : step.pages) {
    if (u.page < 0) continue;
    const bool full = u.pool == KvPool::kFull;
    const int stride = full ? full_stride_ : sliding_stride_;
    updates.push_back({full ? 0 : 1, u.slot * stride + u.logical % stride, u.page, 0});
  }

  apply_excess(updates, staging);

  InFlight flight;
  flight.id = step.id;
  flight.staging = staging;
  flight.result.id = step.id;
  Rows rows;
  struct HostSample {
    size_t entry;
    CudaSampler::Draw draw;
  };
  std::vector<HostSample> host_samples;
  struct LastPromptRow {
    size_t entry;
    int logits_row, slot, predicted;
  };
  std::vector<LastPromptRow> last_rows;
  bool decode_only = true;
  for (const Slice& slice : step.slices) {
    Slot& s = slots_[static_cast<size_t>(slice.slot)];
    CARAT_CHECK(s.open, "a slice of a closed slot");
    const bool scored = slice.prompt_logprob_end > slice.prompt_logprob_begin;
    std::vector<PositionLogprobs> scores;
    size_t first = 0;
    if (scored) {
      scores = prompt_logprobs(slice, updates, staging);
      s.length += static_cast<int>(slice.tokens.size()) - 1;
      first = slice.tokens.size() - 1;
    }
    const int begin_row = static_cast<int>(rows.tokens.size());
    int last_row;
    if (slice.tokens.empty()) {
      rows.tokens.push_back(-1);
      rows.positions.push_back(s.length);
      rows.slots.push_back(slice.slot);
      rows.decode_tiles.push_back({slice.slot, begin_row, 1, s.length});
      last_row = begin_row;
      s.length += 1;
    } else {
      decode_only = false;
      const int count = static_cast<int>(slice.tokens.size() - first);
      add_prefill(rows, s, slice.slot, std::span(slice.tokens).subspan(first), s.length);
      s.length += count;
      last_row = begin_row + count - 1;
    }
    const bool last_scored = scored && s.length >= slice.prompt_logprob_begin && s.length < slice.prompt_logprob_end;
    if (slice.sample_slots.empty() && !scored) continue;
    const int logits_row = static_cast<int>(rows.logit_rows.size());
    const size_t first_entry = flight.result.slots.size();
    if (!slice.sample_slots.empty() || last_scored) rows.logit_rows.push_back(last_row);
    if (slice.sample_slots.empty()) flight.result.slots.push_back(SlotResult{slice.slot, {}, {}, {}, {}});
    for (const int target : slice.sample_slots) {
      Slot& t = slots_[static_cast<size_t>(target)];
      if (target != slice.slot) t.length = s.length;
      const size_t entry = flight.result.slots.size();
      flight.result.slots.push_back(SlotResult{target, {}, {}, {}, {}});
      const CudaSampler::Draw draw{target, logits_row, static_cast<int>(rows.sample_rows.size()), s.length};
      const CudaSampler::Place place = sampler_.place(target);
      if (place == CudaSampler::Place::kHost)
        host_samples.push_back({entry, draw});
      else
        flight.device_tokens.push_back({entry, draw.sample});
      if (place == CudaSampler::Place::kDevice) sampler_.add(rows.device, draw);
      if (place == CudaSampler::Place::kMasked) flight.masked.push_back(draw);
      rows.sample_rows.push_back(logits_row);
      rows.sample_slots.push_back(target);
    }
    if (last_scored) last_rows.push_back({first_entry, logits_row, slice.slot, s.length});
    flight.result.slots[first_entry].prompt_logprobs = std::move(scores);
  }

  if (!rows.tokens.empty()) {
    const cuda::SampleRow* const device_rows = run_rows(rows, updates, staging, decode_only);
    sampler_.sample(make_launch(), rows.device, device_rows, model_->logits(), last_token_.as<int32_t>());
    if (!host_samples.empty() || !last_rows.empty()) {
      stream_.copy_to_host(logits_staging_.data(), model_->logits(),
                           int64_t{2} * static_cast<int64_t>(rows.logit_rows.size()) * config_.vocab_size);
      stream_.synchronize();
      for (const auto& row : last_rows) {
        const Slot& s = slots_[static_cast<size_t>(row.slot)];
        flight.result.slots[row.entry].prompt_logprobs.push_back(
            position_logprobs(host_logits(row.logits_row), (*s.prompt)[static_cast<size_t>(row.predicted)],
                              sampler_.spec(row.slot).logprobs, 1.0f, sampler_scratch_));
      }
      for (const auto& sample : host_samples) {
        SequenceSampler& host = sampler_.host(sample.draw.slot);
        SlotResult& result = flight.result.slots[sample.entry];
        host_logits(sample.draw.logits_row);
        PositionLogprobs* const logprobs = host.spec().logprobs.enabled ? &result.logprobs.emplace_back() : nullptr;
        const TokenId token = host.sample(logits_f32_, sample.draw.position, sampler_scratch_, logprobs);
        result.tokens.push_back(token);
        result.failure = host.failure();
        auto* pinned = host_tokens_.as<int32_t>() + sample.draw.slot;
        *pinned = token;
        stream_.copy_to_device(last_token_.as<int32_t>() + sample.draw.slot, pinned, 4);
      }
      stream_.synchronize();
    }
    flight.logprobs = rows.device.logprobs;
    flight.num_samples = static_cast<int>(rows.sample_rows.size());
  }
  // Masks wait for the tokens of the step before, which take() reads.
  if (flight.masked.empty() || in_flight_.empty()) complete(flight);
  in_flight_.push_back(std::move(flight));
}

/// The end of a launch: what is sampled with masks, and the way of the results to the host.
void CudaRunnerImpl::complete(InFlight& flight) {
  if (!flight.masked.empty()) {
    flight.logprobs |=
        sampler_.sample_masked(make_launch(), stream_, flight.masked, model_->logits(), last_token_.as<int32_t>());
    flight.masked.clear();
  }
  if (!flight.device_tokens.empty()) sampler_.send(stream_, flight.logprobs, flight.staging, flight.num_samples);
  staging_done_[flight.staging].record(stream_);
}

Result<StepResult> CudaRunnerImpl::take() {
  CARAT_CHECK(!in_flight_.empty(), "take() without a step in flight");
  InFlight flight = std::move(in_flight_.front());
  in_flight_.pop_front();
  staging_done_[flight.staging].synchronize();
  if (const Error* failure = cuda::device_failure()) return *failure;
  for (const auto& token : flight.device_tokens)
    sampler_.read(flight.staging, token.sample, flight.result.slots[token.entry]);
  if (!in_flight_.empty() && !in_flight_.front().masked.empty()) complete(in_flight_.front());
  return std::move(flight.result);
}

}  // namespace

Result<std::unique_ptr<CudaRunner>> CudaRunner::create(const ModelConfig& config,
                                                       std::shared_ptr<const TextWeights> weights, uint64_t seed,
                                                       const CudaRunnerOptions& options,
                                                       std::unique_ptr<CudaMediaEncoder> encoder) {
  auto runner = std::make_unique<CudaRunnerImpl>();
  CARAT_TRY_VOID(runner->init(config, std::move(weights), seed, options, std::move(encoder)));
  return std::unique_ptr<CudaRunner>(std::move(runner));
}

}  // namespace carat
