#include "client/flags.h"

#include <algorithm>

#include "base/str.h"

namespace carat {

CliFlag CliFlag::text(std::string name, std::string value, std::string help, std::string& target) {
  return {std::move(name), std::move(value), std::move(help),
          [&target](std::string_view v) -> Result<void> {
            target = std::string(v);
            return {};
          },
          false};
}

CliFlag CliFlag::integer(std::string name, std::string help, int64_t low, int64_t high,
                         std::function<void(int64_t)> set) {
  auto parse = [name, low, high, set = std::move(set)](std::string_view v) -> Result<void> {
    int64_t number = 0;
    if (!parse_int(v, number) || number < low || number > high)
      return Error{Errc::kInvalidArgument,
                   str_cat(name, " must be an integer in [", low, ", ", high, "], got '", v, "'")};
    set(number);
    return {};
  };
  return {std::move(name), "N", std::move(help), std::move(parse), false};
}

CliFlag CliFlag::number(std::string name, std::string help, double low, double high, double& target) {
  auto parse = [name, low, high, &target](std::string_view v) -> Result<void> {
    double number = 0;
    if (!parse_float(v, number) || !(number >= low && number <= high))
      return Error{Errc::kInvalidArgument,
                   str_cat(name, " must be a number in [", low, ", ", high, "], got '", v, "'")};
    target = number;
    return {};
  };
  return {std::move(name), "X", std::move(help), std::move(parse), false};
}

CliFlag CliFlag::toggle(std::string name, std::string help, bool& target) {
  return {std::move(name), "", std::move(help),
          [&target](std::string_view) -> Result<void> {
            target = true;
            return {};
          },
          false};
}

namespace {

Result<const CliFlag*> find_flag(std::span<const CliFlag> flags, std::string_view name) {
  const CliFlag* found = nullptr;
  std::string candidates;
  for (const auto& flag : flags) {
    if (flag.name == name) return &flag;
    if (!flag.name.starts_with(name)) continue;
    candidates += str_cat(candidates.empty() ? "" : ", ", flag.name);
    found = &flag;
  }
  if (found == nullptr || name.size() <= 2)
    return Error{Errc::kInvalidArgument, str_cat("unknown option '", name, "'; --help lists the known ones")};
  if (candidates.find(',') != std::string::npos)
    return Error{Errc::kInvalidArgument, str_cat("'", name, "' could be ", candidates)};
  return found;
}

}  // namespace

Result<void> parse_flags(std::span<const CliFlag> flags, std::span<const std::string> args,
                         std::vector<std::string>& rest) {
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string_view arg = args[i];
    if (arg == "--") {
      rest.assign(args.begin() + static_cast<ptrdiff_t>(i) + 1, args.end());
      return {};
    }
    if (!arg.starts_with("--")) return Error{Errc::kInvalidArgument, str_cat("unexpected argument '", arg, "'")};
    const auto equals = arg.find('=');
    CARAT_TRY(const CliFlag* flag, find_flag(flags, arg.substr(0, equals)));
    if (flag->value.empty()) {
      if (equals != std::string_view::npos)
        return Error{Errc::kInvalidArgument, str_cat(flag->name, " takes no value")};
      CARAT_TRY_VOID(flag->set(""));
    } else if (equals != std::string_view::npos) {
      CARAT_TRY_VOID(flag->set(arg.substr(equals + 1)));
    } else {
      if (i + 1 == args.size()) return Error{Errc::kInvalidArgument, str_cat(flag->name, " needs a value")};
      CARAT_TRY_VOID(flag->set(args[++i]));
      while (flag->many && i + 1 < args.size() && !args[i + 1].starts_with("--")) CARAT_TRY_VOID(flag->set(args[++i]));
    }
  }
  return {};
}

std::string flags_help(std::span<const CliFlag> flags) {
  constexpr size_t kColumn = 34;
  std::string out;
  for (const auto& flag : flags) {
    std::string left = str_cat("  ", flag.name, flag.value.empty() ? "" : " ", flag.value);
    if (left.size() < kColumn)
      left.resize(kColumn, ' ');
    else
      left += str_cat("\n", std::string(kColumn, ' '));
    out += str_cat(left, flag.help, "\n");
  }
  return out;
}

}  // namespace carat
