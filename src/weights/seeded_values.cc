// Values are drawn by quantile: 12 bits of a counter-based generator choose one of 4096 equally likely values of the
// tensor's law, rounded to bf16. A chunk of any tensor can be drawn alone, so the order and number of threads do not
// matter; and a look-up of 12 bits from a table of 8 KB runs at the speed at which memory can be touched first.
#include "weights/seeded_values.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <thread>
#include <vector>

#include "base/str.h"
#include "base/worker_pool.h"
#include "weights/host_memory.h"

namespace carat {
namespace {

constexpr size_t kQuantiles = 4096;
using Table = std::array<Bf16, kQuantiles>;

/// The standard normal's quantiles at (i + 1/2) / kQuantiles.
const std::array<double, kQuantiles>& normal_quantiles() {
  static const auto table = [] {
    std::array<double, kQuantiles> out;
    for (size_t i = 0; i < kQuantiles / 2; ++i) {
      const double p = (static_cast<double>(i) + 0.5) / kQuantiles;
      double low = -6, high = 0;
      for (int step = 0; step < 60; ++step) {
        const double middle = (low + high) / 2;
        (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
      }
      out[i] = low;
      out[kQuantiles - 1 - i] = -low;
    }
    return out;
  }();
  return table;
}

Table make_table(const Law& law) {
  Table table;
  for (size_t i = 0; i < kQuantiles; ++i) {
    const double u = (static_cast<double>(i) + 0.5) / kQuantiles;
    const double x =
        law.kind == Law::Kind::kNormal ? law.a + law.b * normal_quantiles()[i] : law.a + (law.b - law.a) * u;
    table[i] = Bf16(static_cast<float>(x));
  }
  return table;
}

/// Frozen, unlike base/hash.h: stored expectations depend on it. Source: Steele, Lea, Flood 2014, "Fast splittable
/// pseudorandom number generators", the finaliser of SplitMix64.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t stream_key(uint64_t seed, std::string_view name) {
  uint64_t key = mix(seed + 0x9e3779b97f4a7c15u);
  for (const char c : name) key = mix(key ^ static_cast<unsigned char>(c));
  return key;
}

/// Random bits for values 4 * block to 4 * block + 3, 16 each.
uint64_t block_bits(uint64_t key, int64_t block) {
  return mix(key + 0x9e3779b97f4a7c15u * static_cast<uint64_t>(block));
}

/// out[i] for i in [begin, end) as values i of the stream; begin is a multiple of 4.
void draw_values(const Table& table, uint64_t key, int64_t begin, int64_t end, Bf16* out) {
  int64_t i = begin;
  for (; i + 4 <= end; i += 4) {
    const uint64_t bits = block_bits(key, i / 4);
    for (int j = 0; j < 4; ++j) out[i + j] = table[(bits >> (16 * j)) & (kQuantiles - 1)];
  }
  for (; i < end; ++i) out[i] = table[(block_bits(key, i / 4) >> (16 * (i % 4))) & (kQuantiles - 1)];
}

/// Pieces of at most kChunk values over all tensors, so that threads stay busy to the end.
constexpr int64_t kChunk = 1 << 20;
struct Piece {
  size_t tensor;
  int64_t begin, end;
};

void fill(std::span<const SeededTensor> tensors, uint64_t seed) {
  std::vector<Table> tables;
  std::vector<uint64_t> keys;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    tables.push_back(make_table(tensors[i].law));
    keys.push_back(stream_key(seed, tensors[i].name));
    for (int64_t at = 0; at < tensors[i].count; at += kChunk)
      pieces.push_back({i, at, std::min(at + kChunk, tensors[i].count)});
  }
  WorkerPool pool(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u)));
  pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Piece& p = pieces[static_cast<size_t>(i)];
      draw_values(tables[p.tensor], keys[p.tensor], p.begin, p.end, tensors[p.tensor].data);
    }
  });
}

/// Tensors begin at multiples of a cache line.
int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

Result<Buffer> draw(std::span<SeededTensor> tensors, uint64_t seed, std::string_view whose) {
  int64_t needed = 0;
  for (const SeededTensor& t : tensors) needed += padded(t.count * static_cast<int64_t>(sizeof(Bf16)));
  const auto available = available_memory_bytes();
  if (available && needed > *available)
    return Error{Errc::kOverloaded,
                 str_cat("seeded weights of ", whose, " need ", needed, " bytes of memory (", format_bytes(needed),
                         "), available are ", *available, " (", format_bytes(*available), ")")};
  CARAT_TRY(Buffer memory, Buffer::allocate(needed));
  std::byte* at = memory.data();
  for (SeededTensor& t : tensors) {
    t.data = reinterpret_cast<Bf16*>(at);
    at += padded(t.count * static_cast<int64_t>(sizeof(Bf16)));
  }
  fill(tensors, seed);
  return memory;
}

void redraw(const SeededTensor& tensor, uint64_t seed, const Law& law, int64_t begin, int64_t end) {
  const Table table = make_table(law);
  const uint64_t key = stream_key(seed, tensor.name);
  for (int64_t i = begin; i < end; ++i)
    tensor.data[i] = table[(block_bits(key, i / 4) >> (16 * (i % 4))) & (kQuantiles - 1)];
}

}  // namespace carat
