#pragma once
// The pieces of a vocabulary in flat arrays. Immutable once filled; any thread.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"

namespace carat {

inline constexpr TokenId kNoToken = -1;
/// The merge table packs two ids and a rank into 64 bits (tokenizer/bpe.h).
inline constexpr int kMaxVocabSize = 1 << 22;

/// Each piece has a spelling, as the file has it ("▁the", "<0x41>"), and a text, which it stands for (" the", "A"). BPE
/// works on text: there "▁" and a space are the same thing, and a space is one byte.
class Vocabulary {
 public:
  Vocabulary();

  /// Adds a piece of the model. Errors: kCorruptFile for an empty piece, an id out of range, or one used twice.
  Result<void> add(std::string_view spelling, int64_t id);
  /// Adds a token that the model does not know, so BPE cannot make it.
  Result<void> add_outside_model(std::string_view spelling, int64_t id);

  /// One more than the largest id.
  int size() const { return static_cast<int>(spellings_.size()); }
  /// Both empty for unknown ids.
  std::string_view spelling(TokenId id) const { return at(spellings_, id); }
  std::string_view text(TokenId id) const { return at(texts_, id); }
  std::optional<TokenId> find(std::string_view spelling) const;

  /// The piece with this text that BPE could make, or kNoToken.
  TokenId find_text(std::string_view text) const;
  /// The piece that is this one character (a space finds "▁"), or kNoToken.
  TokenId find_character(char32_t c) const {
    return c > 0x10FFFF ? kNoToken : character_pages_[page_of_[c >> kPageBits] << kPageBits | (c & (kPageSize - 1))];
  }
  /// The piece "<0xXX>", or kNoToken.
  TokenId byte_piece(unsigned char byte) const { return byte_pieces_[byte]; }
  bool is_byte_piece(TokenId id) const;
  /// Bytes of the longest text that find_text can find.
  size_t max_text_bytes() const { return max_text_bytes_; }

 private:
  struct Slice {
    uint32_t begin = 0, size = 0;  // in arena_
  };
  /// An entry of table_. Most texts are short and lie in the slot itself, which saves most of the cache misses of a
  /// lookup: 262,144 pieces do not fit into a cache. Longer ones lie in arena_.
  struct Slot {
    uint64_t head = 0;      // short: the first 8 bytes, then zeros.   long: begin and size in arena_
    uint32_t tail = 0;      // short: the 4 bytes after them.          long: the hash
    uint32_t size : 8 = 0;  // of a short text; kLong; 0 for an empty slot
    uint32_t id : 24 = 0;
  };
  static constexpr size_t kMaxShort = 12;
  static constexpr uint32_t kLong = 255;
  static constexpr int kPageBits = 8;
  static constexpr char32_t kPageSize = 1 << kPageBits;

  std::string_view at(const std::vector<Slice>& slices, TokenId id) const {
    if (id < 0 || static_cast<size_t>(id) >= slices.size()) return {};
    const Slice slice = slices[static_cast<size_t>(id)];
    return std::string_view(arena_).substr(slice.begin, slice.size);
  }
  Result<void> store(std::string_view spelling, std::string_view text, int64_t id);
  /// The slot that `text`, which is not empty, has but for its id (and its place in arena_), and its hash.
  static Slot make_slot(std::string_view text, uint32_t& hash);
  std::string_view slot_text(const Slot& slot) const {
    return std::string_view(arena_).substr(slot.head & 0xFFFFFFFF, slot.head >> 32);
  }
  void index_text(TokenId id);
  void insert(Slot slot, uint32_t hash);
  void index_character(char32_t c, TokenId id);
  void grow_table();

  std::string arena_;
  std::vector<Slice> spellings_, texts_;  // by id; both slices are the same where the strings are
  std::vector<Slot> table_;               // text -> id, open addressing, at most half full
  size_t table_used_ = 0;
  size_t max_text_bytes_ = 0;
  std::array<TokenId, 256> byte_pieces_;
  // Character -> id in two steps; page 0 is empty and stands for all blocks of characters without a piece.
  std::vector<uint16_t> page_of_;
  std::vector<TokenId> character_pages_;
  /// Spellings that no text leads to: tokens outside the model, and pieces with a space in them.
  std::map<std::string, TokenId, std::less<>> others_;
};

/// `text` with each "▁" as a space.
std::string spaces_from_marks(std::string_view text);
/// The space mark "▁" (U+2581) in UTF-8.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";
/// The byte of a piece spelled "<0xXX>".
std::optional<unsigned char> byte_of_piece(std::string_view spelling);

}  // namespace carat
