#include "server/script.h"

#include <fstream>
#include <iterator>
#include <optional>

#include "api/json_fields.h"
#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

std::optional<ScriptedEnd> parse_end(std::string_view name) {
  if (name == "stop") return ScriptedEnd::kStop;
  if (name == "length") return ScriptedEnd::kLength;
  return name == "fault" ? std::optional(ScriptedEnd::kFault) : std::nullopt;
}

Result<ScriptRule> parse_rule(std::string_view line) {
  CARAT_TRY(const auto json, parse_json(line));
  JsonFields fields(json, "");
  CARAT_TRY_VOID(fields.status());
  for (const auto& [key, value] : json.as_object())
    if (key != "match" && key != "text" && key != "tokens_per_step" && key != "ms_per_step" && key != "finish")
      return Error{Errc::kInvalidArgument,
                   str_cat("unknown key '", key, "' (match, text, tokens_per_step, ms_per_step, finish)")};
  ScriptRule rule;
  rule.match = fields.text("match").value_or("");
  rule.text = fields.text("text").value_or("");
  rule.tokens_per_step = static_cast<int>(fields.integer("tokens_per_step", 1, 1024).value_or(1));
  rule.ms_per_step = fields.number("ms_per_step").value_or(0);
  const std::string finish = fields.text("finish").value_or("stop");
  const auto end = parse_end(finish);
  if (!json.contains("text")) fields.fail("text", "Field required");
  if (!(rule.ms_per_step >= 0 && rule.ms_per_step <= 3'600'000))
    fields.fail("ms_per_step", str_cat("Input should be between 0 and 3600000, got ", rule.ms_per_step));
  if (!end) fields.fail("finish", str_cat("Input should be 'stop', 'length' or 'fault', got '", finish, "'"));
  CARAT_TRY_VOID(fields.status());
  rule.end = *end;
  return rule;
}

}  // namespace

Result<std::vector<ScriptRule>> parse_script(std::string_view text, std::string_view name) {
  std::vector<ScriptRule> rules;
  int number = 0;
  for (const std::string_view raw : split(text, '\n')) {
    ++number;
    const std::string_view line = trim(raw);
    if (line.empty()) continue;
    auto rule = parse_rule(line);
    if (!rule) return Error{Errc::kInvalidArgument, str_cat(name, ":", number, ": ", rule.error().message)};
    rules.push_back(std::move(*rule));
  }
  if (rules.empty()) return Error{Errc::kInvalidArgument, str_cat(name, ": the script has no lines")};
  return rules;
}

Result<std::vector<ScriptRule>> load_script(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return Error{Errc::kNotFound, str_cat("--script: can't open '", file.string(), "'")};
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in.bad()) return Error{Errc::kIo, str_cat("--script: can't read '", file.string(), "'")};
  return parse_script(text, file.string());
}

}  // namespace carat
