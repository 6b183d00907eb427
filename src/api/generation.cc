#include "api/generation.h"

#include <algorithm>

namespace carat {
namespace {
constexpr std::string_view kMarkers[] = {"<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
                                         "<|\"|>",       "<|channel>",   "<channel|>"};
}

int Prompt::reasoning_tokens(const Sample& sample) const {
  if (!prepared.thinking) return 0;
  return sample.reasoning_end.value_or(static_cast<int>(sample.tokens.size()));
}

SpecialFilter::SpecialFilter(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {
  for (const auto marker : kMarkers)
    if (const auto id = tokenizer.find(marker)) kept_.push_back(*id);
  std::sort(kept_.begin(), kept_.end());
}

bool SpecialFilter::drops(TokenId id) const {
  return tokenizer_ && tokenizer_->is_special(id) && !std::binary_search(kept_.begin(), kept_.end(), id);
}

SampleDecoder::SampleDecoder(const Tokenizer& tokenizer, SpecialFilter filter, const TextOptions& options)
    : filter_(std::move(filter)), stream_(tokenizer, options) {}

SampleDecoder::Step SampleDecoder::push_running(std::span<const TokenId> tokens) {
  Step step;
  size_t begin = 0;
  while (begin < tokens.size()) {
    const size_t end = static_cast<size_t>(std::find_if(tokens.begin() + static_cast<ptrdiff_t>(begin), tokens.end(),
                                                        [&](TokenId id) { return filter_.drops(id); }) -
                                           tokens.begin());
    auto delta = stream_.push(tokens.subspan(begin, end - begin));
    step.text += delta.text;
    if (delta.matched_stop) {
      step.matched_stop = std::move(delta.matched_stop);
      step.num_tokens = begin + static_cast<size_t>(delta.num_tokens);
      return step;
    }
    begin = end + 1;
  }
  step.num_tokens = tokens.size();
  return step;
}

SampleDecoder::Step SampleDecoder::push(std::span<const TokenId> tokens, const std::optional<Finish>& end) {
  if (done_) return {};
  const bool matched = end && end->reason == FinishReason::kStop && end->matched_token && !tokens.empty() &&
                       tokens.back() == *end->matched_token;
  Step step = push_running(matched ? tokens.first(tokens.size() - 1) : tokens);
  done_ = step.matched_stop.has_value();
  if (done_ || !end) return step;
  done_ = true;
  if (matched) ++step.num_tokens;
  const bool shown = matched && !filter_.drops(*end->matched_token);
  auto rest = stream_.finish(shown ? end->matched_token : std::nullopt);
  step.text += rest.text;
  step.matched_stop = std::move(rest.matched_stop);
  return step;
}

}  // namespace carat
