#include "api/native_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <set>

#include "base/str.h"

namespace carat {
namespace {

constexpr auto kUnserved = std::to_array<std::string_view>(
    {"input_embeds", "lora_path", "session_params", "custom_logit_processor", "return_hidden_states",
     "return_routed_experts", "routed_experts_start_len", "return_sampling_mask", "require_reasoning", "background"});
struct MediaField {
  std::string_view key;
  MediaKind kind;
};
constexpr MediaField kMedia[] = {
    {"image_data", MediaKind::kImage}, {"audio_data", MediaKind::kAudio}, {"video_data", MediaKind::kVideo}};

Error bad(std::string message) { return {Errc::kInvalidArgument, std::move(message)}; }

/// Entry `i` of a per-prompt list, or the value for all.
const Json* per_item(const Json* value, size_t i) {
  if (!value || !value->is_array()) return value;
  return i < value->size() ? &value->as_array()[i] : nullptr;
}

struct Prompts {
  std::vector<PromptInput> list;
  bool batch = false;
};

Result<Prompts> parse_texts(const Json& text) {
  Prompts out;
  out.batch = text.is_array();
  if (text.is_string()) {
    out.list.emplace_back(text.as_string());
    return out;
  }
  if (!text.is_array())
    return bad(str_cat("text: Input should be a string or a list of strings, got ", text.kind_name()));
  for (const Json& item : text.as_array()) {
    if (!item.is_string()) return bad(str_cat("text: Input should be a list of strings, got ", item.kind_name()));
    out.list.emplace_back(item.as_string());
  }
  return out;
}

Result<Prompts> parse_id_lists(const Json& ids) {
  Prompts out;
  out.batch = ids.is_array() && ids.size() > 0 && ids.as_array().front().is_array();
  if (!out.batch) {
    CARAT_TRY(auto one, parse_token_ids(ids, "input_ids"));
    out.list.emplace_back(std::move(one));
    return out;
  }
  for (const Json& item : ids.as_array()) {
    CARAT_TRY(auto one, parse_token_ids(item, "input_ids"));
    out.list.emplace_back(std::move(one));
  }
  return out;
}

Result<Prompts> parse_prompts(const Json& body) {
  const auto given = [&](std::string_view key) {
    const Json* value = body.find(key);
    return value && !value->is_null() ? value : nullptr;
  };
  const Json* text = given("text");
  const Json* ids = given("input_ids");
  if ((text != nullptr) + (ids != nullptr) + (given("input_embeds") != nullptr) != 1)
    return bad("Either text, input_ids or input_embeds should be provided.");
  if (text) return parse_texts(*text);
  if (ids) return parse_id_lists(*ids);
  return bad("input_embeds is not supported by this server.");
}

Result<bool> per_item_bool(const Json& body, std::string_view key, size_t i) {
  const Json* value = per_item(body.find(key), i);
  if (!value || value->is_null()) return false;
  if (!value->is_bool()) return bad(str_cat(key, ": Input should be a valid boolean, got ", value->kind_name()));
  return value->as_bool();
}

Result<std::optional<int>> per_item_int(const Json& body, std::string_view key, size_t i) {
  const Json* value = per_item(body.find(key), i);
  if (!value || value->is_null()) return std::optional<int>();
  if (!value->is_int() || value->as_int() < -1 || value->as_int() > std::numeric_limits<int>::max())
    return bad(str_cat(key, ": Input should be a valid integer, got ",
                       value->is_int() ? value->dump() : std::string(value->kind_name())));
  return std::optional(static_cast<int>(value->as_int()));
}

Result<std::vector<TokenId>> logprob_ids(const Json& body, size_t i) {
  const Json* value = body.find("token_ids_logprob");
  if (!value || value->is_null()) return std::vector<TokenId>{};
  const bool nested = value->is_array() && value->size() > 0 && value->as_array().front().is_array();
  if (nested) value = per_item(value, i);
  if (!value || value->is_null()) return std::vector<TokenId>{};
  auto ids = parse_token_ids(*value, "token_ids_logprob");
  if (!ids) return bad("token_ids_logprob must be a flat list of integers.");
  return std::move(*ids);
}

Result<LogprobParams> read_logprobs(const Json& body, size_t i) {
  LogprobParams out;
  CARAT_TRY(out.enabled, per_item_bool(body, "return_logprob", i));
  CARAT_TRY(const auto start, per_item_int(body, "logprob_start_len", i));
  CARAT_TRY(const auto top, per_item_int(body, "top_logprobs_num", i));
  CARAT_TRY(out.token_ids, logprob_ids(body, i));
  out.num_top = std::max(top.value_or(0), 0);
  if (start && *start >= 0) out.prompt_start = *start;
  if (!out.enabled) return LogprobParams{};
  return out;
}

Result<std::optional<std::string>> read_rid(const Json& body, size_t i, bool batch) {
  const Json* rid = body.find("rid");
  if (!rid || rid->is_null()) return std::optional<std::string>();
  if (rid->is_string()) {
    CARAT_TRY_VOID(check_request_id(rid->as_string()));
    return std::optional(batch ? str_cat(rid->as_string(), "_", i) : rid->as_string());
  }
  const Json* mine = per_item(rid, i);
  if (!rid->is_array() || !mine || !mine->is_string())
    return bad("rid: Input should be a string, or a list with one string per prompt");
  CARAT_TRY_VOID(check_request_id(mine->as_string()));
  return std::optional(mine->as_string());
}

/// `extra_key` and `cache_salt` may be lists, one entry per prompt.
Result<RequestIdentity> read_item_identity(const Json& body, size_t i, bool batch) {
  Json mine = Json::object();
  for (const std::string_view key : {"priority", "extra_key", "cache_salt"}) {
    const Json* value = body.find(key);
    if (!value) continue;
    if (value->is_array() && key != "priority") {
      if (!batch || i >= value->size()) return bad(str_cat(key, ": a list must have one entry per prompt"));
      value = &value->as_array()[i];
    }
    mine.set(key, *value);
  }
  JsonFields fields(mine, "");
  RequestIdentity identity = read_identity(fields);
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY(identity.rid, read_rid(body, i, batch));
  return identity;
}

/// A medium: a string, or an object with a `url`.
Result<MediaPart> parse_medium(const Json& json, const MediaField& field) {
  const Json* source = json.is_object() ? json.find("url") : &json;
  if (!source || !source->is_string())
    return bad(str_cat(field.key, ": Input should be a URL, path, data URI or base64, or lists of them, got ",
                       source ? source->kind_name() : "object without a url"));
  return MediaPart{field.kind, std::make_shared<const std::string>(source->as_string())};
}

/// The media of prompt `i`. Of one prompt a list has several of them, also as a list in a list; of a batch it has an
/// entry or a list per prompt, and what is no list is for all prompts.
Result<void> read_media(const Json& body, const MediaField& field, size_t i, size_t num_prompts, bool batch,
                        std::vector<MediaPart>& out) {
  const Json* value = body.find(field.key);
  const auto is_nested = [&] { return value->size() == 1 && value->as_array().front().is_array(); };
  if (value && value->is_array() && batch) {
    if (value->size() > 0 && value->size() != num_prompts)
      return bad(str_cat(field.key, ": a list must have one entry per prompt"));
    value = per_item(value, i);
  } else if (value && value->is_array() && is_nested()) {
    value = &value->as_array().front();
  }
  if (!value || !value->truthy()) return {};
  if (!value->is_array()) {
    CARAT_TRY(auto medium, parse_medium(*value, field));
    out.push_back(std::move(medium));
    return {};
  }
  for (const Json& item : value->as_array()) {
    if (item.is_null()) continue;
    CARAT_TRY(auto medium, parse_medium(item, field));
    out.push_back(std::move(medium));
  }
  return {};
}

Result<NativeItem> parse_item(const Json& body, PromptInput prompt, size_t i, bool batch,
                              const GenerationParams& defaults) {
  NativeItem item;
  item.prompt = std::move(prompt);
  item.params = defaults;
  const Json* all = body.find("sampling_params");
  if (all && all->is_array() && i >= all->size()) return bad("sampling_params: a list must have one entry per prompt");
  if (const Json* sampling = native_sampling_params(body, i))
    CARAT_TRY_VOID(read_native_params(*sampling, item.params));
  CARAT_TRY(item.params.logprobs, read_logprobs(body, i));
  CARAT_TRY(item.identity, read_item_identity(body, i, batch));
  CARAT_TRY(item.text_in_logprobs, per_item_bool(body, "return_text_in_logprobs", i));
  return item;
}

}  // namespace

Result<Json> vertex_to_native(const Json& body) {
  JsonFields fields(body, "");
  const Json* parameters = fields.object("parameters");
  const Json* instances = fields.find("instances");
  CARAT_TRY_VOID(fields.status());
  if (!instances || !instances->is_array() || instances->size() == 0)
    return bad("instances: Input should be a list with at least one object");
  Json native = parameters ? *parameters : Json::object();
  const std::string_view key = instances->as_array().front().find("input_ids") ? "input_ids" : "text";
  Json prompts = Json::array(), images = Json::array();
  for (const Json& instance : instances->as_array()) {
    const Json* prompt = instance.is_object() ? instance.find(key) : nullptr;
    if (!prompt) return bad(str_cat("instances.", prompts.size(), ".", key, ": Field required"));
    prompts.push_back(*prompt);
    const Json* image = instance.find("image_data");
    images.push_back(image ? *image : Json());
  }
  native.set(key, std::move(prompts));
  native.set("image_data", std::move(images));
  native.set("stream", false);
  return native;
}

bool native_streams(const Json& body) {
  const Json* stream = body.find("stream");
  return stream && stream->is_bool() && stream->as_bool();
}

const Json* native_sampling_params(const Json& body, size_t i) {
  const Json* params = per_item(body.find("sampling_params"), i);
  return params && !params->is_null() ? params : nullptr;
}

Result<NativeRequest> parse_native_request(const Json& body, const GenerationParams& defaults) {
  NativeRequest request;
  JsonFields fields(body, "");
  CARAT_TRY_VOID(fields.status());
  request.stream = fields.boolean("stream").value_or(false);
  request.log_metrics = fields.boolean("log_metrics").value_or(true);
  request.return_prompt_ids = fields.boolean("return_prompt_token_ids").value_or(false);
  CARAT_TRY_VOID(fields.status());
  CARAT_TRY(auto prompts, parse_prompts(body));
  if (prompts.list.size() > kMaxPromptsPerRequest)
    return bad(str_cat("at most ", kMaxPromptsPerRequest, " prompts are allowed, got ", prompts.list.size()));
  request.batch = prompts.batch;
  const size_t num_prompts = prompts.list.size();
  for (size_t i = 0; i < num_prompts; ++i) {
    CARAT_TRY(auto item, parse_item(body, std::move(prompts.list[i]), i, request.batch, defaults));
    for (const MediaField& field : kMedia)
      CARAT_TRY_VOID(read_media(body, field, i, num_prompts, request.batch, item.media));
    request.items.push_back(std::move(item));
  }
  return request;
}

Result<void> check_native_request(const Json& body, const NativeRequest& request, int vocab_size) {
  if (request.items.empty()) return bad("The batch is empty.");
  std::set<std::string> rids;
  for (size_t i = 0; i < request.items.size(); ++i) {
    const NativeItem& item = request.items[i];
    if (std::visit([](const auto& p) { return p.empty(); }, item.prompt)) return bad("The input is empty.");
    const auto& rid = item.identity.rid;
    if (rid && !rids.insert(*rid).second)
      return bad(str_cat("Duplicate request IDs detected within the request: '", *rid, "'"));
    if (const Json* sampling = native_sampling_params(body, i)) {
      static constexpr std::string_view kUnservedParams[] = {"beam_width", "watermark", "custom_params"};
      CARAT_TRY_VOID(refuse_unserved(*sampling, kUnservedParams));
    }
    if (item.params.n != request.items.front().params.n) return bad("n must be the same for all prompts of a batch.");
    CARAT_TRY_VOID(check_params(item.params, vocab_size));
  }
  return refuse_unserved(body, kUnserved);
}

}  // namespace carat
