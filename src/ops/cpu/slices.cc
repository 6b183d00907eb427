#include "ops/cpu/slices.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>

#include "base/check.h"

namespace carat::ops::cpu {

namespace {

struct Free {
  void operator()(std::byte* p) const { std::free(p); }
};
struct Block {
  std::unique_ptr<std::byte, Free> data;
  int64_t size = 0;
};

std::atomic<int64_t> num_grown{0};

}  // namespace

int64_t num_scratch_allocations() { return num_grown.load(std::memory_order_relaxed); }

std::byte* thread_scratch(Scratch name, int64_t size_bytes) {
  thread_local std::array<Block, static_cast<size_t>(Scratch::kCount)> blocks;
  Block& block = blocks[static_cast<size_t>(name)];
  if (block.size < size_bytes) {
    constexpr int64_t kAlign = 64, kRound = 4096;
    const int64_t size = (size_bytes + size_bytes / 4 + kRound - 1) / kRound * kRound;
    block.data.reset();
    block.data.reset(static_cast<std::byte*>(std::aligned_alloc(kAlign, static_cast<size_t>(size))));
    CARAT_CHECK(block.data != nullptr, "no memory for the scratch space of an op");
    block.size = size;
    num_grown.fetch_add(1, std::memory_order_relaxed);
  }
  return block.data.get();
}

}  // namespace carat::ops::cpu
