#include "weights/host_memory.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "base/str.h"

namespace carat {
namespace {

/// A file of the kernel's: short, but without a size. Empty if it is not there.
std::string kernel_file(const char* path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::optional<int64_t> kernel_number(const char* path) {
  int64_t value = 0;
  return parse_int(trim(kernel_file(path)), value) ? std::optional(value) : std::nullopt;
}

/// What a container's limit leaves, its page cache counted as free (cgroup v2, mounted at the usual place).
std::optional<int64_t> cgroup_available() {
  const auto limit = kernel_number("/sys/fs/cgroup/memory.max");  // "max" is no number: no limit
  const auto used = kernel_number("/sys/fs/cgroup/memory.current");
  if (!limit || !used) return {};
  int64_t cache = 0;
  const std::string stat = kernel_file("/sys/fs/cgroup/memory.stat");
  for (const std::string_view line : split(stat, '\n'))
    if (line.starts_with("file ")) parse_int(trim(line.substr(5)), cache);
  return std::max<int64_t>(*limit - *used + cache, 0);
}

}  // namespace

std::optional<int64_t> parse_meminfo(std::string_view text, std::string_view key) {
  for (const std::string_view line : split(text, '\n')) {
    if (!line.starts_with(key) || line.substr(key.size(), 1) != ":") continue;
    std::string_view value = trim(line.substr(key.size() + 1));
    if (!value.ends_with(" kB")) return {};
    int64_t kib = 0;
    if (!parse_int(trim(value.substr(0, value.size() - 3)), kib)) return {};
    return kib * 1024;
  }
  return {};
}

std::optional<int64_t> available_memory_bytes() {
  const auto machine = parse_meminfo(kernel_file("/proc/meminfo"), "MemAvailable");
  const auto container = cgroup_available();
  if (!machine || !container) return machine ? machine : container;
  return std::min(*machine, *container);
}

std::string format_bytes(int64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"kB", "MB", "GB", "TB"};
  if (bytes < 1000) return str_cat(bytes, " B");
  double value = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  while (value >= 999.995 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.2f %s", value, kUnits[unit]);
  return text;
}

}  // namespace carat
