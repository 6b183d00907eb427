#pragma once
// Strings of bounded length. As parts of an automaton their characters would be states of their own, each to be
// compared with the whole vocabulary. So a grammar has one token in place of such a text, which is no token of the
// model, and what the model writes there is counted.

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/token.h"

namespace carat {

/// In characters, both included.
struct TextBounds {
  int64_t least = 0;
  std::optional<int64_t> most;
  friend bool operator==(const TextBounds&, const TextBounds&) = default;
};

enum class TextStyle {
  kJson,   ///< inside of a JSON string: an escape like \n is one character; no \u
  kPlain,  ///< anything but NUL
};

/// The tokens of a vocabulary as parts of such texts. Constant.
class TextTokens {
 public:
  /// A token with the end of a text and what comes behind it.
  struct Closer {
    int length;    ///< characters that still belong to the text, >= 1
    TokenId rest;  ///< what follows, which is a token too
  };

  /// `pieces`: the bytes of each token.
  TextTokens(const std::vector<std::string>& pieces, TextStyle style);

  /// Its characters; 0 if it is not made of whole characters of a text.
  int length(TokenId token) const { return lengths_[static_cast<size_t>(token)]; }
  /// The tokens of 1 to `most` characters, as bits. [ceil(V / 32)]
  std::span<const uint32_t> up_to(int64_t most) const;
  const std::unordered_map<TokenId, Closer>& closers() const { return closers_; }
  /// The token of a byte that is no character alone (0x80 .. 0xF4), if there is one for each of them.
  std::optional<TokenId> byte(int value) const;
  std::optional<uint8_t> byte_of(TokenId token) const;
  /// What begins an escape of JSON's, and what may follow it, each a token of one byte; none if one is missing.
  std::optional<TokenId> escape() const { return escape_; }
  std::span<const TokenId> escaped() const { return escaped_; }

 private:
  std::vector<uint16_t> lengths_;             ///< [V]
  std::vector<std::vector<uint32_t>> up_to_;  ///< by number of characters, the longest token's at the end
  std::unordered_map<TokenId, Closer> closers_;
  std::array<TokenId, 256> bytes_;
  std::unordered_map<TokenId, uint8_t> byte_of_;
  std::optional<TokenId> escape_;
  std::vector<TokenId> escaped_;
};

/// A text under way. Copyable; `tokens` outlive it.
class TextCount {
 public:
  TextCount(const TextTokens& tokens, TextBounds bounds) : tokens_(&tokens), bounds_(bounds) {}

  /// False if the token is no part of the text, or too much of it; nothing has changed then.
  bool accept(TokenId token);
  /// Whether `more` further characters make it a whole one.
  bool may_end(int64_t more) const;
  /// Adds the tokens that accept() takes.
  void add_to(std::span<uint32_t> mask) const;
  /// The closer that `token` is, if it can end the text here.
  const TextTokens::Closer* closer(TokenId token) const;

 private:
  int64_t room() const { return bounds_.most ? *bounds_.most - length_ : std::numeric_limits<int64_t>::max(); }

  const TextTokens* tokens_;
  TextBounds bounds_;
  int64_t length_ = 0;
  std::string partial_;  ///< bytes of a character or escape that is not whole, as tokens of their own
};

}  // namespace carat
