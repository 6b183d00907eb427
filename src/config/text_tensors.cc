#include "config/text_tensors.h"

#include <string_view>
#include <utility>

#include "base/str.h"

namespace carat {
namespace {

class Lister {
 public:
  explicit Lister(const TextConfig& config) : c_(config), hidden_(config.hidden_size) {}

  std::vector<TextTensor> list() {
    globals();
    for (int i = 0; i < c_.num_layers; ++i) layer(i);
    return std::move(out_);
  }

 private:
  void add(std::string_view role, Shape shape, TextTensorPart part) {
    std::string name = layer_ ? str_cat("layers.", *layer_, ".", role) : std::string(role);
    out_.push_back({std::move(name), layer_, std::string(role), shape, part});
  }
  void norm(std::string_view role, int64_t size) { add(role, {size}, TextTensorPart::kNorms); }

  void globals() {
    add("embed_tokens.weight", {c_.vocab_size, hidden_}, TextTensorPart::kEmbedding);
    norm("norm.weight", hidden_);
    if (c_.ple_size == 0) return;
    const int64_t width = int64_t{c_.num_layers} * c_.ple_size;
    add("embed_tokens_per_layer.weight", {c_.ple_vocab_size, width}, TextTensorPart::kPleTable);
    add("per_layer_model_projection.weight", {width, hidden_}, TextTensorPart::kPleProjection);
    add("per_layer_projection_norm.weight", {c_.ple_size}, TextTensorPart::kPleProjection);
  }

  void layer(int i) {
    layer_ = i;
    const LayerConfig& l = c_.layers[static_cast<size_t>(i)];
    norm("input_layernorm.weight", hidden_);
    attention(i, l);
    norm("post_attention_layernorm.weight", hidden_);
    norm("pre_feedforward_layernorm.weight", hidden_);
    add("mlp.gate_proj.weight", {l.intermediate_size, hidden_}, TextTensorPart::kMlp);
    add("mlp.up_proj.weight", {l.intermediate_size, hidden_}, TextTensorPart::kMlp);
    add("mlp.down_proj.weight", {hidden_, l.intermediate_size}, TextTensorPart::kMlp);
    norm("post_feedforward_layernorm.weight", hidden_);
    if (c_.moe) experts(*c_.moe);
    if (c_.ple_size > 0) per_layer_input();
    norm("layer_scalar", 1);
  }

  void attention(int i, const LayerConfig& l) {
    const int64_t q = int64_t{l.num_heads} * l.head_dim, kv = int64_t{l.num_kv_heads} * l.head_dim;
    const bool own = l.kv_source == i;
    const TextTensorPart part = own ? TextTensorPart::kAttention : TextTensorPart::kUnusedKv;
    add("self_attn.q_proj.weight", {q, hidden_}, TextTensorPart::kAttention);
    add("self_attn.k_proj.weight", {kv, hidden_}, part);
    if (!l.k_is_v) add("self_attn.v_proj.weight", {kv, hidden_}, part);
    add("self_attn.o_proj.weight", {hidden_, q}, TextTensorPart::kAttention);
    norm("self_attn.q_norm.weight", l.head_dim);
    add("self_attn.k_norm.weight", {l.head_dim}, own ? TextTensorPart::kNorms : TextTensorPart::kUnusedKv);
  }

  void experts(const MoeConfig& m) {
    add("router.proj.weight", {m.num_experts, hidden_}, TextTensorPart::kRouter);
    add("router.scale", {hidden_}, TextTensorPart::kRouter);
    add("router.per_expert_scale", {m.num_experts}, TextTensorPart::kRouter);
    add("experts.gate_up_proj", {m.num_experts, 2 * m.intermediate_size, hidden_}, TextTensorPart::kExperts);
    add("experts.down_proj", {m.num_experts, hidden_, m.intermediate_size}, TextTensorPart::kExperts);
    norm("pre_feedforward_layernorm_2.weight", hidden_);
    norm("post_feedforward_layernorm_1.weight", hidden_);
    norm("post_feedforward_layernorm_2.weight", hidden_);
  }

  void per_layer_input() {
    add("per_layer_input_gate.weight", {c_.ple_size, hidden_}, TextTensorPart::kPleLayers);
    add("per_layer_projection.weight", {hidden_, c_.ple_size}, TextTensorPart::kPleLayers);
    norm("post_per_layer_input_norm.weight", hidden_);
  }

  const TextConfig& c_;
  const int64_t hidden_;
  std::optional<int> layer_;
  std::vector<TextTensor> out_;
};

}  // namespace

std::vector<TextTensor> text_tensors(const TextConfig& config) { return Lister(config).list(); }

}  // namespace carat
