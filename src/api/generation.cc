#include "api/generation.h"

namespace carat {

Request to_engine_request(const PreparedPrompt& prompt) {
  Request request;
  request.id = prompt.id;
  request.prompt = prompt.ids;
  request.sampling = prompt.params.sampling;
  request.logprobs = prompt.params.logprobs;
  request.num_samples = prompt.params.n;
  request.priority = prompt.priority;
  request.cache_salt = prompt.cache_salt;
  return request;
}

int Prompt::reasoning_tokens(const Sample& sample) const {
  if (!prepared.thinking) return 0;
  return sample.reasoning_end.value_or(static_cast<int>(sample.tokens.size()));
}

SampleDecoder::Step SampleDecoder::push(std::span<const TokenId> tokens, const std::optional<Finish>& end) {
  if (done_) return {};
  const bool matched = end && end->reason == FinishReason::kStop && end->matched_token && !tokens.empty() &&
                       tokens.back() == *end->matched_token;
  const bool at_limit = end && end->reason == FinishReason::kLength && !tokens.empty();
  auto delta = stream_.push(matched || at_limit ? tokens.first(tokens.size() - 1) : tokens);
  Step step{std::move(delta.text), static_cast<size_t>(delta.num_tokens), std::move(delta.matched_stop)};
  done_ = step.matched_stop.has_value();
  if (done_ || !end) return step;
  done_ = true;
  auto rest =
      at_limit ? stream_.finish_at_limit(tokens.back()) : stream_.finish(matched ? end->matched_token : std::nullopt);
  step.text += rest.text;
  step.matched_stop = std::move(rest.matched_stop);
  if (matched || at_limit) ++step.num_tokens;
  return step;
}

}  // namespace carat
