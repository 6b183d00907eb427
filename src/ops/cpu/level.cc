#include "ops/cpu/level.h"

#include <atomic>
#include <cstdlib>

#include "base/check.h"
#include "base/str.h"
#include "ops/cpu/kernels.h"

#ifdef CARAT_X86
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace carat::ops::cpu {

namespace {

constexpr std::string_view kNames[] = {"generic", "avx2", "avx512", "avx512_bf16", "amx"};

#ifdef CARAT_X86

struct Cpuid {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};

bool has_bits(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/// What the operating system saves on a context switch.
uint64_t enabled_state() {
  if (!(Cpuid(1, 0).ecx & bit_OSXSAVE)) return 0;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

/// Linux hands out the 8 KB of tile registers on request, once for all threads of the process.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Level detect() {
  constexpr uint64_t kYmm = 0x6, kZmm = 0xe6, kTiles = 0x60000;
  const uint64_t state = enabled_state();
  const Cpuid features(1, 0), extended(7, 0), more(7, 1);
  if (!has_bits(state, kYmm) || !has_bits(features.ecx, bit_AVX | bit_FMA | bit_F16C) || !(extended.ebx & bit_AVX2))
    return Level::kGeneric;
  if (!has_bits(state, kZmm) ||
      !has_bits(extended.ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL | bit_AVX512CD))
    return Level::kAvx2;
  constexpr unsigned kAvx512Bf16Bit = 1u << 5, kAmxBf16Bit = 1u << 22, kAmxTileBit = 1u << 24;
  if (!(more.eax & kAvx512Bf16Bit)) return Level::kAvx512;
  if (!has_bits(state, kTiles) || !has_bits(extended.edx, kAmxBf16Bit | kAmxTileBit) || !may_use_tiles())
    return Level::kAvx512Bf16;
  return Level::kAmx;
}

const Kernels& kernels_of(Level level) {
  switch (level) {
    case Level::kGeneric:
      return kGenericKernels;
    case Level::kAvx2:
      return kAvx2Kernels;
    case Level::kAvx512:
      return kAvx512Kernels;
    case Level::kAvx512Bf16:
      return kAvx512Bf16Kernels;
    case Level::kAmx:
      return kAmxKernels;
  }
  return kGenericKernels;
}

#else

Level detect() { return Level::kGeneric; }
const Kernels& kernels_of(Level) { return kGenericKernels; }

#endif

Level best_level() {
  static const Level best = detect();
  return best;
}

Level choose_level() {
  const char* name = std::getenv("CARAT_CPU_LEVEL");
  if (!name || !*name) return best_level();
  const auto level = parse_level(name);
  CARAT_CHECK(level && *level <= best_level(),
              str_cat("CARAT_CPU_LEVEL is ", name, "; this machine has generic up to ", to_string(best_level())));
  return *level;
}

std::atomic<Level>& active() {
  static std::atomic<Level> level{choose_level()};
  return level;
}

}  // namespace

std::string_view to_string(Level level) { return kNames[static_cast<int>(level)]; }

std::optional<Level> parse_level(std::string_view name) {
  for (int i = 0; i < static_cast<int>(std::size(kNames)); ++i)
    if (name == kNames[i]) return static_cast<Level>(i);
  return std::nullopt;
}

std::vector<Level> available_levels() {
  std::vector<Level> levels;
  for (int i = 0; i <= static_cast<int>(best_level()); ++i) levels.push_back(static_cast<Level>(i));
  return levels;
}

Level active_level() { return active().load(std::memory_order_relaxed); }

void set_active_level(Level level) {
  CARAT_CHECK(level <= best_level(), str_cat(to_string(level), " is not available on this machine"));
  active().store(level, std::memory_order_relaxed);
}

const Kernels& kernels() { return kernels_of(active_level()); }

}  // namespace carat::ops::cpu
