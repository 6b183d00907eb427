#include "output/text_stream.h"

#include <algorithm>
#include <utility>

#include "base/str.h"

namespace carat {

namespace {
bool contains(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}
}  // namespace

Result<void> validate(const TextOptions& options) {
  const auto bad = [](std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; };
  if (options.stop.size() > TextOptions::kMaxStops)
    return bad(str_cat("at most ", TextOptions::kMaxStops, " stop strings are allowed, got ", options.stop.size()));
  for (const std::string& stop : options.stop) {
    if (stop.empty()) return bad("a stop string must not be empty");
    if (stop.size() > TextOptions::kMaxStopBytes)
      return bad(
          str_cat("a stop string is ", stop.size(), " bytes, over the ", TextOptions::kMaxStopBytes, "-byte limit"));
  }
  return {};
}

TextStream::TextStream(const Tokenizer& tokenizer, TextOptions options)
    : tokenizer_(&tokenizer),
      options_(std::move(options)),
      decoder_(tokenizer, /*skip_special_tokens=*/false),  // skipping is done here
      matcher_(options_.stop) {
  if (options_.stop_regexes) regexes_.emplace(options_.stop_regexes);
}

TextStream::Delta TextStream::push(std::span<const TokenId> tokens) {
  Delta delta;
  for (const TokenId id : tokens) {
    const size_t start = held_.size();
    append(id);
    ++delta.num_tokens;
    if (settle(start, delta)) break;
  }
  return delta;
}

TextStream::Delta TextStream::finish(std::optional<TokenId> end_token) {
  Delta delta;
  const size_t start = held_.size();
  if (end_token && options_.no_stop_trim) append(*end_token);
  decoder_.finish(held_);
  if (end_token && !options_.no_stop_trim) {
    const bool is_special = tokenizer_->is_special(*end_token);
    append_hidden(is_special ? tokenizer_->piece(*end_token) : tokenizer_->token_bytes(*end_token), std::nullopt);
  }
  if (!settle(start, delta)) release(held_.size(), delta);
  return delta;
}

TextStream::Delta TextStream::finish_at_limit(TokenId last) {
  Delta delta;
  append(last);
  delta.num_tokens = 1;
  decoder_.finish(held_);
  release(held_.size(), delta);
  return delta;
}

bool TextStream::is_marker(TokenId id) const { return contains(options_.markers, id); }

bool TextStream::is_skipped(TokenId id) const { return options_.skip_special_tokens && tokenizer_->is_special(id); }

void TextStream::append(TokenId id) {
  if (is_marker(id)) {
    decoder_.finish(held_);  // a character does not go on behind a marker
    append_hidden(tokenizer_->piece(id), id);
  } else if (is_skipped(id)) {
    append_hidden(tokenizer_->piece(id), std::nullopt);
  } else {
    decoder_.push(id, held_);
  }
}

void TextStream::append_hidden(std::string_view text, std::optional<TokenId> marker) {
  const uint64_t begin = released_ + held_.size();
  hidden_.push_back({begin, begin + text.size(), marker});
  held_ += text;
}

bool TextStream::settle(size_t start, Delta& delta) {
  const std::string_view news = std::string_view(held_).substr(start);
  if (const auto match = matcher_.feed(news)) {
    const std::string& stop = matcher_.stop(match->stop);
    return stop_at(start + match->end - stop.size(), stop, delta);
  }
  if (regexes_)
    if (const auto match = regexes_->feed(news)) return stop_at(held_.size() - match->num_bytes, match->pattern, delta);
  release(held_.size() - std::max(matcher_.num_held(), regexes_ ? regexes_->num_held() : 0), delta);
  return false;
}

bool TextStream::stop_at(size_t begin, const std::string& stop, Delta& delta) {
  release(options_.no_stop_trim ? held_.size() : begin, delta);
  delta.matched_stop = stop;
  return true;
}

void TextStream::release(size_t num_bytes, Delta& delta) {
  const uint64_t end = released_ + num_bytes;
  uint64_t at = released_;
  const auto show_until = [&](uint64_t limit) {
    if (limit > at) delta.text.append(held_, at - released_, limit - at);
  };
  size_t num_done = 0;
  for (Hidden& hidden : hidden_) {
    if (hidden.begin >= end) break;
    show_until(hidden.begin);
    at = std::min(hidden.end, end);
    if (hidden.end > end) break;  // a marker counts from its last byte on
    if (hidden.marker) delta.markers.push_back({delta.text.size(), *hidden.marker});
    ++num_done;
  }
  show_until(end);
  hidden_.erase(hidden_.begin(), hidden_.begin() + static_cast<std::ptrdiff_t>(num_done));
  held_.erase(0, num_bytes);
  released_ = end;
}

}  // namespace carat
