#include "output/stop_matcher.h"

#include <algorithm>

#include "base/check.h"

namespace carat {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& text : stops) {
    CARAT_CHECK(!text.empty(), "an empty stop string would stop everything");
    is_first_[static_cast<unsigned char>(text[0])] = true;
    Pattern pattern{std::move(text), {0}, 0};
    for (size_t i = 1; i < pattern.text.size(); ++i) {
      size_t border = pattern.border.back();
      while (border > 0 && pattern.text[border] != pattern.text[i]) border = pattern.border[border - 1];
      pattern.border.push_back(pattern.text[border] == pattern.text[i] ? border + 1 : border);
    }
    patterns_.push_back(std::move(pattern));
  }
}

/// Whether `c` completes the pattern.
bool StopMatcher::advance(Pattern& pattern, char c) {
  while (pattern.matched > 0 && pattern.text[pattern.matched] != c)
    pattern.matched = pattern.border[pattern.matched - 1];
  if (pattern.text[pattern.matched] == c) ++pattern.matched;
  return pattern.matched == pattern.text.size();
}

std::optional<StopMatcher::Match> StopMatcher::feed(std::string_view piece) {
  if (patterns_.empty()) return std::nullopt;
  for (size_t at = 0; at < piece.size(); ++at) {
    if (num_held_ == 0) {
      while (at < piece.size() && !is_first_[static_cast<unsigned char>(piece[at])]) ++at;
      if (at == piece.size()) break;
    }
    num_held_ = 0;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      if (advance(patterns_[i], piece[at])) return Match{i, at + 1};
      num_held_ = std::max(num_held_, patterns_[i].matched);
    }
  }
  return std::nullopt;
}

}  // namespace carat
