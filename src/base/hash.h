#pragma once
// Fast 64-bit hashing for tables and caches inside one process. Not for files, not against an attacker: base/sha256.h.

#include <cstdint>
#include <cstring>
#include <string_view>

namespace carat {

/// Spreads every bit of `x` over the whole result; 0 stays 0. Source: the finaliser of MurmurHash3 (public domain).
constexpr uint64_t mix64(uint64_t x) {
  x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
  x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53u;
  return x ^ x >> 33;
}

/// The hash of a sequence from the hash of its beginning and its next element; depends on the order.
constexpr uint64_t hash_combine(uint64_t seed, uint64_t value) {
  return mix64(seed * 0x9E3779B97F4A7C15u + value + 0x632BE59BD9B4E019u);
}

/// The hash of bytes, eight at a time; different `seed`s give independent functions.
inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed = 0) {
  uint64_t hash = hash_combine(seed, bytes.size());
  uint64_t word = 0;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::memcpy(&word, bytes.data(), 8);
    hash = hash_combine(hash, word);
  }
  if (bytes.empty()) return hash;
  word = 0;
  std::memcpy(&word, bytes.data(), bytes.size());
  return hash_combine(hash, word);
}

}  // namespace carat
