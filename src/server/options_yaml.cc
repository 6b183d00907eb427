#include "server/options_yaml.h"

#include <yaml-cpp/yaml.h>

#include <filesystem>

#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr int kMaxDepth = 32;

/// Scalars that YAML's core schema reads as numbers, booleans or null, else strings.
Json scalar_to_json(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return Json(text);  // quoted
  int64_t integer = 0;
  double number = 0;
  if (text == "null" || text == "~" || text.empty()) return Json();
  if (text == "true" || text == "false") return Json(text == "true");
  if (parse_int(text, integer)) return Json(integer);
  if (parse_float(text, number)) return Json(number);
  return Json(text);
}

Result<Json> to_json(const YAML::Node& node, int depth) {
  if (depth > kMaxDepth) return Error{Errc::kInvalidArgument, "nested too deeply"};
  if (node.IsScalar()) return scalar_to_json(node);
  if (node.IsSequence()) {
    Json out = Json::array();
    for (const auto& item : node) {
      CARAT_TRY(auto value, to_json(item, depth + 1));
      out.push_back(std::move(value));
    }
    return out;
  }
  if (!node.IsMap()) return Json();
  Json out = Json::object();
  for (const auto& member : node) {
    CARAT_TRY(auto value, to_json(member.second, depth + 1));
    out.set(member.first.Scalar(), std::move(value));
  }
  return out;
}

Result<std::vector<std::string>> values_of(const YAML::Node& node) {
  std::vector<std::string> values;
  if (node.IsScalar()) {
    values.push_back(node.Scalar());
  } else if (node.IsMap()) {
    CARAT_TRY(const auto json, to_json(node, 0));
    values.push_back(json.dump());
  } else if (node.IsSequence()) {
    for (const auto& item : node) {
      if (!item.IsScalar()) return Error{Errc::kInvalidArgument, "a list may hold plain values only"};
      values.push_back(item.Scalar());
    }
  }
  return values;
}

}  // namespace

Result<std::vector<YamlFlag>> read_yaml_flags(const std::string& path) {
  std::error_code ec;
  if (!std::filesystem::is_regular_file(path, ec))
    return Error{Errc::kNotFound, str_cat("argument --config: can't open '", path, "'")};
  try {
    const YAML::Node root = YAML::LoadFile(path);
    if (root.IsNull()) return std::vector<YamlFlag>{};
    if (!root.IsMap()) return Error{Errc::kInvalidArgument, str_cat(path, ": must be a map of flags")};
    std::vector<YamlFlag> flags;
    for (const auto& member : root) {
      auto values = values_of(member.second);
      if (!values)
        return Error{Errc::kInvalidArgument,
                     str_cat(path, ": '", member.first.Scalar(), "': ", values.error().message)};
      if (!values->empty()) flags.push_back({member.first.Scalar(), std::move(*values)});
    }
    return flags;
  } catch (const YAML::Exception& e) {
    return Error{Errc::kInvalidArgument, str_cat(path, ":", e.mark.line + 1, ": ", e.msg)};
  }
}

}  // namespace carat
