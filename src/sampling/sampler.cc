#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/check.h"
#include "sampling/passes.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

using sampling::kBlock;
using sampling::num_blocks;
using Candidate = SamplerScratch::Candidate;

constexpr float kBanned = -std::numeric_limits<float>::infinity();
/// For top-p alone, so many candidates are tried as a list; larger sets are described by their last member.
constexpr int64_t kListSizes[] = {64, 1024};

/// The order of all selection: larger values first, ties to the lower id.
bool before(const Candidate& a, const Candidate& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

uint64_t mix(uint64_t x) {  // the finaliser of SplitMix64: every input bit reaches every output bit
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

/// First index that holds the row's maximum, given the block maxima.
TokenId argmax(std::span<const float> x, std::span<const float> maxima, float best) {
  for (int64_t b = 0; b < num_blocks(static_cast<int64_t>(x.size())); ++b) {
    if (maxima[b] != best) continue;
    const int64_t end = std::min<int64_t>(x.size(), (b + 1) * kBlock);
    for (int64_t i = b * kBlock; i < end; ++i)
      if (x[i] == best) return static_cast<TokenId>(i);
  }
  return 0;  // nothing but NaNs
}

/// The entries of x not below `floor`, in id order; only blocks that can hold one are read.
void collect(std::span<const float> x, std::span<const float> maxima, float floor, std::vector<Candidate>& out) {
  out.clear();
  const int64_t n = static_cast<int64_t>(x.size());
  for (int64_t b = 0; b < num_blocks(n); ++b) {
    if (!(maxima[b] >= floor)) continue;
    const int64_t end = std::min(n, (b + 1) * kBlock);
    for (int64_t i = b * kBlock; i < end; ++i)
      if (x[i] >= floor) out.push_back({x[i], static_cast<TokenId>(i)});
  }
}

/// The k best of x, best first. The k largest values lie in blocks whose maximum is at least the k-th largest maximum.
void select_top(std::span<const float> x, std::span<const float> maxima, int64_t k, std::vector<float>& order,
                std::vector<Candidate>& out) {
  const int64_t blocks = num_blocks(static_cast<int64_t>(x.size()));
  float floor = kBanned;
  if (k <= blocks && k > 0) {
    order.assign(maxima.begin(), maxima.begin() + blocks);
    std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), std::greater<>());
    floor = order[k - 1];
  }
  collect(x, maxima, floor, out);
  if (static_cast<int64_t>(out.size()) > k) {
    std::nth_element(out.begin(), out.begin() + k, out.end(), before);
    out.resize(k);
  }
  std::sort(out.begin(), out.end(), before);
}

/// Weights relative to the best value: exp((x - best) / temperature).
struct Softmax {
  float best, scale;
  double weight(float value) const { return std::exp(static_cast<double>((value - best) * scale)); }
};

/// Length of the shortest prefix of `sorted` (best first) whose weight reaches `mass`, at least 1; sorted.size() + 1 if
/// all of it does not.
size_t prefix_with_mass(std::span<const Candidate> sorted, const Softmax& softmax, double mass) {
  double sum = 0;
  for (size_t i = 0; i < sorted.size(); ++i) {
    sum += softmax.weight(sorted[i].value);
    if (sum >= mass) return i + 1;
  }
  return sorted.size() + 1;
}

/// Bins of the distance to the best value, in units of the exponent: 64 per e-fold down to where weights are 0.
constexpr int kBinsPerFold = 64, kNumBins = 87 * kBinsPerFold + 1;
int bin_of(float value, const Softmax& softmax) {
  const float distance = (softmax.best - value) * (softmax.scale * kBinsPerFold);
  return distance < kNumBins - 1 ? static_cast<int>(distance) : kNumBins - 1;  // NaN: last
}

/// The last member of the shortest prefix (in selection order) of x whose weight reaches `mass`: a histogram finds the
/// bin in which that happens, and only the bin is sorted. scratch.terms has the weights.
Candidate last_with_mass(std::span<const float> x, const Softmax& softmax, double mass, SamplerScratch& scratch) {
  std::vector<double>& bins = scratch.bins;
  bins.assign(kNumBins, 0.0);
  for (size_t i = 0; i < x.size(); ++i) bins[bin_of(x[i], softmax)] += scratch.terms[i];
  int bin = 0;
  while (bin < kNumBins - 1 && bins[bin] < mass) mass -= bins[bin++];
  std::vector<Candidate>& members = scratch.candidates;
  members.clear();
  for (size_t i = 0; i < x.size(); ++i)
    if (bin_of(x[i], softmax) == bin && x[i] == x[i]) members.push_back({x[i], static_cast<TokenId>(i)});
  std::sort(members.begin(), members.end(), before);
  for (const Candidate& c : members) {
    mass -= scratch.terms[c.id];
    if (mass <= 0) return c;
  }
  return {kBanned, std::numeric_limits<TokenId>::max()};  // rounding: all of it
}

/// Draws from the listed candidates, in id order.
TokenId draw_from_list(std::vector<Candidate>& list, const Softmax& softmax, double u) {
  std::sort(list.begin(), list.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0;
  for (const Candidate& c : list) total += softmax.weight(c.value);
  double left = u * total;
  TokenId last = list.front().id;
  for (const Candidate& c : list) {
    const double w = softmax.weight(c.value);
    if (w <= 0) continue;
    last = c.id;
    left -= w;
    if (left < 0) break;
  }
  return last;  // rounding may leave a rest: the last candidate with any weight takes it
}

/// Draws from all of x, given the sums of its blocks.
TokenId draw_from_blocks(std::span<const float> x, std::span<const double> sums, double total, const Softmax& softmax,
                         double u) {
  const int64_t n = static_cast<int64_t>(x.size()), blocks = num_blocks(n);
  double left = u * total;
  int64_t b = 0, last = 0;
  for (; b < blocks; ++b) {
    if (sums[b] <= 0) continue;
    last = b;
    if (left < sums[b]) break;
    left -= sums[b];
  }
  const int64_t end = std::min(n, (last + 1) * kBlock);
  int64_t token = last * kBlock;
  for (int64_t i = last * kBlock; i < end; ++i) {
    const float z = (x[i] - softmax.best) * softmax.scale;
    if (!(z > -87.0f)) continue;  // as in the sums
    token = i;
    left -= std::exp(static_cast<double>(z));
    if (left < 0) break;
  }
  return static_cast<TokenId>(token);
}

/// Draws from the entries of x up to `cut` in selection order, for sets too large to list. scratch.terms has the
/// weights; those outside the set become 0.
TokenId draw_up_to(std::span<const float> x, const Candidate& cut, double u, SamplerScratch& scratch) {
  const int64_t n = static_cast<int64_t>(x.size()), blocks = num_blocks(n);
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    double sum = 0;
    for (int64_t i = b * kBlock; i < std::min(n, (b + 1) * kBlock); ++i) {
      const bool kept = x[i] > cut.value || (x[i] == cut.value && i <= cut.id);
      scratch.terms[i] = kept ? scratch.terms[i] : 0.0f;
      sum += scratch.terms[i];
    }
    total += scratch.sums[b] = sum;
  }
  double left = u * total;
  int64_t token = 0;
  for (int64_t b = 0; b < blocks; ++b) {
    const bool last = left < scratch.sums[b];
    if (!last) left -= scratch.sums[b];
    for (int64_t i = b * kBlock; i < std::min(n, (b + 1) * kBlock); ++i) {
      if (scratch.terms[i] <= 0) continue;
      token = i;  // rounding may leave a rest: the last one with any weight takes it
      if (!last) continue;
      left -= scratch.terms[i];
      if (left < 0) return static_cast<TokenId>(token);
    }
    if (last) break;
  }
  return static_cast<TokenId>(token);
}

/// log-probabilities, once the block maxima and the sum of exponentials are known.
PositionLogprobs describe(std::span<const float> x, TokenId token, const LogprobParams& params, const Softmax& softmax,
                          double total, SamplerScratch& scratch) {
  const double log_total = std::log(total);
  const auto logprob = [&](float value) {
    return static_cast<float>(static_cast<double>(value - softmax.best) * softmax.scale - log_total);
  };
  PositionLogprobs out;
  out.logprob = logprob(x[token]);
  if (params.num_top > 0) {
    const int64_t k = std::min<int64_t>(params.num_top, x.size());
    select_top(x, scratch.maxima, k, scratch.order, scratch.top);
    out.top.reserve(scratch.top.size());
    for (const Candidate& c : scratch.top) out.top.push_back({c.id, logprob(c.value)});
  }
  out.ids.reserve(params.token_ids.size());
  for (const TokenId id : params.token_ids) out.ids.push_back({id, logprob(x[id])});
  return out;
}

float prepare(std::span<const float> logits, SamplerScratch& scratch) {
  const int64_t blocks = num_blocks(static_cast<int64_t>(logits.size()));
  scratch.maxima.resize(blocks);
  scratch.sums.resize(blocks);
  return sampling::block_maxima(logits, scratch.maxima);
}

}  // namespace

double uniform_at(uint64_t seed, int64_t position) {
  const uint64_t key = mix(seed + 0x9e3779b97f4a7c15ull);
  const uint64_t bits = mix(mix(key ^ (static_cast<uint64_t>(position) * 0xd1342543de82ef95ull + 1)) + key);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

uint64_t sample_seed(uint64_t request_seed, int sample) {
  return sample == 0 ? request_seed : mix(mix(request_seed) + 0x9e3779b97f4a7c15ull * static_cast<uint64_t>(sample));
}

SequenceSampler::SequenceSampler(SamplerSpec spec, int vocab_size, std::span<const TokenId> generated)
    : spec_(std::move(spec)), vocab_size_(vocab_size) {
  const SamplingParams& p = spec_.params;
  penalised_ = p.frequency_penalty != 0 || p.presence_penalty != 0 || p.repetition_penalty != 1;
  for (const TokenId token : generated) record(token);
  if (!p.constraint) return;
  mask_memory_.resize(static_cast<size_t>(num_mask_words(vocab_size)));
  next_mask_.emplace(TokenConstraint(p.constraint, spec_.end_token_ids, p.min_new_tokens, vocab_size, generated),
                     mask_memory_);
}

void SequenceSampler::record(TokenId token) {
  ++num_generated_;
  if (penalised_) ++counts_[token];
}

void SequenceSampler::adjust(std::span<float> logits, std::span<const uint32_t> mask) const {
  const SamplingParams& p = spec_.params;
  for (const auto& [token, count] : counts_) {
    float& x = logits[token];
    x -= p.frequency_penalty * static_cast<float>(count) + p.presence_penalty;
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
  }
  for (const auto& [token, bias] : p.logit_bias) logits[token] += bias;
  const auto ban = [&](std::span<const TokenId> tokens) {
    for (const TokenId token : tokens)
      if (token >= 0 && token < vocab_size_) logits[token] = kBanned;
  };
  ban(spec_.suppressed_token_ids);
  if (!mask.empty())
    apply_mask(mask, logits);
  else if (num_generated_ < p.min_new_tokens)
    ban(spec_.end_token_ids);
}

TokenId SequenceSampler::draw(std::span<const float> x, int64_t position, float best, SamplerScratch& scratch) const {
  const SamplingParams& p = spec_.params;
  const int64_t vocab = static_cast<int64_t>(x.size());
  const Softmax softmax{best, 1.0f / p.temperature};
  const double u = uniform_at(spec_.seed, position);
  const int64_t k = p.top_k < 1 || p.top_k > vocab ? vocab : p.top_k;
  const bool has_top_p = p.top_p<1, has_min_p = p.min_p> 0;
  const auto full_sum = [&] { return sampling::block_exp_sums(x, best, softmax.scale, scratch.sums); };

  if (k == vocab && !has_top_p && !has_min_p) {
    const double total = full_sum();
    return draw_from_blocks(x, scratch.sums, total, softmax, u);
  }
  // What is kept is always a prefix of the selection order; `floor` is what min-p leaves of it.
  const float floor = has_min_p ? best + p.temperature * std::log(p.min_p) : kBanned;
  std::vector<Candidate>& list = scratch.candidates;
  const auto drop_below_floor = [&] {
    while (list.size() > 1 && list.back().value < floor) list.pop_back();
  };

  if (k < vocab) {
    select_top(x, scratch.maxima, k, scratch.order, list);
    if (has_top_p) {
      double total = 0;
      if (has_min_p)
        for (const Candidate& c : list) total += softmax.weight(c.value);
      else
        total = full_sum();
      list.resize(std::min(list.size(), prefix_with_mass(list, softmax, p.top_p * total)));
    }
    drop_below_floor();
    return draw_from_list(list, softmax, u);
  }
  if (has_top_p) {
    const double mass = p.top_p * full_sum();
    for (const int64_t size : kListSizes) {
      select_top(x, scratch.maxima, std::min(size, vocab), scratch.order, list);
      const size_t kept = prefix_with_mass(list, softmax, mass);
      if (kept > list.size() && list.back().value >= floor && size < vocab) continue;  // too short
      list.resize(std::min(kept, list.size()));
      drop_below_floor();
      return draw_from_list(list, softmax, u);
    }
    scratch.terms.resize(vocab);
    sampling::exp_terms(x, best, softmax.scale, scratch.terms);
    Candidate cut = last_with_mass(x, softmax, mass, scratch);
    if (cut.value < floor) cut = {floor, std::numeric_limits<TokenId>::max()};
    return draw_up_to(x, cut, u, scratch);
  }
  collect(x, scratch.maxima, floor, list);
  return draw_from_list(list, softmax, u);
}

TokenId SequenceSampler::sample(std::span<float> logits, int64_t position, SamplerScratch& scratch,
                                PositionLogprobs* logprobs) {
  CARAT_DCHECK(static_cast<int>(logits.size()) == vocab_size_, "a row has one logit per token");
  if (next_mask_) next_mask_->prepare();
  const std::span<const uint32_t> mask = next_mask_ ? next_mask_->mask() : std::span<const uint32_t>();
  adjust(logits, mask);
  const float best = prepare(logits, scratch);
  const bool usable = std::isfinite(best);
  TokenId token = 0;
  if (!mask.empty() && !(best > kBanned))
    token = mask_first(mask);
  else if (greedy() || !usable)
    token = argmax(logits, scratch.maxima, best);
  else
    token = draw(logits, position, best, scratch);
  if (logprobs) {
    const bool unscaled = spec_.params.temperature < 1e-6f;
    const Softmax softmax{best, unscaled ? 1.0f : 1.0f / spec_.params.temperature};
    const double total = sampling::block_exp_sums(logits, best, softmax.scale, scratch.sums);
    *logprobs = describe(logits, token, spec_.logprobs, softmax, total, scratch);
  }
  record(token);
  if (next_mask_) next_mask_->accept(token);
  return token;
}

PositionLogprobs position_logprobs(std::span<const float> logits, TokenId token, const LogprobParams& params,
                                   float inverse_temperature, SamplerScratch& scratch) {
  const float best = prepare(logits, scratch);
  const Softmax softmax{best, inverse_temperature};
  const double total = sampling::block_exp_sums(logits, best, inverse_temperature, scratch.sums);
  return describe(logits, token, params, softmax, total, scratch);
}

}  // namespace carat
