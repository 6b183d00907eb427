#include "server/builtin_model.h"

#include "base/str.h"
#include "server/nano_files.h"

namespace carat {
namespace {

std::string text_of(std::string_view file) {
  const auto bytes = nano_file(file);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

BuiltinModel nano() {
  return {kNanoName,
          text_of("config.json"),
          text_of("generation_config.json"),
          text_of("processor_config.json"),
          text_of("tokenizer.json"),
          text_of("tokenizer_config.json"),
          text_of("chat_template.jinja"),
          nano_file("model.safetensors")};
}

BuiltinModel miniature() {
  return {kMiniatureName,
          miniature_config_json().dump(),
          miniature_generation_json().dump(),
          "",
          miniature_tokenizer_json(),
          miniature_tokenizer_config_json(),
          "",
          {}};
}

bool has_nano() { return !nano_file("model.safetensors").empty(); }

}  // namespace

Result<ModelConfig> BuiltinModel::parse_config() const {
  CARAT_TRY(const Json root, parse_json(config));
  CARAT_TRY(const Json generation_json, parse_json(generation));
  Json processor_json;
  if (!processor.empty()) {
    CARAT_TRY(processor_json, parse_json(processor));
  }
  return parse_model_config(root, &generation_json, processor_json);
}

std::optional<BuiltinModel> find_builtin_model(std::string_view name) {
  if (name == kNanoName && has_nano()) return nano();
  if (name == kMiniatureName) return miniature();
  return std::nullopt;
}

std::string_view default_model_name() { return has_nano() ? kNanoName : kMiniatureName; }

}  // namespace carat
