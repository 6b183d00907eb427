#pragma once
// The process log, one line a call. Any thread. spdlog is behind it and shows in base/log.cc only.

#include <optional>
#include <string>
#include <string_view>

#include "base/str.h"

namespace carat {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Sets the lowest level that is written; the default is kInfo, to stderr.
void set_log_level(LogLevel level);
/// "debug" .. "error"; "critical" counts as error.
std::optional<LogLevel> parse_log_level(std::string_view name);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view line);
/// A record for machines, at level info: the line stands alone, without time and level.
void log_json(std::string_view line);

template <class... Parts>
void log_debug(const Parts&... parts) {
  if (log_enabled(LogLevel::kDebug)) log_line(LogLevel::kDebug, str_cat(parts...));
}
template <class... Parts>
void log_info(const Parts&... parts) {
  if (log_enabled(LogLevel::kInfo)) log_line(LogLevel::kInfo, str_cat(parts...));
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_line(LogLevel::kWarning, str_cat(parts...));
}
template <class... Parts>
void log_error(const Parts&... parts) {
  log_line(LogLevel::kError, str_cat(parts...));
}

}  // namespace carat
