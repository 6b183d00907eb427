#include "base/keyed_hash.h"

#include <cstring>
#include <random>

#include "base/hash.h"

namespace carat {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr size_t kWords = 16;  // of a block
constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;

/// The secret: two hash functions.
struct Key {
  std::array<uint64_t, kWords> sum;
  uint64_t point;  // below 2^60, where the polynomial is evaluated
};
using Keys = std::array<Key, 2>;

Keys draw_keys() {
  std::random_device device;
  const auto word = [&device] { return uint64_t{device()} << 32 | device(); };
  Keys keys;
  for (Key& key : keys) {
    for (uint64_t& value : key.sum) value = word();
    key.point = word() >> 4;
  }
  return keys;
}

const Keys& keys() {
  static const Keys drawn = draw_keys();
  return drawn;
}

using Block = std::array<uint64_t, kWords>;

Wide nh(const Block& block, const Key& key) {
  Wide sum = 0;
  for (size_t i = 0; i < kWords; i += 2) sum += Wide{block[i] + key.sum[i]} * (block[i + 1] + key.sum[i + 1]);
  return sum;
}

/// The polynomial's next coefficient, below 2^61.
uint64_t next(uint64_t state, uint64_t coefficient, uint64_t point) {
  const Wide product = Wide{state} * point + coefficient;
  const uint64_t folded = (static_cast<uint64_t>(product) & kPrime) + static_cast<uint64_t>(product >> 61);
  return folded >= kPrime ? folded - kPrime : folded;
}

/// All of `value`, 48 bits at a time.
uint64_t add(uint64_t state, Wide value, uint64_t point) {
  constexpr uint64_t kPart = (uint64_t{1} << 48) - 1;
  for (const int shift : {0, 48, 96}) state = next(state, static_cast<uint64_t>(value >> shift) & kPart, point);
  return state;
}

}  // namespace

Hash128 keyed_hash(std::span<const std::byte> bytes, const Hash128& seed) {
  const Keys& secret = keys();
  Hash128 states;
  for (size_t i = 0; i < 2; ++i) states[i] = add(bytes.size() + 1, Wide{seed[0]} << 64 | seed[1], secret[i].point);
  while (!bytes.empty()) {
    Block block{};
    const size_t count = bytes.size() < sizeof block ? bytes.size() : sizeof block;
    std::memcpy(block.data(), bytes.data(), count);
    bytes = bytes.subspan(count);
    for (size_t i = 0; i < 2; ++i) states[i] = add(states[i], nh(block, secret[i]), secret[i].point);
  }
  for (size_t i = 0; i < 2; ++i) states[i] = mix64(states[i] ^ secret[i].sum[0]);
  return states;
}

}  // namespace carat
