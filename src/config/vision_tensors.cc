#include <string_view>
#include <utility>

#include "base/str.h"
#include "config/media_tensors.h"

namespace carat {
namespace {

class TowerLister {
 public:
  explicit TowerLister(const VisionTowerConfig& config) : c_(config), hidden_(config.hidden_size) {}

  std::vector<MediaTensor> list() {
    add("patch_embedder.input_proj.weight",
        {hidden_, VisionTowerConfig::kPatchSize * VisionTowerConfig::kPatchSize * 3});
    add("patch_embedder.position_embedding_table", {2, c_.position_rows, hidden_});
    for (int j = 0; j < c_.num_layers; ++j) layer(str_cat("encoder.layers.", j, "."));
    if (c_.standardize)
      for (const char* name : {"std_bias", "std_scale"}) add(name, {hidden_});
    return std::move(out_);
  }

 private:
  void add(std::string_view name, Shape shape) { out_.push_back({str_cat("vision_tower.", name), shape}); }

  void linear(const std::string& name, int64_t outputs, int64_t inputs) {
    add(name + ".linear.weight", {outputs, inputs});
    if (!c_.clipped_linears) return;
    for (const char* bound : {".input_min", ".input_max", ".output_min", ".output_max"}) add(name + bound, {});
  }

  void layer(const std::string& l) {
    for (const char* name :
         {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"})
      add(str_cat(l, name, ".weight"), {hidden_});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) linear(l + "self_attn." + name, hidden_, hidden_);
    for (const char* name : {"q_norm", "k_norm"}) add(str_cat(l, "self_attn.", name, ".weight"), {c_.head_dim()});
    linear(l + "mlp.gate_proj", c_.intermediate_size, hidden_);
    linear(l + "mlp.up_proj", c_.intermediate_size, hidden_);
    linear(l + "mlp.down_proj", hidden_, c_.intermediate_size);
  }

  const VisionTowerConfig& c_;
  const int64_t hidden_;
  std::vector<MediaTensor> out_;
};

std::vector<MediaTensor> embedder_tensors(const PatchEmbedderConfig& c) {
  const std::string v = "vision_embedder.";
  const int64_t pixels = PatchEmbedderConfig::kPatchSize * PatchEmbedderConfig::kPatchSize * 3, hidden = c.hidden_size;
  return {{v + "patch_ln1.weight", {pixels}},
          {v + "patch_ln1.bias", {pixels}},
          {v + "patch_dense.weight", {hidden, pixels}},
          {v + "patch_dense.bias", {hidden}},
          {v + "patch_ln2.weight", {hidden}},
          {v + "patch_ln2.bias", {hidden}},
          {v + "pos_embedding", {c.position_rows, 2, hidden}},
          {v + "pos_norm.weight", {hidden}},
          {v + "pos_norm.bias", {hidden}}};
}

}  // namespace

std::vector<MediaTensor> vision_tensors(const VisionConfig& config, int64_t text_hidden_size) {
  std::vector<MediaTensor> tensors;
  int64_t width = 0;
  if (const auto* tower = std::get_if<VisionTowerConfig>(&config.encoder)) {
    tensors = TowerLister(*tower).list();
    width = tower->hidden_size;
  } else {
    const auto& embedder = std::get<PatchEmbedderConfig>(config.encoder);
    tensors = embedder_tensors(embedder);
    width = embedder.hidden_size;
  }
  tensors.push_back({"embed_vision.embedding_projection.weight", {text_hidden_size, width}, true});
  return tensors;
}

}  // namespace carat
