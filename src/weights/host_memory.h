#pragma once
// How much memory this process may still take.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace carat {

/// Bytes that can be taken without swapping: MemAvailable, or what a container's limit leaves if that is less. Null if
/// the system does not say.
std::optional<int64_t> available_memory_bytes();

/// "9.26 GB", "144.00 MB", "640 B": decimal units, for people.
std::string format_bytes(int64_t bytes);

/// The bytes on the line "KEY: N kB" of /proc/meminfo's text.
std::optional<int64_t> parse_meminfo(std::string_view text, std::string_view key);

}  // namespace carat
