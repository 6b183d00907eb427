#include "config/vision_config.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "base/str.h"
#include "config/json_file.h"
#include "config/object_reader.h"

namespace carat {
namespace {

constexpr int64_t kMaxWidth = 1 << 16, kMaxLayers = 256, kMaxHeads = 1024, kMaxRows = 1 << 20, kMaxFrames = 1024;

/// A setting of which only one value is implemented, because the family uses only one.
void expect(ObjectReader& r, std::string_view key, int64_t value) {
  if (r.integer(key, 0, kMaxRows, value) != value) r.fail(Errc::kUnsupported, key, str_cat("supported: ", value));
}

double read_theta(ObjectReader& r, Result<void>& status) {
  const Json* rope = r.find("rope_parameters");
  if (!rope) return 100;
  ObjectReader rope_reader(*rope, str_cat(r.prefix(), "rope_parameters."), status);
  static constexpr std::array<std::string_view, 2> kTypes = {"default", "axial"};
  rope_reader.word("rope_type", kTypes, kTypes[0]);
  return rope_reader.number("rope_theta", 1, 1e12, true, 100.0);
}

VisionTowerConfig read_tower(ObjectReader& r, Result<void>& status) {
  static constexpr std::array<std::string_view, 1> kTypes = {"gemma4_vision"}, kActivations = {"gelu_pytorch_tanh"};
  r.word("model_type", kTypes, kTypes[0]);
  r.word("hidden_activation", kActivations, kActivations[0]);
  if (r.boolean("attention_bias", false)) r.fail(Errc::kUnsupported, "attention_bias", "supported: false");
  expect(r, "patch_size", VisionTowerConfig::kPatchSize);
  expect(r, "pooling_kernel_size", VisionTowerConfig::kPooling);
  VisionTowerConfig c;
  c.hidden_size = static_cast<int>(r.integer("hidden_size", 4, kMaxWidth, 768));
  c.intermediate_size = static_cast<int>(r.integer("intermediate_size", 1, kMaxWidth, 3072));
  c.num_layers = static_cast<int>(r.integer("num_hidden_layers", 1, kMaxLayers, 16));
  c.num_heads = static_cast<int>(r.integer("num_attention_heads", 1, kMaxHeads, 12));
  if (r.integer("num_key_value_heads", 1, kMaxHeads, 12) != c.num_heads)
    r.fail(Errc::kUnsupported, "num_key_value_heads", str_cat("supported: num_attention_heads = ", c.num_heads));
  if (c.hidden_size % (4 * c.num_heads) != 0)
    r.fail(Errc::kInvalidArgument, "hidden_size",
           str_cat("must be a multiple of 4 * num_attention_heads = ", 4 * c.num_heads));
  else if (r.integer("head_dim", 1, kMaxWidth, 64) != c.head_dim())
    r.fail(Errc::kUnsupported, "head_dim", str_cat("supported: hidden_size / num_attention_heads = ", c.head_dim()));
  c.position_rows = static_cast<int>(r.integer("position_embedding_size", 1, kMaxRows, 10240));
  c.clipped_linears = r.boolean("use_clipped_linears", false);
  c.standardize = r.boolean("standardize", false);
  c.rope_theta = read_theta(r, status);
  c.rms_norm_eps = r.number("rms_norm_eps", 0, 0.1, false, 1e-6);
  return c;
}

PatchEmbedderConfig read_embedder(ObjectReader& r) {
  static constexpr std::array<std::string_view, 1> kTypes = {"gemma4_unified_vision"};
  r.word("model_type", kTypes, kTypes[0]);
  expect(r, "patch_size", VisionTowerConfig::kPatchSize);
  expect(r, "pooling_kernel_size", VisionTowerConfig::kPooling);
  expect(r, "model_patch_size", PatchEmbedderConfig::kPatchSize);
  PatchEmbedderConfig c;
  c.hidden_size = static_cast<int>(r.integer("mm_embed_dim", 1, kMaxWidth, 3840));
  // The reference sets it itself, to the width that the decoder has in all files.
  if (r.integer("output_proj_dims", 1, kMaxWidth, c.hidden_size) != c.hidden_size)
    r.fail(Errc::kUnsupported, "output_proj_dims", str_cat("supported: mm_embed_dim = ", c.hidden_size));
  c.position_rows = static_cast<int>(r.integer("mm_posemb_size", 1, kMaxRows, 1120));
  c.rms_norm_eps = r.number("rms_norm_eps", 0, 0.1, false, 1e-6);
  return c;
}

/// Soft tokens beside each other that the position table can tell apart.
int max_tokens_per_side(const VisionConfig& config) {
  if (const auto* tower = std::get_if<VisionTowerConfig>(&config.encoder))
    return tower->position_rows / VisionTowerConfig::kPooling;
  return std::get<PatchEmbedderConfig>(config.encoder).position_rows;
}

/// "max_soft_tokens" of one processor; without it `fallback`, or less if the position table ends earlier.
int read_budget(ObjectReader& r, int fallback, int most) {
  const int value = static_cast<int>(r.integer("max_soft_tokens", 1, kMaxRows, std::min(fallback, most)));
  if (std::ranges::find(kSoftTokenBudgets, value) == kSoftTokenBudgets.end())
    r.fail(Errc::kInvalidArgument, "max_soft_tokens", "must be 70, 140, 280, 560 or 1120");
  else if (value > most)
    r.fail(Errc::kInvalidArgument, "max_soft_tokens",
           str_cat("must be at most ", most, ", for which the encoder's position table suffices"));
  return value;
}

/// What else of a processor changes pixels.
void check_preparation(ObjectReader& r) {
  expect(r, "patch_size", VisionTowerConfig::kPatchSize);
  expect(r, "pooling_kernel_size", VisionTowerConfig::kPooling);
  expect(r, "resample", 3);
  for (const char* key : {"do_resize", "do_rescale", "do_convert_rgb"})
    if (!r.boolean(key, true)) r.fail(Errc::kUnsupported, key, "supported: true");
  if (std::abs(r.number("rescale_factor", 0, 1, false, 1.0 / 255) - 1.0 / 255) > 1e-9)
    r.fail(Errc::kUnsupported, "rescale_factor", "supported: 1 / 255");
}

Json json_of(const VisionTowerConfig& c) {
  return Json::object({{"model_type", "gemma4_vision"},
                       {"hidden_size", c.hidden_size},
                       {"intermediate_size", c.intermediate_size},
                       {"num_hidden_layers", c.num_layers},
                       {"num_attention_heads", c.num_heads},
                       {"num_key_value_heads", c.num_heads},
                       {"head_dim", c.head_dim()},
                       {"global_head_dim", c.head_dim()},
                       {"patch_size", VisionTowerConfig::kPatchSize},
                       {"pooling_kernel_size", VisionTowerConfig::kPooling},
                       {"position_embedding_size", c.position_rows},
                       {"use_clipped_linears", c.clipped_linears},
                       {"standardize", c.standardize},
                       {"default_output_length", 280},
                       {"rope_parameters", Json::object({{"rope_type", "default"}, {"rope_theta", c.rope_theta}})},
                       {"rms_norm_eps", c.rms_norm_eps},
                       {"hidden_activation", "gelu_pytorch_tanh"},
                       {"attention_bias", false},
                       {"attention_dropout", 0.0},
                       {"max_position_embeddings", 131072},
                       {"dtype", "bfloat16"}});
}

Json json_of(const PatchEmbedderConfig& c) {
  return Json::object({{"model_type", "gemma4_unified_vision"},
                       {"patch_size", VisionTowerConfig::kPatchSize},
                       {"pooling_kernel_size", VisionTowerConfig::kPooling},
                       {"model_patch_size", PatchEmbedderConfig::kPatchSize},
                       {"mm_embed_dim", c.hidden_size},
                       {"mm_posemb_size", c.position_rows},
                       {"num_soft_tokens", 280},
                       {"output_proj_dims", c.hidden_size},
                       {"rms_norm_eps", c.rms_norm_eps},
                       {"dtype", "bfloat16"}});
}

}  // namespace

int VisionConfig::patch_size() const {
  return std::holds_alternative<VisionTowerConfig>(encoder) ? VisionTowerConfig::kPatchSize
                                                            : PatchEmbedderConfig::kPatchSize;
}

int VisionConfig::max_soft_tokens() const {
  int most = 0;
  for (const int budget : kSoftTokenBudgets)
    if (budget <= max_tokens_per_side(*this)) most = budget;
  return most;
}

VisionConfig read_vision_config(const Json& object, bool unified, Result<void>& status) {
  ObjectReader r(object, "config.json: vision_config.", status);
  VisionConfig config;
  if (unified)
    config.encoder = read_embedder(r);
  else
    config.encoder = read_tower(r, status);
  if (config.max_soft_tokens() == 0)
    r.fail(Errc::kInvalidArgument, unified ? "mm_posemb_size" : "position_embedding_size",
           str_cat("must be at least ", kSoftTokenBudgets[0] * (unified ? 1 : VisionTowerConfig::kPooling)));
  return config;
}

void read_budgets(const Json& processor, VisionConfig& config, Result<void>& status) {
  const int most = config.max_soft_tokens();
  ObjectReader root(processor, "processor_config.json: ", status);
  static const Json kNothing = Json::object();
  const auto section = [&](std::string_view key) -> const Json& {
    const Json* value = root.find(key);
    return value ? *value : kNothing;
  };
  ObjectReader image(section("image_processor"), "processor_config.json: image_processor.", status);
  check_preparation(image);
  config.image_soft_tokens = read_budget(image, 280, most);
  ObjectReader video(section("video_processor"), "processor_config.json: video_processor.", status);
  check_preparation(video);
  config.frame_soft_tokens = read_budget(video, 70, most);
  config.video_frames = static_cast<int>(video.integer("num_frames", 1, kMaxFrames, 32));
}

Json vision_config_json(const VisionConfig& config) {
  return std::visit([](const auto& c) { return json_of(c); }, config.encoder);
}

Result<Json> load_processor_config(const std::filesystem::path& folder) {
  Json found = Json::object();
  CARAT_TRY(const auto processor, read_json_file_if_there(folder / "processor_config.json"));
  CARAT_TRY(const auto image, read_json_file_if_there(folder / "preprocessor_config.json"));
  CARAT_TRY(const auto video, read_json_file_if_there(folder / "video_preprocessor_config.json"));
  const auto set = [&](std::string_view key, const std::optional<Json>& whole_file) {
    const Json* section = processor ? processor->find(key) : nullptr;
    if (section && !section->is_null())
      found.set(std::string(key), *section);
    else if (whole_file)
      found.set(std::string(key), *whole_file);
  };
  set("image_processor", image);
  set("video_processor", video);
  return found;
}

}  // namespace carat
