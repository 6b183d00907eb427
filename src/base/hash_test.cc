#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "base/sha256.h"

namespace carat {
namespace {

TEST(Hash, SeesEveryByteLengthAndSeed) {
  std::set<uint64_t> seen;
  for (size_t length = 0; length < 40; ++length) {
    std::string text(length, '\0');
    ASSERT_TRUE(seen.insert(hash_bytes(text)).second);
    ASSERT_TRUE(seen.insert(hash_bytes(text, 1)).second);
    for (char& c : text) {
      c = 1;
      ASSERT_TRUE(seen.insert(hash_bytes(text)).second);
      c = 0;
    }
  }
  EXPECT_NE(hash_combine(hash_combine(0, 1), 2), hash_combine(hash_combine(0, 2), 1));
  EXPECT_NE(mix64(1), mix64(2));
}

TEST(Sha256, KnownDigests) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesDoNotMatter) {
  for (size_t length = 0; length < 200; ++length) {
    const std::string text(length, 'q');
    Sha256 whole, pieces;
    whole.update(text);
    for (char c : text) pieces.update({&c, 1});
    ASSERT_EQ(whole.finish(), pieces.finish());
  }
}

}  // namespace
}  // namespace carat
