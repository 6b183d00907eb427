// Which field of TextWeights holds which tensor of a checkpoint.
#include <algorithm>
#include <array>
#include <string_view>

#include "base/check.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

struct LayerSlot {
  std::string_view role;
  ConstTensorView LayerWeights::*view;
};
struct GlobalSlot {
  std::string_view role;
  ConstTensorView TextWeights::*view;
};

constexpr std::array<GlobalSlot, 5> kGlobals = {{
    {"embed_tokens.weight", &TextWeights::embed_tokens},
    {"embed_tokens_per_layer.weight", &TextWeights::embed_tokens_per_layer},
    {"per_layer_model_projection.weight", &TextWeights::per_layer_model_projection},
    {"per_layer_projection_norm.weight", &TextWeights::per_layer_projection_norm},
    {"norm.weight", &TextWeights::norm},
}};

constexpr std::array<LayerSlot, 24> kLayers = {{
    {"input_layernorm.weight", &LayerWeights::input_layernorm},
    {"post_attention_layernorm.weight", &LayerWeights::post_attention_layernorm},
    {"pre_feedforward_layernorm.weight", &LayerWeights::pre_feedforward_layernorm},
    {"post_feedforward_layernorm.weight", &LayerWeights::post_feedforward_layernorm},
    {"self_attn.q_proj.weight", &LayerWeights::q_proj},
    {"self_attn.k_proj.weight", &LayerWeights::k_proj},
    {"self_attn.v_proj.weight", &LayerWeights::v_proj},
    {"self_attn.o_proj.weight", &LayerWeights::o_proj},
    {"self_attn.q_norm.weight", &LayerWeights::q_norm},
    {"self_attn.k_norm.weight", &LayerWeights::k_norm},
    {"mlp.gate_proj.weight", &LayerWeights::gate_proj},
    {"mlp.up_proj.weight", &LayerWeights::up_proj},
    {"mlp.down_proj.weight", &LayerWeights::down_proj},
    {"per_layer_input_gate.weight", &LayerWeights::per_layer_input_gate},
    {"per_layer_projection.weight", &LayerWeights::per_layer_projection},
    {"post_per_layer_input_norm.weight", &LayerWeights::post_per_layer_input_norm},
    {"router.proj.weight", &LayerWeights::router_proj},
    {"router.scale", &LayerWeights::router_scale},
    {"router.per_expert_scale", &LayerWeights::router_per_expert_scale},
    {"experts.gate_up_proj", &LayerWeights::experts_gate_up_proj},
    {"experts.down_proj", &LayerWeights::experts_down_proj},
    {"pre_feedforward_layernorm_2.weight", &LayerWeights::pre_feedforward_layernorm_2},
    {"post_feedforward_layernorm_1.weight", &LayerWeights::post_feedforward_layernorm_1},
    {"post_feedforward_layernorm_2.weight", &LayerWeights::post_feedforward_layernorm_2},
}};

template <class Slots, class Owner>
auto* view_in(const Slots& slots, Owner& owner, std::string_view role) {
  const auto it = std::find_if(slots.begin(), slots.end(), [&](const auto& slot) { return slot.role == role; });
  CARAT_CHECK(it != slots.end(), "every text tensor has a field");
  return &(owner.*it->view);
}

}  // namespace

ConstTensorView* find_text_view(TextWeights& weights, const TextTensor& tensor) {
  if (tensor.role == "layer_scalar") return nullptr;
  if (!tensor.layer) return view_in(kGlobals, weights, tensor.role);
  return view_in(kLayers, weights.layers[static_cast<size_t>(*tensor.layer)], tensor.role);
}

const ConstTensorView* find_text_view(const TextWeights& weights, const TextTensor& tensor) {
  return find_text_view(const_cast<TextWeights&>(weights), tensor);
}

}  // namespace carat
