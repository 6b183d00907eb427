#pragma once
// Tokens that are recognised by their text before BPE sees it: <bos>, <|turn>, runs of newlines, HTML tags.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/token.h"

namespace carat {

/// An entry of "added_tokens" in tokenizer.json.
struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool single_word = false;  ///< only where no word character is beside it
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< and after it
};

/// Finds added tokens in text: from left to right the longest one at each place, as `tokenizers` does. Immutable.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  /// `space_is_mark`: the text is normalised, so a space in it stands for "▁", which is no white space to strip.
  AddedTokenMatcher(std::vector<AddedToken> tokens, bool space_is_mark);
  bool empty() const { return tokens_.empty(); }

  /// Calls on_text(std::string_view) and on_token(TokenId) for the parts of `text` in order. `text` is valid UTF-8.
  template <class OnText, class OnToken>
  void split(std::string_view text, OnText on_text, OnToken on_token) const {
    size_t done = 0;  // text[0, done) was handed over
    for (size_t at = 0; const auto match = find(text, at);) {
      at = match->end;
      const auto part = widen(text, done, *match);
      if (!part) continue;
      if (done < part->begin) on_text(text.substr(done, part->begin - done));
      on_token(tokens_[part->token].id);
      done = part->end;
    }
    if (done < text.size()) on_text(text.substr(done));
  }

 private:
  struct Match {
    size_t begin, end;
    uint32_t token;  // an index
  };
  struct Node {
    uint32_t first_edge = 0;
    uint32_t num_edges = 0;
    uint32_t token = kNone;
  };
  static constexpr uint32_t kNone = ~uint32_t{0};

  void build_trie();
  std::optional<Match> find(std::string_view text, size_t from) const;
  std::optional<Match> longest_at(std::string_view text, size_t at) const;
  /// Applies the token's flags; nothing if they rule this place out.
  std::optional<Match> widen(std::string_view text, size_t done, Match match) const;

  bool space_is_mark_ = false;
  std::vector<AddedToken> tokens_;     // sorted by content
  std::vector<Node> nodes_;            // a trie over bytes; node 0 is its root
  std::vector<unsigned char> labels_;  // of edges, ascending within a node
  std::vector<uint32_t> targets_;      // of edges
  std::array<bool, 256> may_begin_ = {};
};

}  // namespace carat
