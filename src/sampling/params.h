#pragma once
// What one request asks of the sampler. Plain data, validated once at the door (validate), trusted afterwards.

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/token.h"

namespace carat {

struct ConstraintPlan;

struct SamplingParams {
  int max_new_tokens = 128;         ///< >= 0; 0 computes the prompt only
  int min_new_tokens = 0;           ///< end and stop tokens have probability 0 before so many tokens
  float temperature = 1.0f;         ///< below 1e-6: greedy
  float top_p = 1.0f;               ///< (0, 1]
  int top_k = -1;                   ///< -1: all
  float min_p = 0.0f;               ///< [0, 1]
  float frequency_penalty = 0.0f;   ///< [-2, 2], on generated tokens
  float presence_penalty = 0.0f;    ///< [-2, 2], on generated tokens
  float repetition_penalty = 1.0f;  ///< (0, 2], on generated tokens
  std::vector<std::pair<TokenId, float>> logit_bias = {};
  std::vector<TokenId> stop_token_ids = {};
  bool ignore_eos = false;  ///< the model's end tokens and stop_token_ids do not end the sequence
  /// The sample at a position depends on (seed, position) only; absent: the engine draws one
  std::optional<int64_t> seed = std::nullopt;
  std::shared_ptr<const ConstraintPlan> constraint = nullptr;  ///< the form of the answer; null: free
};

/// Which log-probabilities a request wants back.
struct LogprobParams {
  bool enabled = false;                            ///< of each generated token
  int num_top = 0;                                 ///< the best so many beside it
  std::optional<int> prompt_start = std::nullopt;  ///< also of the prompt's tokens from this position on
  std::vector<TokenId> token_ids = {};             ///< of these ids at every position
};

/// All that a sampler needs to know about one sequence. The engine fills it in.
struct SamplerSpec {
  SamplingParams params;  ///< max_new_tokens is the effective limit: context and KV pools are accounted for
  LogprobParams logprobs;
  uint64_t seed = 0;  ///< of this sample; always drawn, differs between the samples of a request
  /// What ends this sequence: the model's and the request's, none with ignore_eos. Probability 0 before
  /// params.min_new_tokens.
  std::vector<TokenId> end_token_ids;
  std::vector<TokenId> suppressed_token_ids;  ///< never sampled
};

/// Checks ranges against spec/api.md section 3 with SGLang's error texts. Errors: kInvalidArgument.
Result<void> validate(const SamplingParams& params, int vocab_size);

struct TokenLogprob {
  TokenId token = 0;
  float logprob = 0;
};

/// Log-probabilities of one position: after temperature, before top-k, top-p and min-p.
struct PositionLogprobs {
  float logprob = 0;              ///< of the token that stands there
  std::vector<TokenLogprob> top;  ///< exactly num_top, best first
  std::vector<TokenLogprob> ids;  ///< LogprobParams::token_ids, in that order
};

}  // namespace carat
