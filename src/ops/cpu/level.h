#pragma once
// Which instructions the CPU backend uses. Results are the same for any batch and number of threads within a level;
// between levels the order of f32 sums differs.

#include <optional>
#include <string_view>
#include <vector>

namespace carat::ops::cpu {

enum class Level { kGeneric, kAvx2, kAvx512, kAvx512Bf16, kAmx };

/// "generic", "avx2", "avx512", "avx512_bf16", "amx".
std::string_view to_string(Level level);
std::optional<Level> parse_level(std::string_view name);

/// Levels that this machine and build can run, the best last.
std::vector<Level> available_levels();

/// The level in use: the best, or the one that the environment variable CARAT_CPU_LEVEL names (a level that is not
/// available is a start-up error and ends the process with a message).
Level active_level();

/// For tests and benchmarks, while no op runs. The level must be available.
void set_active_level(Level level);

}  // namespace carat::ops::cpu
