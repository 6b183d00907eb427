#include "server/model_source.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/log.h"
#include "base/str.h"
#include "chat/template_check.h"
#include "server/builtin_model.h"
#include "weights/model_path.h"

namespace carat {
namespace {

constexpr uint64_t kDummySeed = 20260425;

/// Where a model's files are: in a folder, in the program, or nowhere: then the shapes of a published name are known.
struct ModelPlace {
  std::optional<std::filesystem::path> folder;
  std::optional<BuiltinModel> builtin;
  ModelConfig config;
};

bool needs_weights(const ServerOptions& options) { return options.load_format == LoadFormat::kAuto; }

std::optional<WeightSource> find_weights(const ServerOptions& options, const ModelPlace& place) {
  if (!needs_weights(options)) return std::nullopt;
  if (place.folder) return WeightSource(*place.folder);
  if (place.builtin && !place.builtin->weights.empty())
    return WeightSource(place.builtin->name, place.builtin->weights);
  return std::nullopt;
}

Result<ModelPlace> find_model(const ServerOptions& options, const std::string& name) {
  ModelPlace place;
  place.builtin = find_builtin_model(name);
  if (place.builtin) {
    CARAT_TRY(place.config, place.builtin->parse_config());
    return place;
  }
  const auto folder = resolve_model_path(name, options.revision.value_or("main"));
  if (folder) {
    place.folder = *folder;
    CARAT_TRY(place.config, load_model_config(*folder));
    return place;
  }
  // Without weights the shapes are enough, and those of published names are known.
  auto known = builtin_model_config(name);
  if (needs_weights(options) || !known) return folder.error();
  place.config = std::move(*known);
  return place;
}

Result<void> apply_overrides(const Json& overrides, ModelConfig& config) {
  if (!overrides.is_object() || overrides.size() == 0) return {};
  Json raw = config.raw.is_object() ? config.raw : to_config_json(config);
  merge_json(raw, overrides);
  const Json generation = to_generation_json(config.generation);
  auto parsed = parse_model_config(raw, &generation, config.processor);
  if (!parsed) return Error{parsed.error().code, str_cat("--json-model-override-args: ", parsed.error().message)};
  config = std::move(*parsed);
  return {};
}

/// Only encoders that there will be stay in the configuration, so that it alone says what the model can take.
Result<void> choose_encoders(const ServerOptions& options, const std::optional<WeightSource>& source,
                             ModelConfig& config) {
  if (options.language_model_only) {
    config.vision.reset();
    config.audio.reset();
  } else if (source) {
    return drop_absent_encoders(*source, config);
  }
  return {};
}

bool has_tokenizer(const std::filesystem::path& folder) {
  std::error_code ec;
  return std::filesystem::exists(folder / "tokenizer.json", ec);
}

/// Without weights there may be no tokenizer either: then bytes are the tokens.
Result<void> open_tokenizer(const ServerOptions& options, const ModelPlace& place, LoadedModel& model) {
  std::optional<std::filesystem::path> folder = place.folder;
  if (options.tokenizer_path) {
    CARAT_TRY(folder, resolve_model_path(*options.tokenizer_path));
  }
  if (folder && (options.tokenizer_path || needs_weights(options) || has_tokenizer(*folder))) {
    CARAT_TRY(model.tokenizer, Tokenizer::load(*folder));
    model.tokenizer_path = options.tokenizer_path.value_or(options.model_path.value_or(folder->string()));
    return {};
  }
  model.tokenizer_path = model.name;
  if (place.builtin) {
    CARAT_TRY(model.tokenizer, Tokenizer::parse(place.builtin->tokenizer, place.builtin->tokenizer_config));
  } else {
    CARAT_TRY(model.tokenizer, Tokenizer::parse(miniature_tokenizer_json(), miniature_tokenizer_config_json()));
    log_warning("No tokenizer is on disk for ", model.name, ": the built-in one, whose tokens are bytes, is used.");
  }
  return {};
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Error{Errc::kNotFound, str_cat("--chat-template: can't open '", path, "'")};
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

/// Empty if the model has none.
Result<std::string> find_chat_template(const ServerOptions& options, const ModelPlace& place,
                                       const Tokenizer& tokenizer) {
  if (options.chat_template) return read_file(*options.chat_template);
  if (place.folder) return load_chat_template(*place.folder, tokenizer.chat_template());
  return place.builtin ? place.builtin->chat_template : std::string();
}

ChatFamily choose_family(const std::string& text, const ModelPlace& place, const LoadedModel& model) {
  const ChatFamily by_config = model.config.text.ple_size > 0 ? ChatFamily::kSmall : ChatFamily::kBig;
  if (text.empty() && !place.folder) return by_config;
  const TemplateCheck check = check_chat_template(text, by_config);
  if (!check.known && !check.warning.empty()) log_warning(check.warning);
  return check.family;
}

/// The ids that the files name. A model that chats (it has a template, or more ends than one) also stops at a turn's
/// end and where it waits for a tool: config.json alone, without generation_config.json, does not list them all.
std::vector<TokenId> find_end_tokens(const std::string& chat_template, const LoadedModel& model) {
  std::vector<TokenId> ids = model.config.generation.eos_token_ids;
  const bool chats = !chat_template.empty() || ids.size() > 1;
  const auto add = [&ids](std::optional<TokenId> id) {
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  };
  add(model.tokenizer->eos());
  if (chats)
    for (const std::string_view end : {"<turn|>", "<|tool_response>"}) add(model.tokenizer->find(end));
  return ids;
}

Result<int> choose_context_length(const ServerOptions& options, const TextConfig& text) {
  const int most = text.max_position_embeddings;
  const int wanted = options.context_length.value_or(most);
  const char* allow = std::getenv("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN");
  const bool allowed = allow && (std::string_view(allow) == "1" || equals_ignore_case_ascii(allow, "true"));
  if (wanted > most && !allowed)
    return Error{Errc::kInvalidArgument,
                 str_cat("--context-length ", wanted, " is above the configuration's ", most,
                         "; set the environment variable SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 to allow it")};
  return wanted;
}

}  // namespace

void merge_json(Json& config, const Json& override_json) {
  for (const auto& [key, value] : override_json.as_object()) {
    Json* mine = config.find(key);
    if (mine && mine->is_object() && value.is_object())
      merge_json(*mine, value);
    else
      config.set(key, value);
  }
}

Result<LoadedModel> open_model(const ServerOptions& options) {
  LoadedModel model;
  model.is_default = !options.model_path;
  model.name = options.model_path.value_or(std::string(needs_weights(options) ? default_model_name() : kMiniatureName));
  CARAT_TRY(auto place, find_model(options, model.name));
  model.config = std::move(place.config);
  model.source = find_weights(options, place);
  CARAT_TRY_VOID(apply_overrides(options.model_override_args, model.config));
  CARAT_TRY_VOID(choose_encoders(options, model.source, model.config));
  CARAT_TRY(model.context_length, choose_context_length(options, model.config.text));
  CARAT_TRY_VOID(open_tokenizer(options, place, model));
  CARAT_TRY(const auto chat_template, find_chat_template(options, place, *model.tokenizer));
  model.family = choose_family(chat_template, place, model);
  model.end_token_ids = find_end_tokens(chat_template, model);
  return model;
}

uint64_t weight_seed(const ServerOptions& options) { return options.random_seed.value_or(kDummySeed); }

Result<void> load_for_cpu(const ServerOptions& options, LoadedModel& model) {
  if (model.weights) return {};
  CARAT_TRY(model.weights, make_dummy_text_weights(model.config, weight_seed(options)));
  return {};
}

Result<void> load_contents(const ServerOptions& options, bool on_gpu, LoadedModel& model) {
  if (options.load_format == LoadFormat::kScripted) {
    CARAT_TRY(model.script, load_script(*options.script));
    return {};
  }
  if (!model.source) {
    CARAT_TRY(model.encoders, make_dummy_encoder_weights(model.config, weight_seed(options)));
    if (on_gpu) return {};
    return load_for_cpu(options, model);
  }
  CARAT_TRY(model.weights, load_text_weights(*model.source, model.config));
  CARAT_TRY(model.encoders, load_encoder_weights(*model.source, model.config));
  return {};
}

}  // namespace carat
