#pragma once
// Byte pair encoding of running text, exactly as Hugging Face's `tokenizers` does it, in near-linear time.
//
// Text is not cut into words first: to the model a whole line is one word. But two neighbouring characters end up in
// one piece only if some merge joins a piece that ends with the first to a piece that begins with the second. Where no
// merge does, the text is cut, and what lies between two cuts (mostly a word with the space before it) is encoded
// alone, with the same result. A chunk that is itself a piece is looked up; short ones are merged by looking for the
// best pair, long ones with a heap.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "tokenizer/vocabulary.h"

namespace carat {

class Bpe {
 public:
  /// Merges are added next, best first, then finish() is called once. `vocabulary` is complete and outlives this.
  explicit Bpe(const Vocabulary& vocabulary);
  /// Errors: kCorruptFile if a part or the whole is no piece; kUnsupported for merges of byte pieces, or too many.
  Result<void> add_merge(std::string_view left, std::string_view right);
  /// Errors: kUnsupported if a byte has no piece.
  Result<void> finish();

  /// Appends the ids of `text`: valid UTF-8, "▁" as spaces. Any thread.
  void encode(std::string_view text, std::vector<TokenId>& out) const;

 private:
  struct Scratch;
  using Rank = uint32_t;
  static constexpr Rank kNoRank = ~Rank{0};

  /// Rank of the merge of two pieces, or kNoRank.
  Rank find_merge(TokenId left, TokenId right) const;
  void insert_merge(uint64_t key, Rank rank);
  /// Whether a merge may join characters `a` and `b`: never no where one does, rarely yes where none does.
  bool may_join(char32_t a, char32_t b) const;
  size_t chunk_end(std::string_view text, size_t begin) const;
  void encode_chunk(std::string_view chunk, Scratch& scratch, std::vector<TokenId>& out) const;
  void append_symbols(std::string_view chunk, std::vector<TokenId>& symbols) const;
  void merge_short(std::vector<TokenId>& symbols) const;
  void merge_long(Scratch& scratch) const;

  const Vocabulary& vocabulary_;
  std::vector<uint64_t> table_;    // left id, right id, rank in 22 + 22 + 20 bits; open addressing, at most half full
  std::vector<TokenId> products_;  // by rank
  size_t num_merges_ = 0;          // different ones, in table_
  // Pairs of characters at the joint of some merge: exact for ASCII, a Bloom filter with one hash for the others.
  std::vector<uint64_t> ascii_joints_, joints_;
  /// Per piece, whether its own text encodes to it alone: not every piece does, and to ask all of them at start-up
  /// would take longer than everything else. Found out when needed; each thread finds the same.
  enum class Whole : uint8_t { kUnknown, kYes, kNo };
  mutable std::unique_ptr<std::atomic<Whole>[]> whole_;
};

}  // namespace carat
