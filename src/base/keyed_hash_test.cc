#include "base/keyed_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

namespace carat {
namespace {

Hash128 hash(const std::string& text, const Hash128& seed = {}) {
  return keyed_hash(std::as_bytes(std::span(text)), seed);
}

TEST(KeyedHash, EqualContentsHaveEqualHashes) {
  for (const size_t size : {0, 1, 127, 128, 129, 1000})
    EXPECT_EQ(hash(std::string(size, 'a')), hash(std::string(size, 'a')));
}

TEST(KeyedHash, EveryByteTheLengthAndTheSeedCount) {
  std::set<Hash128> seen;
  size_t made = 0;
  const auto add = [&](const Hash128& h) {
    seen.insert(h);
    ++made;
  };
  for (size_t size = 0; size < 300; ++size) add(hash(std::string(size, '\0')));  // only the length differs
  for (uint64_t seed = 1; seed < 100; ++seed) {
    add(hash("", {seed, 0}));
    add(hash("", {0, seed}));
    add(hash("", {seed << 56, seed}));
  }
  std::string text(517, 'x');
  for (size_t i = 0; i < text.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      text[i] = static_cast<char>(text[i] ^ (1 << bit));
      add(hash(text));
      text[i] = static_cast<char>(text[i] ^ (1 << bit));
    }
  std::string order = "ab" + std::string(126, ' ') + "cd" + std::string(126, ' ');  // two blocks, exchanged
  add(hash(order));
  std::rotate(order.begin(), order.begin() + 128, order.end());
  add(hash(order));
  EXPECT_EQ(seen.size(), made);
  std::set<uint64_t> halves;
  for (const Hash128& h : seen) halves.insert({h[0], h[1]});
  EXPECT_EQ(halves.size(), 2 * made);
}

}  // namespace
}  // namespace carat
