#include "engine/cuda_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace carat {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();

bool greedy(const SamplingParams& p) { return p.temperature < 1e-6f || p.top_k == 1; }
bool penalised(const SamplingParams& p) {
  return p.frequency_penalty != 0 || p.presence_penalty != 0 || p.repetition_penalty != 1.0f;
}
template <class T>
void send_list(const cuda::Stream& stream, T* to, const std::vector<T>& list) {
  if (!list.empty()) stream.copy_to_device(to, list.data(), static_cast<int64_t>(list.size() * sizeof(T)));
}
void sort_by_token(std::vector<cuda::TokenBias>& biases) {
  std::stable_sort(biases.begin(), biases.end(),
                   [](const cuda::TokenBias& a, const cuda::TokenBias& b) { return a.token < b.token; });
}

}  // namespace

int64_t CudaSampler::device_bytes(int max_slots, int vocab_size) {
  const int64_t slot = int64_t{2} * vocab_size + int64_t{2} * cuda::kMaxSampleBiases * sizeof(cuda::TokenBias) +
                       4 * cuda::kMaxSampleIds + 4 + sizeof(cuda::SampleResult) + 4 * num_mask_words(vocab_size) +
                       sizeof(cuda::SampleRow);
  return slot * max_slots + cuda::sample_scratch_bytes(max_slots);
}

Result<void> CudaSampler::init(int max_slots, int vocab_size, std::span<const TokenId> banned,
                               const cuda::Stream& stream) {
  vocab_size_ = vocab_size;
  banned_.assign(banned.begin(), banned.end());
  const int64_t slots = max_slots;
  slots_.resize(static_cast<size_t>(slots));
  CARAT_TRY(tokens_, cuda::DeviceBuffer::allocate(4 * slots));
  CARAT_TRY(results_, cuda::DeviceBuffer::allocate(slots * static_cast<int64_t>(sizeof(cuda::SampleResult))));
  CARAT_TRY(scratch_, cuda::DeviceBuffer::allocate(cuda::sample_scratch_bytes(max_slots)));
  CARAT_TRY(biases_, cuda::DeviceBuffer::allocate(slots * 2 * cuda::kMaxSampleBiases *
                                                  static_cast<int64_t>(sizeof(cuda::TokenBias))));
  CARAT_TRY(counts_, cuda::DeviceBuffer::allocate(slots * 2 * vocab_size));
  CARAT_TRY(ids_, cuda::DeviceBuffer::allocate(slots * 4 * cuda::kMaxSampleIds));
  for (int i = 0; i < kSteps; ++i) {
    CARAT_TRY(tokens_staging_[i], cuda::PinnedBuffer::allocate(tokens_.size()));
    CARAT_TRY(results_staging_[i], cuda::PinnedBuffer::allocate(results_.size()));
  }
  CARAT_TRY(masks_, cuda::DeviceBuffer::allocate(4 * slots * mask_words()));
  CARAT_TRY(host_masks_, cuda::PinnedBuffer::allocate(masks_.size()));
  CARAT_TRY(rows_, cuda::DeviceBuffer::allocate(slots * static_cast<int64_t>(sizeof(cuda::SampleRow))));
  CARAT_TRY(host_rows_, cuda::PinnedBuffer::allocate(rows_.size()));
  CARAT_TRY(mask_stream_, cuda::Stream::create());
  CARAT_TRY(masks_there_, cuda::Event::create());
  stream.fill(scratch_.data(), 0, scratch_.size());
  return {};
}

cuda::TokenBias* CudaSampler::biases(int slot, bool early) const {
  return biases_.as<cuda::TokenBias>() + (int64_t{2} * slot + (early ? 1 : 0)) * cuda::kMaxSampleBiases;
}

CudaSampler::Place CudaSampler::choose_place(const Slot& s) const {
  const LogprobParams& logprobs = s.spec.logprobs;
  const SamplingParams& p = s.spec.params;
  if (!p.constraint && greedy(p) && !penalised(p) && s.num_early_biases == 0 && !logprobs.enabled)
    return Place::kArgmax;
  const bool described = !logprobs.enabled || (logprobs.num_top <= cuda::kMaxSampleTop &&
                                               static_cast<int>(logprobs.token_ids.size()) <= cuda::kMaxSampleIds);
  const bool fits = described && s.num_early_biases <= cuda::kMaxSampleBiases && vocab_size_ <= cuda::kMaxSampleVocab;
  return !fits ? Place::kHost : p.constraint ? Place::kMasked : Place::kDevice;
}

void CudaSampler::open(const SlotOpen& open, const cuda::Stream& stream) {
  Slot& s = at(open.slot);
  s = Slot{};
  s.spec = open.sampler;
  s.num_generated = static_cast<int>(open.generated.size());
  const SamplingParams& p = s.spec.params;
  // A ban is a bias of -infinity. In SequenceSampler's order, then by token.
  std::vector<cuda::TokenBias> list;
  for (const auto& [token, bias] : p.logit_bias) list.push_back({token, bias});
  for (const TokenId token : s.spec.suppressed_token_ids)
    if (token >= 0 && token < vocab_size_ && std::ranges::count(banned_, token) == 0) list.push_back({token, kBanned});
  std::vector<cuda::TokenBias> early = list;
  if (s.num_generated < p.min_new_tokens)
    for (const TokenId token : s.spec.end_token_ids)
      if (token >= 0 && token < vocab_size_) early.push_back({token, kBanned});
  s.num_biases = static_cast<int>(list.size());
  s.num_early_biases = static_cast<int>(early.size());
  s.place = choose_place(s);
  if (s.place == Place::kHost) s.host.emplace(s.spec, vocab_size_, open.generated);
  if (s.place == Place::kHost || s.place == Place::kArgmax) return;
  if (s.place == Place::kMasked)
    s.mask.emplace(TokenConstraint(p.constraint, s.spec.end_token_ids, p.min_new_tokens, vocab_size_, open.generated),
                   std::span(host_masks_.as<uint32_t>() + open.slot * mask_words(), static_cast<size_t>(mask_words())));

  sort_by_token(list);
  sort_by_token(early);
  send_list(stream, biases(open.slot, false), list);
  send_list(stream, biases(open.slot, true), early);
  send_list(stream, ids(open.slot), s.spec.logprobs.token_ids);
  if (!penalised(p)) return;
  stream.fill(counts(open.slot), 0, int64_t{2} * vocab_size_);
  if (open.generated.empty()) return;
  std::vector<uint16_t> counted(static_cast<size_t>(vocab_size_));
  for (const TokenId token : open.generated) {
    uint16_t& n = counted[static_cast<size_t>(token)];
    if (n < std::numeric_limits<uint16_t>::max()) ++n;
  }
  send_list(stream, counts(open.slot), counted);
}

cuda::SampleRow CudaSampler::row(const Draw& draw, bool masked) {
  Slot& s = at(draw.slot);
  const SamplingParams& p = s.spec.params;
  const bool early = s.num_generated < p.min_new_tokens && !masked;  // masks see to it themselves
  cuda::SampleRow r{};
  r.logits_row = draw.logits_row;
  r.slot = draw.slot;
  r.sample = draw.sample;
  r.greedy = greedy(p);
  r.u = uniform_at(s.spec.seed, draw.position);
  r.inverse_temperature = p.temperature < 1e-6f ? 1.0f : 1.0f / p.temperature;
  r.top_k = std::max(p.top_k, 0);
  r.top_p = p.top_p;
  r.min_p_offset = p.min_p > 0 ? p.temperature * std::log(p.min_p) : kBanned;
  r.frequency_penalty = p.frequency_penalty;
  r.presence_penalty = p.presence_penalty;
  r.repetition_penalty = p.repetition_penalty;
  r.counts = penalised(p) ? counts(draw.slot) : nullptr;
  r.biases = biases(draw.slot, early);
  r.num_biases = early ? s.num_early_biases : s.num_biases;
  r.mask = masked ? masks_.as<uint32_t>() + draw.slot * mask_words() : nullptr;
  r.logprobs = s.spec.logprobs.enabled;
  r.num_top = s.spec.logprobs.num_top;
  r.ids = ids(draw.slot);
  r.num_ids = static_cast<int32_t>(s.spec.logprobs.token_ids.size());
  ++s.num_generated;
  return r;
}

void CudaSampler::add(CudaSampleRows& step, const Draw& draw) {
  step.rows.push_back(row(draw, false));
  step.logprobs |= spec(draw.slot).logprobs.enabled;
}

void CudaSampler::sample(const cuda::Launch& launch, const CudaSampleRows& step, const cuda::SampleRow* rows,
                         const void* logits, int32_t* last_token) {
  cuda::Launch plain = launch;
  plain.dependent = false;  // what it follows may be a graph
  cuda::sample(plain, rows, static_cast<int>(step.rows.size()), logits, vocab_size_, last_token, tokens(),
               results_.as<cuda::SampleResult>(), scratch_.data());
}

bool CudaSampler::sample_masked(const cuda::Launch& launch, const cuda::Stream& stream, std::span<const Draw> draws,
                                const void* logits, int32_t* last_token) {
  next_masks_.clear();
  for (const Draw& draw : draws) next_masks_.push_back(&*at(draw.slot).mask);
  mask_worker_.start(next_masks_);
  mask_worker_.finish();
  auto* const rows = host_rows_.as<cuda::SampleRow>();
  int first = std::numeric_limits<int>::max(), end = 0;  // slots with a mask
  bool logprobs = false;
  for (size_t i = 0; i < draws.size(); ++i) {
    const bool masked = !next_masks_[i]->mask().empty();
    rows[i] = row(draws[i], masked);
    logprobs |= spec(draws[i].slot).logprobs.enabled;
    if (!masked) continue;
    first = std::min(first, draws[i].slot);
    end = std::max(end, draws[i].slot + 1);
  }
  mask_stream_.copy_to_device(rows_.data(), rows, static_cast<int64_t>(draws.size() * sizeof(cuda::SampleRow)));
  if (first < end)
    mask_stream_.copy_to_device(masks_.as<uint32_t>() + first * mask_words(),
                                host_masks_.as<uint32_t>() + first * mask_words(), 4 * (end - first) * mask_words());
  masks_there_.record(mask_stream_);
  stream.wait(masks_there_);
  cuda::Launch plain = launch;
  plain.dependent = false;
  cuda::sample(plain, rows_.as<cuda::SampleRow>(), static_cast<int>(draws.size()), logits, vocab_size_, last_token,
               tokens(), results_.as<cuda::SampleResult>(), scratch_.data());
  return logprobs;
}

void CudaSampler::send(const cuda::Stream& stream, bool logprobs, int which, int num_samples) {
  stream.copy_to_host(tokens_staging_[which].data(), tokens_.data(), int64_t{4} * num_samples);
  if (logprobs)
    stream.copy_to_host(results_staging_[which].data(), results_.data(),
                        static_cast<int64_t>(sizeof(cuda::SampleResult)) * num_samples);
}

void CudaSampler::read(int which, int sample, SlotResult& result) {
  const TokenId token = tokens_staging_[which].as<int32_t>()[sample];
  result.tokens.push_back(token);
  if (auto& mask = at(result.slot).mask) {
    mask->accept(token);
    result.failure = mask->failure();
  }
  const LogprobParams& wanted = spec(result.slot).logprobs;
  if (!wanted.enabled) return;
  const cuda::SampleResult& r = results_staging_[which].as<cuda::SampleResult>()[sample];
  PositionLogprobs& out = result.logprobs.emplace_back();
  out.logprob = r.logprob;
  for (int i = 0; i < r.num_top; ++i) out.top.push_back({r.top_ids[i], r.top_logprobs[i]});
  // Where fewer are possible than asked for, the impossible ones follow in the order of their ids, as on the host.
  const auto num_top = static_cast<size_t>(std::min(wanted.num_top, vocab_size_));
  for (TokenId id = 0; out.top.size() < num_top; ++id)
    if (std::none_of(r.top_ids, r.top_ids + r.num_top, [&](int32_t top) { return top == id; }))
      out.top.push_back({id, kBanned});
  for (size_t i = 0; i < wanted.token_ids.size(); ++i) out.ids.push_back({wanted.token_ids[i], r.id_logprobs[i]});
}

}  // namespace carat
