#include "api/generation.h"

namespace carat {

Request to_engine_request(const PreparedPrompt& prompt) {
  Request request;
  request.id = prompt.id;
  request.prompt = prompt.ids;
  request.media = prompt.media;
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

SampleDecoder::SampleDecoder(const Tokenizer& tokenizer, const MarkerIds& markers, const PreparedPrompt& prompt)
    : markers_(markers), stream_(tokenizer, prompt.params.text) {
  if (prompt.message) parser_.emplace(*prompt.message);
}

SampleDecoder::Step SampleDecoder::push(std::span<const TokenId> tokens, const std::optional<Finish>& end,
                                        std::string& text, std::vector<MessagePart>& parts) {
  if (done_) return {};
  const bool matched = end && end->reason == FinishReason::kStop && end->matched_token && !tokens.empty() &&
                       tokens.back() == *end->matched_token;
  const bool at_limit = end && end->reason == FinishReason::kLength && !tokens.empty();
  auto delta = stream_.push(matched || at_limit ? tokens.first(tokens.size() - 1) : tokens);
  Step step{static_cast<size_t>(delta.num_tokens), std::move(delta.matched_stop)};
  add(std::move(delta), text, parts);
  done_ = step.matched_stop || end;
  if (!done_) return step;
  if (!step.matched_stop) {
    auto rest =
        at_limit ? stream_.finish_at_limit(tokens.back()) : stream_.finish(matched ? end->matched_token : std::nullopt);
    step.matched_stop = std::move(rest.matched_stop);
    add(std::move(rest), text, parts);
    if (matched || at_limit) ++step.num_tokens;
  }
  const bool truncated = !step.matched_stop && end->reason != FinishReason::kStop;
  if (parser_) parser_->finish(truncated, parts);
  return step;
}

void SampleDecoder::add(TextStream::Delta delta, std::string& text, std::vector<MessagePart>& parts) {
  if (!parser_) {
    text += delta.text;
    return;
  }
  std::string marked;
  markers_.append_marked(marked, delta);
  parser_->push(marked, parts);
}

}  // namespace carat
