#pragma once
// Fast hashing for tables that users share who do not trust each other.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace carat {

using Hash128 = std::array<uint64_t, 2>;

/// 128 bits of `seed` and `bytes`, good for one process: keyed by a secret that is drawn when the first hash is taken,
/// so that nobody outside can prepare two contents of one hash. Two contents that were made without the secret, of up
/// to 1 GiB, have the same hash with a probability below 2^-70. Several GB/s; any thread. A hash may be the next one's
/// seed. Source: Krovetz & Dai 2007, "VHASH security": NH over blocks, then a polynomial over the blocks' sums; here
/// twice with independent keys, and the polynomial modulo 2^61 - 1.
Hash128 keyed_hash(std::span<const std::byte> bytes, const Hash128& seed = {});

}  // namespace carat
