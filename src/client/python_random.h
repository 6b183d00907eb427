#pragma once
// The two random generators of a Python program, number for number: what `sglang.bench_serving --seed N` draws.

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace carat {

/// numpy.random after numpy.random.seed(seed): MT19937 seeded with one word, "legacy" distributions.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : engine_(seed) {}

  /// numpy.random.randint(low, high): uniform in [low, high), high > low, high - low <= 2^32.
  /// A 32-bit output is masked to as many bits as the range needs, and drawn again while it lies outside.
  int64_t randint(int64_t low, int64_t high);
  std::vector<int64_t> randint(int64_t low, int64_t high, int size);
  /// numpy.random.exponential(scale).
  double exponential(double scale);
  /// numpy.random.rand(): uniform in [0, 1).
  double rand();

 private:
  std::mt19937 engine_;
};

/// The module `random` after random.seed(seed): MT19937 seeded with an array of words.
class PythonRandom {
 public:
  explicit PythonRandom(uint64_t seed);
  /// Uniform in [0, n), n >= 1: the top bits of an output, drawn again while too large.
  uint32_t randbelow(uint32_t n);
  /// The indices that random.choices(items, k=count) takes of `n` items.
  std::vector<size_t> choices(size_t n, int count);
  /// random.shuffle(items).
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i-- > 1;) std::swap(items[i], items[randbelow(static_cast<uint32_t>(i + 1))]);
  }

 private:
  std::mt19937 engine_;
};

}  // namespace carat
