#pragma once
// Command lines of the client programs: one table of flags each, from which parsing and help are made.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace carat {

struct CliFlag {
  std::string name;   ///< "--port"
  std::string value;  ///< what follows it, for the help; empty: a switch
  std::string help;
  std::function<Result<void>(std::string_view)> set;
  bool many = false;  ///< takes all values up to the next flag, one call of `set` each

  static CliFlag text(std::string name, std::string value, std::string help, std::string& target);
  static CliFlag integer(std::string name, std::string help, int64_t low, int64_t high,
                         std::function<void(int64_t)> set);
  static CliFlag number(std::string name, std::string help, double low, double high, double& target);
  static CliFlag toggle(std::string name, std::string help, bool& target);
};

/// Takes "--name value" and "--name=value", in any order; a unique beginning of a name will do. What follows "--" goes
/// to `rest`. Errors: kInvalidArgument naming the argument.
Result<void> parse_flags(std::span<const CliFlag> flags, std::span<const std::string> args,
                         std::vector<std::string>& rest);
/// One line a flag, aligned.
std::string flags_help(std::span<const CliFlag> flags);

}  // namespace carat
