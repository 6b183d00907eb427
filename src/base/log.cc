#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace carat {

namespace {
spdlog::logger& logger() {
  static const auto instance = [] {
    auto l = spdlog::stderr_color_mt("carat");
    l->set_pattern("[%Y-%m-%d %H:%M:%S.%e] %^%L%$ %v");
    l->flush_on(spdlog::level::info);
    return l;
  }();
  return *instance;
}

/// Writes to the same place, under the same lock.
spdlog::logger& bare_logger() {
  static const auto instance = [] {
    auto l = spdlog::stderr_color_mt("carat-bare");
    l->set_pattern("%v");
    l->flush_on(spdlog::level::info);
    return l;
  }();
  return *instance;
}

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}
}  // namespace

void set_log_level(LogLevel level) {
  logger().set_level(level_of(level));
  bare_logger().set_level(level_of(level));
}
std::optional<LogLevel> parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error" || name == "critical") return LogLevel::kError;
  return std::nullopt;
}
void log_json(std::string_view line) { bare_logger().info(spdlog::string_view_t(line.data(), line.size())); }
bool log_enabled(LogLevel level) { return logger().should_log(level_of(level)); }
void log_line(LogLevel level, std::string_view line) {
  logger().log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace carat
