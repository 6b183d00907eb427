#include "tokenizer/bpe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>

#include "base/hash.h"
#include "base/str.h"
#include "base/utf8.h"

namespace carat {

namespace {

constexpr int kIdBits = 22, kRankBits = 20;
static_assert(kMaxVocabSize == 1 << kIdBits && 2 * kIdBits + kRankBits == 64);
constexpr uint64_t kRankMask = (uint64_t{1} << kRankBits) - 1;
/// The last rank is never given, so no entry looks like this.
constexpr uint64_t kEmpty = ~uint64_t{0};
constexpr int kJointBits = 20;
/// Up to here looking through all pairs for the best one beats a heap.
constexpr size_t kShortChunk = 64;

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(left) << kIdBits | static_cast<uint64_t>(right);
}
size_t table_index(uint64_t key, size_t table_size) {
  return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 32) & (table_size - 1);
}
uint32_t joint_hash(char32_t a, char32_t b) {
  return static_cast<uint32_t>(((uint64_t{a} << 21 | b) * 0x9E3779B97F4A7C15u) >> (64 - kJointBits));
}
bool test(const std::vector<uint64_t>& bits, size_t i) { return bits[i / 64] >> (i % 64) & 1; }
void set(std::vector<uint64_t>& bits, size_t i) { bits[i / 64] |= uint64_t{1} << (i % 64); }

struct Character {
  char32_t code_point;
  size_t length;
};
/// The character at the start of valid UTF-8.
inline Character next_character(const char* text) {
  const auto byte = [&](int i) { return static_cast<char32_t>(static_cast<unsigned char>(text[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}
char32_t last_character(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return next_character(text.data() + at).code_point;
}
char32_t mark_as_space(char32_t c) { return c == 0x2581 ? U' ' : c; }

}  // namespace

/// What one call of encode needs, kept from chunk to chunk.
struct Bpe::Scratch {
  std::vector<TokenId> symbols;
  std::vector<uint32_t> next, previous;
  std::vector<uint64_t> heap;  // rank, place in 32 + 32 bits: the order in which merges happen
};

Bpe::Bpe(const Vocabulary& vocabulary)
    : vocabulary_(vocabulary),
      table_(16, kEmpty),
      ascii_joints_(128 * 128 / 64),
      joints_((size_t{1} << kJointBits) / 64),
      whole_(std::make_unique<std::atomic<Whole>[]>(static_cast<size_t>(vocabulary.size()))) {}

Result<void> Bpe::add_merge(std::string_view left, std::string_view right) {
  const auto refuse = [&](Errc code, std::string_view what) {
    return Error{code, str_cat("merge ", products_.size(), " (\"", left, "\", \"", right, "\"): ", what)};
  };
  const std::string whole = str_cat(left, right);
  const auto left_id = vocabulary_.find(left), right_id = vocabulary_.find(right);
  // All ways to make a piece mostly follow one another in the file.
  const bool same_product = !products_.empty() && vocabulary_.spelling(products_.back()) == whole;
  const auto id = same_product ? std::optional(products_.back()) : vocabulary_.find(whole);
  if (!left_id) return refuse(Errc::kCorruptFile, "its first part is no piece");
  if (!right_id) return refuse(Errc::kCorruptFile, "its second part is no piece");
  if (!id) return refuse(Errc::kCorruptFile, "the whole is no piece");
  if (byte_of_piece(left) || byte_of_piece(right) || byte_of_piece(whole))
    return refuse(Errc::kUnsupported, "merges of byte pieces are not supported");
  if (products_.size() >= kRankMask) return refuse(Errc::kUnsupported, str_cat("there may be ", kRankMask, " merges"));
  const auto rank = static_cast<Rank>(products_.size());
  products_.push_back(*id);
  // A space in a part: text never has it at this point, so the merge cannot happen.
  if (whole.find(' ') != std::string::npos) return {};
  insert_merge(pair_key(*left_id, *right_id), rank);
  const char32_t a = mark_as_space(last_character(left)), b = mark_as_space(next_character(right.data()).code_point);
  if ((a | b) < 0x80)
    set(ascii_joints_, a * 128 + b);
  else
    set(joints_, joint_hash(a, b));
  return {};
}

void Bpe::insert_merge(uint64_t key, Rank rank) {
  if ((num_merges_ + 1) * 2 > table_.size()) {
    const auto old = std::exchange(table_, std::vector<uint64_t>(table_.size() * 2, kEmpty));
    num_merges_ = 0;
    for (uint64_t entry : old)
      if (entry != kEmpty) insert_merge(entry >> kRankBits, static_cast<Rank>(entry & kRankMask));
  }
  size_t at = table_index(key, table_.size());
  while (table_[at] != kEmpty && table_[at] >> kRankBits != key) at = (at + 1) & (table_.size() - 1);
  if (table_[at] == kEmpty) ++num_merges_;
  table_[at] = key << kRankBits | rank;  // of two equal merges the last counts
}

Bpe::Rank Bpe::find_merge(TokenId left, TokenId right) const {
  const uint64_t key = pair_key(left, right);
  for (size_t at = table_index(key, table_.size()); table_[at] != kEmpty; at = (at + 1) & (table_.size() - 1))
    if (table_[at] >> kRankBits == key) return static_cast<Rank>(table_[at] & kRankMask);
  return kNoRank;
}

Result<void> Bpe::finish() {
  for (int byte = 0; byte < 256; ++byte)
    if (vocabulary_.byte_piece(static_cast<unsigned char>(byte)) == kNoToken)
      return Error{Errc::kUnsupported, str_cat("the vocabulary has no piece for byte ", byte, "; all 256 are needed")};
  products_.shrink_to_fit();
  return {};
}

bool Bpe::may_join(char32_t a, char32_t b) const {
  return (a | b) < 0x80 ? test(ascii_joints_, a * 128 + b) : test(joints_, joint_hash(a, b));
}

size_t Bpe::chunk_end(std::string_view text, size_t begin) const {
  Character last = next_character(text.data() + begin);
  size_t at = begin + last.length;
  while (at < text.size()) {
    const Character c = next_character(text.data() + at);
    if (!may_join(last.code_point, c.code_point)) break;
    at += c.length;
    last = c;
  }
  return at;
}

void Bpe::encode(std::string_view text, std::vector<TokenId>& out) const {
  Scratch scratch;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = chunk_end(text, begin);
    encode_chunk(text.substr(begin, end - begin), scratch, out);
    begin = end;
  }
}

void Bpe::encode_chunk(std::string_view chunk, Scratch& scratch, std::vector<TokenId>& out) const {
  if (next_character(chunk.data()).length == chunk.size()) return append_symbols(chunk, out);
  const TokenId piece = chunk.size() <= vocabulary_.max_text_bytes() ? vocabulary_.find_text(chunk) : kNoToken;
  if (piece != kNoToken && whole_[static_cast<size_t>(piece)].load(std::memory_order_relaxed) == Whole::kYes) {
    out.push_back(piece);
    return;
  }
  auto& symbols = scratch.symbols;
  symbols.clear();
  append_symbols(chunk, symbols);
  if (symbols.size() <= kShortChunk)
    merge_short(symbols);
  else
    merge_long(scratch);
  out.insert(out.end(), symbols.begin(), symbols.end());
  if (piece != kNoToken) {
    const bool alone = symbols.size() == 1 && symbols[0] == piece;
    whole_[static_cast<size_t>(piece)].store(alone ? Whole::kYes : Whole::kNo, std::memory_order_relaxed);
  }
}

/// The pieces of the single characters; a character without one falls back to the pieces of its bytes.
void Bpe::append_symbols(std::string_view chunk, std::vector<TokenId>& symbols) const {
  for (size_t at = 0; at < chunk.size();) {
    const Character c = next_character(chunk.data() + at);
    const TokenId id = vocabulary_.find_character(c.code_point);
    if (id != kNoToken) {
      symbols.push_back(id);
    } else {
      const std::string_view bytes = c.code_point == ' ' ? kSpaceMark : chunk.substr(at, c.length);
      for (char byte : bytes) symbols.push_back(vocabulary_.byte_piece(static_cast<unsigned char>(byte)));
    }
    at += c.length;
  }
}

// Both ways of merging take the pair of lowest rank, the leftmost of equals, until no pair has a merge.

void Bpe::merge_short(std::vector<TokenId>& symbols) const {
  std::array<Rank, kShortChunk> ranks;  // of symbols i and i + 1
  size_t count = symbols.size();
  TokenId* const ids = symbols.data();
  const auto rank_at = [&](size_t i) { return find_merge(ids[i], ids[i + 1]); };
  for (size_t i = 0; i + 1 < count; ++i) ranks[i] = rank_at(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;
    ids[best] = products_[ranks[best]];
    --count;
    std::memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof(TokenId));
    if (best + 1 < count) {
      std::memmove(ranks.data() + best + 1, ranks.data() + best + 2, (count - best - 2) * sizeof(Rank));
      ranks[best] = rank_at(best);
    }
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
  }
  symbols.resize(count);
}

void Bpe::merge_long(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto &next = scratch.next, &previous = scratch.previous;
  auto& heap = scratch.heap;
  const auto count = static_cast<uint32_t>(symbols.size());
  // A list of symbols by place; a symbol that was merged into the one before it is kNoToken. Place `count` is the end.
  next.resize(count);
  previous.resize(count);
  for (uint32_t i = 0; i < count; ++i) next[i] = i + 1, previous[i] = i - 1;
  const auto entry_at = [&](uint32_t i) -> uint64_t {
    const Rank rank = next[i] == count ? kNoRank : find_merge(symbols[i], symbols[next[i]]);
    return uint64_t{rank} << 32 | i;
  };
  heap.clear();
  const auto is_merge = [](uint64_t entry) { return entry >> 32 != kNoRank; };
  for (uint32_t i = 0; i < count; ++i)
    if (const uint64_t entry = entry_at(i); is_merge(entry)) heap.push_back(entry);
  const auto push = [&](uint64_t entry) {
    if (!is_merge(entry)) return;
    heap.push_back(entry);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t entry = heap.back();
    heap.pop_back();
    const auto at = static_cast<uint32_t>(entry);
    // Entries are not taken out when one of their symbols changes; such an entry no longer says what is there.
    if (symbols[at] == kNoToken || entry_at(at) != entry) continue;
    const uint32_t right = next[at];
    symbols[at] = products_[entry >> 32];
    symbols[right] = kNoToken;
    next[at] = next[right];
    if (next[at] != count) previous[next[at]] = at;
    push(entry_at(at));
    if (at > 0) push(entry_at(previous[at]));
  }
  std::erase(symbols, kNoToken);
}

}  // namespace carat
