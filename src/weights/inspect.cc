#include "weights/inspect.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <vector>

#include "base/str.h"
#include "config/model_config.h"
#include "config/model_size.h"
#include "weights/checkpoint.h"
#include "weights/encoder_weights.h"
#include "weights/host_memory.h"
#include "weights/model_path.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

namespace fs = std::filesystem;

constexpr std::array<int64_t, 5> kLengths = {1024, 8192, 32768, 131072, 262144};

/// 1234567 -> "1,234,567"
std::string grouped(int64_t number) {
  std::string out = std::to_string(number);
  for (size_t at = out.size(); at > 3; at -= 3) out.insert(at - 3, ",");
  return out;
}

std::string padded_left(std::string text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

class Report {
 public:
  template <class... Parts>
  void line(const Parts&... parts) {
    text_ += str_cat(parts..., '\n');
  }
  /// A label in the first column.
  template <class... Parts>
  void field(std::string_view label, const Parts&... parts) {
    line(label, std::string(label.size() < 12 ? 12 - label.size() : 1, ' '), parts...);
  }
  /// An indented row of a table: a name and its bytes.
  void bytes(std::string_view name, int64_t count) {
    if (count == 0) return;
    line("  ", name, std::string(name.size() < 30 ? 30 - name.size() : 1, ' '), padded_left(grouped(count), 16), "  ",
         padded_left(format_bytes(count), 10));
  }
  void problem(std::string text) { problems_.push_back(std::move(text)); }
  std::string finish() {
    for (const std::string& problem : problems_) field("Problem", problem);
    return std::move(text_);
  }

 private:
  std::string text_;
  std::vector<std::string> problems_;
};

int count_layers(const TextConfig& t, AttentionKind kind) {
  return static_cast<int>(std::count_if(t.layers.begin(), t.layers.end(), [&](auto& l) { return l.kind == kind; }));
}

std::string list_of(const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out += str_cat(out.empty() ? "" : ", ", id);
  return out.empty() ? "none" : out;
}

void describe_shape(Report& r, const ModelConfig& config) {
  const TextConfig& t = config.text;
  r.field("Member", config.variant, " (", config.model_type,
          config.architectures.empty() ? "" : str_cat(", ", config.architectures[0]), ")");
  std::string layers = str_cat(t.num_layers, ": ", count_layers(t, AttentionKind::kSliding), " sliding (window ",
                               t.sliding_window, "), ", count_layers(t, AttentionKind::kFull), " full");
  if (t.first_shared_layer < t.num_layers)
    layers += str_cat("; ", t.num_layers - t.first_shared_layer, " read the K/V of earlier ones");
  r.field("Layers", layers);
  std::string shape = str_cat("hidden ", t.hidden_size, ", feed-forward ", t.layers.front().intermediate_size);
  if (const int last = t.layers.back().intermediate_size; last != t.layers.front().intermediate_size)
    shape += str_cat(" and ", last);
  if (t.moe)
    shape += str_cat(", ", t.moe->num_experts, " experts of ", t.moe->intermediate_size, " (top ", t.moe->top_k, ")");
  if (t.ple_size > 0) shape += str_cat(", per-layer embeddings of ", t.ple_size);
  r.field("Shape", shape);
  r.field("Vocabulary", t.vocab_size, "; end tokens ", list_of(config.generation.eos_token_ids),
          config.generation.suppress_token_ids.empty()
              ? ""
              : "; suppressed " + list_of(config.generation.suppress_token_ids));
  r.field("Context", t.max_position_embeddings, " tokens");
  r.field("Encoders", config.vision ? (config.audio ? "vision, audio" : "vision") : (config.audio ? "audio" : "none"));
}

void describe_files(Report& r, const fs::path& folder, const ModelConfig& config) {
  std::error_code ec;
  std::string present;
  for (const char* name : {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                           "processor_config.json", "preprocessor_config.json"})
    if (fs::exists(folder / name, ec)) present += str_cat(present.empty() ? "" : ", ", name);
  r.field("Other files", present.empty() ? "none" : present);
  if (!fs::exists(folder / "tokenizer.json", ec))
    r.problem("tokenizer.json is missing: only requests with token ids can be served");
  if (!fs::exists(folder / "chat_template.jinja", ec))
    r.problem("chat_template.jinja is missing: the built-in chat format cannot be compared with it");
  if (!fs::exists(folder / "generation_config.json", ec))
    r.problem("generation_config.json is missing: sampling defaults and end tokens come from config.json alone");
  if (config.generation.eos_token_ids.empty()) r.problem("no end token is configured: only length ends a generation");
}

void describe_encoder_files(Report& r, const fs::path& folder, ModelConfig config) {
  const bool vision = config.vision.has_value(), audio = config.audio.has_value();
  if (const auto dropped = drop_absent_encoders(folder, config); !dropped) return r.problem(dropped.error().message);
  if (vision && !config.vision) r.problem("the weight files hold no vision encoder: pictures are refused");
  if (audio && !config.audio) r.problem("the weight files hold no audio encoder: sound is refused");
  if (!config.vision && !config.audio) return;
  if (const auto encoders = load_encoder_weights(folder, config); !encoders)
    r.problem(encoders.error().message);
  else
    r.field("Check", "every encoder tensor is there with its shape and type");
}

void describe_weights(Report& r, const fs::path& folder, const ModelConfig& config) {
  const auto checkpoint = Checkpoint::open(folder);
  if (!checkpoint) {
    r.field("Weights", "none that can be read");
    r.problem(checkpoint.error().message);
    if (checkpoint.error().code == Errc::kNotFound) r.problem("without weights only --load-format dummy can serve it");
    return;
  }
  std::map<std::string, int64_t> types;
  for (const Checkpoint::File& file : (*checkpoint)->files())
    for (const SafetensorsEntry& entry : file.header.tensors) ++types[entry.dtype];
  std::string dtypes;
  for (const auto& [name, count] : types) dtypes += str_cat(dtypes.empty() ? "" : ", ", name, " x ", count);
  const auto files = (*checkpoint)->files();
  r.field("Weights", (*checkpoint)->num_tensors(), " tensors (", dtypes, "), ", grouped((*checkpoint)->tensor_bytes()),
          " bytes in ", files.size(), files.size() == 1 ? " file" : " files");
  for (const Checkpoint::File& file : files)
    r.line("  ", file.path.filename().string(), ": ", file.header.tensors.size(), " tensors, ",
           format_bytes(file.mapping.size()));
  const auto text = load_text_weights(folder, config);
  if (text)
    r.field("Check", "every text tensor is there with its shape and type");
  else
    r.problem(text.error().message);
  describe_encoder_files(r, folder, config);
}

void describe_bytes(Report& r, const ModelConfig& config) {
  const ModelSize s = model_size(config);
  r.line("Parameter bytes by the configuration (bf16)");
  r.bytes("embedding = output head", s.embedding);
  r.bytes("per-layer embedding table", s.ple_table);
  r.bytes("per-layer embedding projection", s.ple_projection);
  r.bytes("per-layer gates in layers", s.ple_layers);
  r.bytes("attention", s.attention);
  r.bytes("dense feed-forward", s.mlp);
  r.bytes("router", s.router);
  r.bytes("experts", s.experts);
  r.bytes("norms, scalars", s.norms);
  r.bytes("text in use", s.text());
  r.bytes("K/V of sharing layers, unused", s.unused_kv);
  r.bytes("vision", s.vision + s.vision_projection);
  r.bytes("audio", s.audio + s.audio_projection);
  r.bytes("whole checkpoint", s.total());
  r.bytes("read per decoded token", bytes_per_decoded_token(config.text));
}

void describe_kv(Report& r, const TextConfig& t) {
  const int64_t sliding = kv_bytes_per_token(t, AttentionKind::kSliding),
                full = kv_bytes_per_token(t, AttentionKind::kFull);
  r.line("KV cache bytes (bf16)");
  r.bytes("per token", sliding + full);
  r.bytes("per token beyond the window", full);
  for (const int64_t length : kLengths)
    if (length <= t.max_position_embeddings)
      r.bytes(str_cat("a sequence of ", grouped(length)), kv_stored_bytes(t, length));
}

void describe_memory(Report& r, const ModelConfig& config) {
  const auto available = available_memory_bytes();
  if (!available) return r.field("Memory", "this system does not say how much is free");
  const int64_t weights = model_size(config).text();
  const int64_t rest = *available - weights;
  r.field("Memory", format_bytes(*available), " available, text weights take ", format_bytes(weights),
          rest < 0 ? ": they do not fit, pages would be read from disk again and again"
                   : str_cat(", ", format_bytes(rest), " remain"));
  if (rest < 0) return r.problem("this machine has too little memory for the text weights");
  for (const int64_t length : kLengths)
    if (length <= config.text.max_position_embeddings)
      r.line("  sequences of ", padded_left(grouped(length), 7),
             " tokens that fit: ", grouped(rest / kv_stored_bytes(config.text, length)));
}

}  // namespace

Result<std::string> inspect_model(std::string_view model) {
  Report r;
  auto folder = resolve_model_path(model);
  std::optional<ModelConfig> config;
  if (folder) {
    CARAT_TRY(config, load_model_config(*folder));
    r.field("Model", folder->string());
  } else {
    config = builtin_model_config(model);
    if (!config) return std::move(folder).error();
    r.field("Model", model, " (built-in configuration; the checkpoint is not on this machine)");
  }
  describe_shape(r, *config);
  if (folder) {
    describe_weights(r, *folder, *config);
    describe_files(r, *folder, *config);
  }
  describe_bytes(r, *config);
  describe_kv(r, config->text);
  describe_memory(r, *config);
  return r.finish();
}

}  // namespace carat
