#pragma once
// From a row of logits to one token, and log-probabilities. Plain arithmetic on one thread; exact, without full sorts.

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "sampling/next_mask.h"
#include "sampling/params.h"

namespace carat {

/// Uniform in [0, 1), depends on (seed, position) only.
double uniform_at(uint64_t seed, int64_t position);

/// The seed of sample `sample` of a request: the request's own for the first, unrelated ones for the others.
uint64_t sample_seed(uint64_t request_seed, int sample);

/// Room for intermediate values, reused from row to row. One per thread that samples.
struct SamplerScratch {
  struct Candidate {
    float value;
    TokenId id;
  };
  std::vector<float> maxima, order, terms;
  std::vector<double> sums, bins;
  std::vector<Candidate> candidates, top;
};

/// One sequence's sampler: its parameters, what it has generated and, where its form is constrained, its place in that.
/// Movable. One thread at a time.
class SequenceSampler {
 public:
  /// `generated`: what the sequence sampled before this sampler began (after a preemption).
  SequenceSampler(SamplerSpec spec, int vocab_size, std::span<const TokenId> generated = {});

  /// Samples the token at `position` (of the whole sequence: prompt.size() for the first) and records it as generated.
  /// logits [V] f32 are changed in place: penalties, biases and bans are applied to them. With `logprobs` the
  /// position's log-probabilities are stored there, as SamplerSpec::logprobs asks. The order: frequency and presence
  /// penalty, repetition penalty, logit_bias, bans, the constraint's mask; then temperature; then either top-k and
  /// top-p of the same distribution (the intersection), or with min_p: top-k, top-p of what is left, min-p. A token is
  /// then drawn by inverse cumulative distribution in id order with uniform_at(seed, position). Ties go to the lower
  /// id. Rows without any finite logit yield their first largest entry, or the first token that the constraint allows.
  TokenId sample(std::span<float> logits, int64_t position, SamplerScratch& scratch,
                 PositionLogprobs* logprobs = nullptr);

  /// The mask of the next position, for preparing it while the logits are being computed, on any one thread; sample()
  /// makes up for what was not done. Null without a constraint.
  NextMask* next_mask() { return next_mask_ ? &*next_mask_ : nullptr; }
  /// Why the sequence cannot keep its form; to be asked after sample().
  std::optional<Error> failure() const { return next_mask_ ? next_mask_->failure() : std::nullopt; }

  const SamplerSpec& spec() const { return spec_; }
  int num_generated() const { return num_generated_; }
  bool greedy() const { return spec_.params.temperature < 1e-6f || spec_.params.top_k == 1; }

 private:
  void record(TokenId token);
  void adjust(std::span<float> logits, std::span<const uint32_t> mask) const;
  TokenId draw(std::span<const float> logits, int64_t position, float best, SamplerScratch& scratch) const;

  SamplerSpec spec_;
  int vocab_size_;
  int num_generated_ = 0;
  bool penalised_;
  std::unordered_map<TokenId, int> counts_;  ///< of generated tokens; filled only if a penalty needs it
  std::vector<uint32_t> mask_memory_;        ///< [ceil(V / 32)] with a constraint
  std::optional<NextMask> next_mask_;
};

/// Log-probabilities of `token` in the softmax of logits * inverse_temperature, with the best `params.num_top` and
/// `params.token_ids`. For prompt positions use inverse_temperature 1 and the model's own logits.
PositionLogprobs position_logprobs(std::span<const float> logits, TokenId token, const LogprobParams& params,
                                   float inverse_temperature, SamplerScratch& scratch);

}  // namespace carat
