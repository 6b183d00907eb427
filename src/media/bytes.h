#pragma once
// Looking into files of bytes. Private to media/.

#include <cstdint>
#include <span>
#include <string_view>

namespace carat {

using Bytes = std::span<const uint8_t>;

// Integers at `at`; the caller has checked that they lie inside.
inline uint32_t u16le(Bytes b, size_t at) { return b[at] | uint32_t{b[at + 1]} << 8; }
inline uint32_t u16be(Bytes b, size_t at) { return uint32_t{b[at]} << 8 | b[at + 1]; }
inline uint32_t u32le(Bytes b, size_t at) { return u16le(b, at) | u16le(b, at + 2) << 16; }
inline uint32_t u32be(Bytes b, size_t at) { return u16be(b, at) << 16 | u16be(b, at + 2); }

inline std::string_view as_text(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }
/// Whether `b` has `text` at `at`.
inline bool has_at(Bytes b, size_t at, std::string_view text) {
  return at <= b.size() && as_text(b.subspan(at)).starts_with(text);
}

}  // namespace carat
