#pragma once
// bfloat16: the upper half of an IEEE float. Conversion rounds to nearest, ties to even; NaN stays NaN.

#include <bit>
#include <cstdint>

namespace carat {

struct Bf16 {
  uint16_t bits = 0;
  Bf16() = default;
  explicit Bf16(float value) : bits(round_bits(value)) {}
  static Bf16 from_bits(uint16_t b) {
    Bf16 v;
    v.bits = b;
    return v;
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
  bool operator==(const Bf16&) const = default;

 private:
  static uint16_t round_bits(float value) {
    const uint32_t u = std::bit_cast<uint32_t>(value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);
    return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
};
static_assert(sizeof(Bf16) == 2);

/// The float nearest to `value` among bfloat16 numbers.
inline float round_to_bf16(float value) { return static_cast<float>(Bf16(value)); }

}  // namespace carat
