#include "client/python_random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace carat {

int64_t NumpyRandom::randint(int64_t low, int64_t high) {
  CARAT_CHECK(high > low && high - low <= (int64_t{1} << 32), "randint: empty or too large a range");
  const auto range = static_cast<uint32_t>(high - 1 - low);
  if (range == 0) return low;
  const uint32_t mask = ~uint32_t{0} >> std::countl_zero(range);
  uint32_t value;
  do value = static_cast<uint32_t>(engine_()) & mask;
  while (value > range);
  return low + value;
}

std::vector<int64_t> NumpyRandom::randint(int64_t low, int64_t high, int size) {
  std::vector<int64_t> out(static_cast<size_t>(size));
  for (auto& v : out) v = randint(low, high);
  return out;
}

namespace {

/// 53 bits of two outputs.
double next_double(std::mt19937& engine) {
  const auto high = static_cast<uint32_t>(engine()) >> 5, low = static_cast<uint32_t>(engine()) >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

}  // namespace

double NumpyRandom::rand() { return next_double(engine_); }
double NumpyRandom::exponential(double scale) { return -std::log(1.0 - rand()) * scale; }

namespace {

constexpr size_t kWords = 624;

// Hands std::mt19937 a finished state: its seed sequence is asked for exactly these words.
struct FinishedState {
  using result_type = uint32_t;
  std::array<uint32_t, kWords> words;
  template <class It>
  void generate(It begin, It end) const {
    std::copy_n(words.begin(), std::min<size_t>(kWords, static_cast<size_t>(end - begin)), begin);
  }
};

// Matsumoto & Nishimura 2002, mt19937ar.c, init_by_array.
FinishedState seeded_by_array(const std::vector<uint32_t>& key) {
  FinishedState state;
  auto& mt = state.words;
  mt[0] = 19650218;
  for (size_t i = 1; i < kWords; ++i) mt[i] = 1812433253U * (mt[i - 1] ^ (mt[i - 1] >> 30)) + static_cast<uint32_t>(i);
  size_t i = 1, j = 0;
  const auto step = [&] {
    if (++i >= kWords) {
      mt[0] = mt[kWords - 1];
      i = 1;
    }
  };
  for (size_t k = std::max(kWords, key.size()); k > 0; --k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1664525U)) + key[j] + static_cast<uint32_t>(j);
    step();
    if (++j >= key.size()) j = 0;
  }
  for (size_t k = kWords - 1; k > 0; --k) {
    mt[i] = (mt[i] ^ ((mt[i - 1] ^ (mt[i - 1] >> 30)) * 1566083941U)) - static_cast<uint32_t>(i);
    step();
  }
  mt[0] = 0x80000000U;
  return state;
}

std::mt19937 seeded_like_python(uint64_t seed) {
  std::vector<uint32_t> key{static_cast<uint32_t>(seed)};
  if (seed >> 32) key.push_back(static_cast<uint32_t>(seed >> 32));
  auto state = seeded_by_array(key);
  return std::mt19937(state);
}

}  // namespace

PythonRandom::PythonRandom(uint64_t seed) : engine_(seeded_like_python(seed)) {}

uint32_t PythonRandom::randbelow(uint32_t n) {
  const int bits = std::bit_width(n);
  uint32_t value;
  do value = static_cast<uint32_t>(engine_()) >> (32 - bits);
  while (value >= n);
  return value;
}

std::vector<size_t> PythonRandom::choices(size_t n, int count) {
  std::vector<size_t> out(static_cast<size_t>(count));
  for (size_t& index : out) index = static_cast<size_t>(next_double(engine_) * static_cast<double>(n));
  return out;
}

}  // namespace carat
