#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "base/utf8.h"

namespace carat {

namespace {

/// Unicode's White_Space, which is what \s means to `tokenizers`. Python's str.isspace has four control characters
/// more.
bool is_white_space(char32_t c, bool space_is_mark) {
  return is_unicode_space(c) && !(c >= 0x1C && c <= 0x1F) && !(c == ' ' && space_is_mark);
}

size_t last_character_begin(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}
bool begins_with_word(std::string_view text) { return !text.empty() && is_unicode_word(decode_utf8(text).code_point); }
bool ends_with_word(std::string_view text) {
  return !text.empty() && is_unicode_word(decode_utf8(text.substr(last_character_begin(text))).code_point);
}
size_t white_space_at_end(std::string_view text, bool space_is_mark) {
  const size_t whole = text.size();
  while (!text.empty()) {
    const size_t at = last_character_begin(text);
    if (!is_white_space(decode_utf8(text.substr(at)).code_point, space_is_mark)) break;
    text = text.substr(0, at);
  }
  return whole - text.size();
}
size_t white_space_at_begin(std::string_view text, bool space_is_mark) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = decode_utf8(text.substr(at));
    if (!is_white_space(step.code_point, space_is_mark)) break;
    at += static_cast<size_t>(step.length);
  }
  return at;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens, bool space_is_mark)
    : space_is_mark_(space_is_mark), tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.content.empty(); });
  std::sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.content < b.content; });
  build_trie();
}

void AddedTokenMatcher::build_trie() {
  // Level by level: each node stands for the sorted tokens [begin, end), which agree in their first `depth` bytes.
  struct Task {
    uint32_t node;
    size_t begin, end, depth;
  };
  nodes_.emplace_back();
  std::vector<Task> tasks = {{0, 0, tokens_.size(), 0}};
  for (size_t next = 0; next < tasks.size(); ++next) {
    auto [node, begin, end, depth] = tasks[next];
    // Those that end here come first.
    for (; begin < end && tokens_[begin].content.size() == depth; ++begin)
      nodes_[node].token = static_cast<uint32_t>(begin);
    nodes_[node].first_edge = static_cast<uint32_t>(labels_.size());
    while (begin < end) {
      const char label = tokens_[begin].content[depth];
      size_t last = begin + 1;
      while (last < end && tokens_[last].content[depth] == label) ++last;
      labels_.push_back(static_cast<unsigned char>(label));
      targets_.push_back(static_cast<uint32_t>(nodes_.size()));
      tasks.push_back({static_cast<uint32_t>(nodes_.size()), begin, last, depth + 1});
      nodes_.emplace_back();
      ++nodes_[node].num_edges;
      begin = last;
    }
  }
  for (uint32_t edge = 0; edge < nodes_[0].num_edges; ++edge) may_begin_[labels_[edge]] = true;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text, size_t from) const {
  for (size_t at = from; at < text.size(); ++at)
    if (may_begin_[static_cast<unsigned char>(text[at])])
      if (auto match = longest_at(text, at)) return match;
  return std::nullopt;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::longest_at(std::string_view text, size_t begin) const {
  std::optional<Match> longest;
  const Node* node = nodes_.data();
  for (size_t at = begin; at < text.size(); ++at) {
    const auto first = labels_.begin() + node->first_edge, last = first + node->num_edges;
    const auto edge = std::lower_bound(first, last, static_cast<unsigned char>(text[at]));
    if (edge == last || *edge != static_cast<unsigned char>(text[at])) break;
    node = &nodes_[targets_[static_cast<size_t>(edge - labels_.begin())]];
    if (node->token != kNone) longest = Match{begin, at + 1, node->token};
  }
  return longest;
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::widen(std::string_view text, size_t done,
                                                                 Match match) const {
  const AddedToken& token = tokens_[match.token];
  const std::string_view before = text.substr(0, match.begin), after = text.substr(match.end);
  if (token.single_word && (ends_with_word(before) || begins_with_word(after))) return std::nullopt;
  if (token.lstrip && match.begin > done) match.begin -= white_space_at_end(before.substr(done), space_is_mark_);
  if (token.rstrip) match.end += white_space_at_begin(after, space_is_mark_);
  return match;
}

}  // namespace carat
