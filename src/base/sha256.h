#pragma once
// SHA-256, for files whose published digest we know.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace carat {

/// A digest in the making. Source: FIPS 180-4.
class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;
  void update(std::string_view bytes);
  /// The digest of everything so far; call once, last.
  Digest finish();

 private:
  void compress(const unsigned char* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> block_ = {};  // the last block_size_ bytes, not yet compressed
  size_t block_size_ = 0;
  uint64_t total_bytes_ = 0;
};

/// 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

}  // namespace carat
