#pragma once
// A compiled grammar and a place in it. Wraps XGrammar, whose types and exceptions stay inside this folder.

#include <cstdint>
#include <memory>
#include <span>

#include "base/token.h"

namespace carat {

/// What GrammarCompiler makes of a schema. Constant; shared by threads, sequences and requests.
class Grammar {
 public:
  struct Impl;
  explicit Grammar(std::unique_ptr<const Impl> impl);
  ~Grammar();

  int64_t memory_bytes() const;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<const Impl> impl_;
};

/// A run through a grammar. One thread at a time; nothing throws. Ambiguous grammars cost more with each token: one
/// that has taken more than kMaxTokenSeconds of its thread kMaxSlowTokens times accepts nothing any more.
class GrammarMatcher {
 public:
  static constexpr double kMaxTokenSeconds = 0.02;
  static constexpr int kMaxSlowTokens = 3;

  /// The grammar outlives the matcher.
  explicit GrammarMatcher(const Grammar& grammar);
  ~GrammarMatcher();

  /// False if the token cannot come here; nothing has changed then.
  bool accept(TokenId token);
  /// Whether it has taken so long that it accepts nothing any more.
  bool exhausted() const;
  /// What has been accepted is a whole text of the grammar; more may still be possible.
  bool complete() const;
  /// The tokens that may come next; end tokens are not among them. mask [ceil(V / 32)] is overwritten.
  void fill_mask(std::span<uint32_t> mask);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
