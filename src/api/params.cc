#include "api/params.h"

#include <algorithm>
#include <array>
#include <limits>
#include <random>

#include "base/str.h"

namespace carat {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

constexpr std::array<std::string_view, 27> kNativeNames = {"max_new_tokens",
                                                           "min_new_tokens",
                                                           "temperature",
                                                           "top_p",
                                                           "top_k",
                                                           "min_p",
                                                           "frequency_penalty",
                                                           "presence_penalty",
                                                           "repetition_penalty",
                                                           "logit_bias",
                                                           "stop",
                                                           "stop_token_ids",
                                                           "stop_regex",
                                                           "ignore_eos",
                                                           "skip_special_tokens",
                                                           "spaces_between_special_tokens",
                                                           "no_stop_trim",
                                                           "n",
                                                           "json_schema",
                                                           "regex",
                                                           "ebnf",
                                                           "structural_tag",
                                                           "sampling_seed",
                                                           "stream_interval",
                                                           "custom_params",
                                                           "beam_width",
                                                           "watermark"};

void read_float(JsonFields& fields, std::string_view key, float& out) {
  if (const auto value = fields.number(key)) out = static_cast<float>(*value);
}

void read_int(JsonFields& fields, std::string_view key, int& out) {
  if (const auto value = fields.integer(key, -kMaxInt, kMaxInt)) out = static_cast<int>(*value);
}

void read_bool(JsonFields& fields, std::string_view key, bool& out) {
  if (const auto value = fields.boolean(key)) out = *value;
}

void read_logit_bias(JsonFields& fields, SamplingParams& out) {
  const Json* bias = fields.object("logit_bias");
  if (!bias) return;
  out.logit_bias.clear();
  for (const auto& [key, value] : bias->as_object()) {
    int64_t id = 0;
    if (!parse_int(key, id) || id < 0 || id > kMaxInt)
      return fields.fail("logit_bias", str_cat("keys must be token ids, got '", key, "'"));
    if (!value.is_number())
      return fields.fail("logit_bias", str_cat("values must be numbers, got ", value.kind_name()));
    out.logit_bias.emplace_back(static_cast<TokenId>(id), static_cast<float>(value.as_double()));
  }
}

void read_stop_ids(JsonFields& fields, SamplingParams& out) {
  if (auto ids = fields.ids("stop_token_ids")) out.stop_token_ids = std::move(*ids);
}

void read_stop(JsonFields& fields, GenerationParams& params) {
  auto stop = fields.texts("stop");
  if (!stop) return;
  std::erase(*stop, std::string());
  params.text.stop = std::move(*stop);
}

void read_stop_regex(JsonFields& fields, GenerationParams& params) {
  auto patterns = fields.texts("stop_regex");
  if (!patterns) return;
  std::erase(*patterns, std::string());
  params.stop_regex = std::move(*patterns);
}

/// The names that native and OpenAI routes share.
void read_shared(JsonFields& fields, GenerationParams& params) {
  SamplingParams& s = params.sampling;
  read_float(fields, "temperature", s.temperature);
  read_float(fields, "top_p", s.top_p);
  read_int(fields, "top_k", s.top_k);
  read_float(fields, "min_p", s.min_p);
  read_float(fields, "frequency_penalty", s.frequency_penalty);
  read_float(fields, "presence_penalty", s.presence_penalty);
  read_float(fields, "repetition_penalty", s.repetition_penalty);
  read_logit_bias(fields, s);
  read_stop_ids(fields, s);
  read_bool(fields, "ignore_eos", s.ignore_eos);
  read_stop(fields, params);
  read_stop_regex(fields, params);
  read_bool(fields, "skip_special_tokens", params.text.skip_special_tokens);
  read_bool(fields, "no_stop_trim", params.text.no_stop_trim);
  read_int(fields, "n", params.n);
}

uint64_t mix(uint64_t hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

bool is_set(const Json* value) { return value && value->truthy(); }

}  // namespace

SamplingParams chat_sampling_defaults(const GenerationConfig& generation, bool from_model) {
  SamplingParams params;
  if (!from_model) return params;
  if (generation.temperature) params.temperature = static_cast<float>(*generation.temperature);
  if (generation.top_p) params.top_p = static_cast<float>(*generation.top_p);
  if (generation.top_k && *generation.top_k > 0) params.top_k = *generation.top_k;
  if (generation.min_p) params.min_p = static_cast<float>(*generation.min_p);
  if (generation.repetition_penalty) params.repetition_penalty = static_cast<float>(*generation.repetition_penalty);
  return params;
}

Result<void> read_native_params(const Json& sampling_params, GenerationParams& params) {
  JsonFields fields(sampling_params, "sampling_params");
  CARAT_TRY_VOID(fields.status());
  for (const auto& [key, value] : sampling_params.as_object()) {
    if (std::find(kNativeNames.begin(), kNativeNames.end(), key) != kNativeNames.end()) continue;
    std::string names;
    for (const auto name : kNativeNames) names += str_cat(names.empty() ? "" : ", ", "`", name, "`");
    return Error{Errc::kInvalidArgument, str_cat("unknown field `", key, "`, expected one of ", names)};
  }
  read_shared(fields, params);
  if (const auto most = fields.integer("max_new_tokens")) params.max_new_tokens = *most;
  read_int(fields, "min_new_tokens", params.sampling.min_new_tokens);
  if (const auto seed = fields.integer("sampling_seed")) params.sampling.seed = *seed;
  if (const auto interval = fields.integer("stream_interval", 1, kMaxInt))
    params.stream_interval = static_cast<int>(*interval);
  return fields.status();
}

void read_openai_params(JsonFields& fields, GenerationParams& params) {
  read_shared(fields, params);
  read_int(fields, "min_tokens", params.sampling.min_new_tokens);
  if (const auto seed = fields.integer("seed")) params.sampling.seed = *seed;
}

Result<void> check_params(const GenerationParams& params, int vocab_size) {
  const auto bad = [](std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; };
  CARAT_TRY_VOID(validate(params.text));
  if (params.sampling.stop_token_ids.size() > kMaxStopTokenIds)
    return bad(str_cat("at most ", kMaxStopTokenIds, " stop token ids are allowed, got ",
                       params.sampling.stop_token_ids.size()));
  if (params.n < 1 || params.n > kMaxSamplesPerPrompt)
    return bad(str_cat("n must be between 1 and ", kMaxSamplesPerPrompt, ", got ", params.n, "."));
  if (params.logprobs.num_top < 0 || params.logprobs.num_top > kMaxTopLogprobs)
    return bad(str_cat("the number of top logprobs must be between 0 and ", kMaxTopLogprobs, ", got ",
                       params.logprobs.num_top, "."));
  if (params.logprobs.token_ids.size() > kMaxLogprobIds)
    return bad(
        str_cat("at most ", kMaxLogprobIds, " token_ids_logprob are allowed, got ", params.logprobs.token_ids.size()));
  for (const TokenId id : params.logprobs.token_ids)
    if (id < 0 || id >= vocab_size)
      return bad(str_cat("token_ids_logprob contains out-of-vocabulary token id ", id, "."));
  if (params.max_new_tokens && *params.max_new_tokens < 0)
    return bad(str_cat("max_new_tokens must be at least 0, got ", *params.max_new_tokens, "."));
  SamplingParams sampling = params.sampling;
  sampling.max_new_tokens = static_cast<int>(std::min(params.max_new_tokens.value_or(kMaxInt), kMaxInt));
  return validate(sampling, vocab_size);
}

StreamParams read_stream_params(JsonFields& fields) {
  StreamParams out;
  read_bool(fields, "stream", out.stream);
  if (const Json* options = fields.object("stream_options")) {
    JsonFields inner(*options, "stream_options");
    read_bool(inner, "include_usage", out.include_usage);
    read_bool(inner, "continuous_usage_stats", out.continuous_usage);
    if (const auto ok = inner.status(); !ok) fields.fail("stream_options", ok.error().message);
  }
  return out;
}

RequestIdentity read_identity(JsonFields& fields) {
  RequestIdentity out;
  out.rid = fields.text("rid");
  if (out.rid)
    if (const auto ok = check_request_id(*out.rid); !ok) fields.fail("rid", ok.error().message);
  if (const auto priority = fields.integer("priority", -kMaxInt, kMaxInt)) out.priority = static_cast<int>(*priority);
  const auto extra_key = fields.text("extra_key");
  const auto salt = fields.text("cache_salt");
  if (extra_key || salt)
    out.cache_salt =
        mix(mix(mix(0xcbf29ce484222325ull, extra_key.value_or("")), std::string_view("\0", 1)), salt.value_or(""));
  return out;
}

Result<void> check_request_id(std::string_view rid) {
  if (!rid.empty() && rid.size() <= kMaxRequestIdBytes) return {};
  return Error{Errc::kInvalidArgument,
               str_cat("a request id must have 1 to ", kMaxRequestIdBytes, " bytes, got ", rid.size())};
}

Result<void> refuse_unserved(const Json& body, std::span<const std::string_view> names) {
  for (const auto name : names)
    if (is_set(body.find(name)))
      return Error{Errc::kInvalidArgument, str_cat(name, " is not supported by this server.")};
  return {};
}

std::string new_request_id() {
  thread_local std::mt19937_64 generator{std::random_device{}() * 0x9e3779b97f4a7c15ull ^ std::random_device{}()};
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string id(32, '0');
  for (size_t i = 0; i < 32; i += 16) {
    uint64_t bits = generator();
    for (size_t j = 0; j < 16; ++j, bits >>= 4) id[i + j] = kDigits[bits & 15];
  }
  id[12] = '4';
  id[16] = kDigits[8 + (static_cast<unsigned>(id[16]) & 3)];
  return id;
}

std::string new_call_id() { return str_cat("call_", new_request_id().substr(8)); }

}  // namespace carat
