#include <string_view>
#include <utility>

#include "base/str.h"
#include "config/media_tensors.h"

namespace carat {
namespace {

class ConformerLister {
 public:
  explicit ConformerLister(const ConformerConfig& config) : c_(config), hidden_(config.hidden_size) {}

  std::vector<MediaTensor> list() {
    subsampling();
    for (int j = 0; j < c_.num_layers; ++j) layer(str_cat("layers.", j, "."));
    add("output_proj.weight", {c_.output_size, hidden_});
    add("output_proj.bias", {c_.output_size});
    return std::move(out_);
  }

 private:
  void add(std::string_view name, Shape shape) { out_.push_back({str_cat("audio_tower.", name), shape}); }

  void linear(const std::string& name, int64_t outputs, int64_t inputs) {
    add(name + ".linear.weight", {outputs, inputs});
    if (!c_.clipped_linears) return;
    for (const char* bound : {".input_min", ".input_max", ".output_min", ".output_max"}) add(name + bound, {});
  }

  void subsampling() {
    const std::string s = "subsample_conv_projection.";
    const int64_t first = c_.conv_channels[0], second = c_.conv_channels[1];
    add(s + "layer0.conv.weight", {first, 1, 3, 3});
    add(s + "layer0.norm.weight", {first});
    add(s + "layer1.conv.weight", {second, first, 3, 3});
    add(s + "layer1.norm.weight", {second});
    add(s + "input_proj_linear.weight", {hidden_, ConformerConfig::kMelBins / 4 * second});
  }

  void layer(const std::string& l) {
    for (const char* name : {"feed_forward1.", "feed_forward2."}) {
      add(l + name + "pre_layer_norm.weight", {hidden_});
      linear(l + name + "ffw_layer_1", 4 * hidden_, hidden_);
      linear(l + name + "ffw_layer_2", hidden_, 4 * hidden_);
      add(l + name + "post_layer_norm.weight", {hidden_});
    }
    add(l + "norm_pre_attn.weight", {hidden_});
    for (const char* name : {"q_proj", "k_proj", "v_proj", "post"}) linear(l + "self_attn." + name, hidden_, hidden_);
    add(l + "self_attn.relative_k_proj.weight", {hidden_, hidden_});
    add(l + "self_attn.per_dim_scale", {c_.head_dim()});
    add(l + "norm_post_attn.weight", {hidden_});
    add(l + "lconv1d.pre_layer_norm.weight", {hidden_});
    linear(l + "lconv1d.linear_start", 2 * hidden_, hidden_);
    add(l + "lconv1d.depthwise_conv1d.weight", {hidden_, 1, c_.conv_kernel_size});
    add(l + "lconv1d.conv_norm.weight", {hidden_});
    linear(l + "lconv1d.linear_end", hidden_, hidden_);
    add(l + "norm_out.weight", {hidden_});
  }

  const ConformerConfig& c_;
  const int64_t hidden_;
  std::vector<MediaTensor> out_;
};

}  // namespace

std::vector<MediaTensor> audio_tensors(const AudioConfig& config, int64_t text_hidden_size) {
  std::vector<MediaTensor> tensors;
  int64_t width = RawAudioConfig::kFrameSamples;
  if (const auto* conformer = std::get_if<ConformerConfig>(&config)) {
    tensors = ConformerLister(*conformer).list();
    width = conformer->output_size;
  }
  tensors.push_back({"embed_audio.embedding_projection.weight", {text_hidden_size, width}, true});
  return tensors;
}

}  // namespace carat
