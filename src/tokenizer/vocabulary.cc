#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/hash.h"
#include "base/str.h"
#include "base/utf8.h"

namespace carat {

namespace {
int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

template <class T>
T load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
/// Up to 8 bytes, zeros after them, without a loop: parts that overlap agree where they do.
uint64_t load_padded(const char* from, size_t size) {
  const auto byte = [&](size_t i) { return uint64_t{static_cast<unsigned char>(from[i])} << (8 * i); };
  if (size >= 8) return load<uint64_t>(from);
  if (size >= 4) return load<uint32_t>(from) | uint64_t{load<uint32_t>(from + size - 4)} << (8 * (size - 4));
  return byte(0) | byte(size / 2) | byte(size - 1);
}
}  // namespace

std::string spaces_from_marks(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (true) {
    const size_t mark = text.find(kSpaceMark);
    out.append(text.substr(0, mark));
    if (mark == std::string_view::npos) return out;
    out += ' ';
    text.remove_prefix(mark + kSpaceMark.size());
  }
}

std::optional<unsigned char> byte_of_piece(std::string_view s) {
  if (s.size() != 6 || !s.starts_with("<0x") || s[5] != '>') return std::nullopt;
  const int high = hex_digit(s[3]), low = hex_digit(s[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high * 16 + low);
}

Vocabulary::Vocabulary()
    : table_(16), page_of_((0x110000 >> kPageBits), uint16_t{0}), character_pages_(kPageSize, kNoToken) {
  byte_pieces_.fill(kNoToken);
}

Result<void> Vocabulary::add(std::string_view spelling, int64_t id) {
  if (const auto byte = byte_of_piece(spelling)) {
    const char text = static_cast<char>(*byte);
    CARAT_TRY_VOID(store(spelling, {&text, 1}, id));
    // "<0x4a>" decodes as a byte too, but only the upper-case spelling is looked up when encoding.
    if (std::none_of(spelling.begin() + 3, spelling.end(), [](char c) { return c >= 'a' && c <= 'f'; }))
      byte_pieces_[*byte] = static_cast<TokenId>(id);
    else
      others_.emplace(spelling, static_cast<TokenId>(id));
    return {};
  }
  // Running text has its spaces replaced before BPE sees it, so a piece with a space can never be made.
  if (spelling.find(' ') != std::string_view::npos) return add_outside_model(spelling, id);
  const std::string text = spaces_from_marks(spelling);
  CARAT_TRY_VOID(store(spelling, text, id));
  index_text(static_cast<TokenId>(id));
  const Utf8Step first = decode_utf8(text);
  if (static_cast<size_t>(first.length) == text.size()) index_character(first.code_point, static_cast<TokenId>(id));
  return {};
}

Result<void> Vocabulary::add_outside_model(std::string_view spelling, int64_t id) {
  CARAT_TRY_VOID(store(spelling, spaces_from_marks(spelling), id));
  others_.emplace(spelling, static_cast<TokenId>(id));
  return {};
}

Result<void> Vocabulary::store(std::string_view spelling, std::string_view text, int64_t id) {
  const auto corrupt = [&](std::string_view what) {
    return Error{Errc::kCorruptFile, str_cat("piece \"", spelling, "\" (id ", id, "): ", what)};
  };
  if (spelling.empty()) return corrupt("a piece must not be empty");
  if (id < 0 || id >= kMaxVocabSize) return corrupt(str_cat("the id must be in [0, ", kMaxVocabSize, ")"));
  const auto index = static_cast<size_t>(id);
  if (index >= spellings_.size()) {
    spellings_.resize(index + 1);
    texts_.resize(index + 1);
  }
  if (spellings_[index].size != 0) return corrupt("another piece has this id");
  if (arena_.size() + spelling.size() + text.size() > std::numeric_limits<uint32_t>::max())
    return corrupt("the vocabulary has more than 4 GiB of text");
  const auto keep = [&](std::string_view s) {
    const Slice slice{static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(s.size())};
    arena_.append(s);
    return slice;
  };
  spellings_[index] = keep(spelling);
  texts_[index] = text == spelling ? spellings_[index] : keep(text);
  return {};
}

Vocabulary::Slot Vocabulary::make_slot(std::string_view text, uint32_t& hash) {
  Slot slot;
  if (text.size() > kMaxShort) {
    hash = static_cast<uint32_t>(hash_bytes(text));
    slot.tail = hash;
    slot.size = kLong;
    return slot;
  }
  slot.head = load_padded(text.data(), text.size());
  if (text.size() > 8) slot.tail = static_cast<uint32_t>(load_padded(text.data() + 8, text.size() - 8));
  slot.size = static_cast<uint32_t>(text.size()) & 0xFF;
  const uint64_t mixed =
      (slot.head ^ slot.head >> 29) * 0x9E3779B97F4A7C15u + (slot.tail ^ text.size() << 56) * 0xC2B2AE3D27D4EB4Fu;
  hash = static_cast<uint32_t>((mixed ^ mixed >> 32) * 0xFF51AFD7ED558CCDu >> 32);
  return slot;
}

void Vocabulary::index_text(TokenId id) {
  const Slice slice = texts_[static_cast<size_t>(id)];
  uint32_t hash = 0;
  Slot slot = make_slot(text(id), hash);
  slot.id = static_cast<uint32_t>(id) & 0xFFFFFF;
  if (slot.size == kLong) slot.head = slice.begin | uint64_t{slice.size} << 32;
  max_text_bytes_ = std::max<size_t>(max_text_bytes_, slice.size);
  if (++table_used_ * 2 > table_.size()) grow_table();
  insert(slot, hash);
}

void Vocabulary::insert(Slot slot, uint32_t hash) {
  size_t at = hash & (table_.size() - 1);
  while (table_[at].size != 0) at = (at + 1) & (table_.size() - 1);
  table_[at] = slot;
}

void Vocabulary::grow_table() {
  const std::vector<Slot> old = std::exchange(table_, std::vector<Slot>(table_.size() * 2));
  for (const Slot& slot : old) {
    if (slot.size == 0) continue;
    uint32_t hash = slot.tail;
    if (slot.size != kLong) make_slot(text(static_cast<TokenId>(slot.id)), hash);
    insert(slot, hash);
  }
}

TokenId Vocabulary::find_text(std::string_view wanted) const {
  if (wanted.empty()) return kNoToken;
  uint32_t hash = 0;
  const Slot key = make_slot(wanted, hash);
  for (size_t at = hash & (table_.size() - 1); table_[at].size != 0; at = (at + 1) & (table_.size() - 1)) {
    const Slot& slot = table_[at];
    if (slot.size == key.size && slot.tail == key.tail &&
        (key.size == kLong ? slot_text(slot) == wanted : slot.head == key.head))
      return static_cast<TokenId>(slot.id);
  }
  return kNoToken;
}

void Vocabulary::index_character(char32_t c, TokenId id) {
  uint16_t& page = page_of_[c >> kPageBits];
  if (page == 0) {
    page = static_cast<uint16_t>(character_pages_.size() >> kPageBits);
    character_pages_.resize(character_pages_.size() + kPageSize, kNoToken);
  }
  character_pages_[static_cast<size_t>(page) << kPageBits | (c & (kPageSize - 1))] = id;
}

bool Vocabulary::is_byte_piece(TokenId id) const { return byte_of_piece(spelling(id)).has_value(); }

std::optional<TokenId> Vocabulary::find(std::string_view wanted) const {
  if (const auto other = others_.find(wanted); other != others_.end()) return other->second;
  if (wanted.find(' ') != std::string_view::npos) return std::nullopt;
  if (const auto byte = byte_of_piece(wanted)) {
    const TokenId id = byte_piece(*byte);
    return spelling(id) == wanted ? std::optional(id) : std::nullopt;
  }
  const TokenId id =
      wanted.find(kSpaceMark) == std::string_view::npos ? find_text(wanted) : find_text(spaces_from_marks(wanted));
  return id == kNoToken ? std::nullopt : std::optional(id);
}

}  // namespace carat
