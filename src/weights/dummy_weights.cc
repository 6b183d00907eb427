// Seeded random weights. Laws: the embedding is small and the final norm large, so that the input token does not win
// the tied head; layer 0 adds about unit RMS to the residual stream and later layers less, so that bf16 noise is not
// amplified from layer to layer; attention scores have a standard deviation of 1.4 and logits one of 4.5 before the
// soft cap. Control tokens have small embedding rows, so that greedy decoding rarely ends by itself.
#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <vector>

#include "base/str.h"
#include "weights/seeded_values.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

constexpr double kLogitDeviation = 4.5, kScoreDeviation = 1.4, kRouterDeviation = 3.0, kQuiet = 0.2;

/// RMS of the scaled embedding rows.
double embedding_rms(const TextConfig& c) { return 0.6 / std::sqrt(c.hidden_size); }

Law law_of(const TextTensor& t, const TextConfig& c) {
  const std::string_view role = t.role;
  const bool first = t.layer == 0;
  const auto is = [&](std::string_view name) { return role == name; };
  const double fan_in = static_cast<double>(t.shape[t.shape.rank() - 1]);
  if (is("embed_tokens.weight")) return normal(embedding_rms(c) / std::sqrt(c.hidden_size));
  if (is("norm.weight")) return gain(kLogitDeviation / embedding_rms(c));
  if (is("embed_tokens_per_layer.weight")) return normal(1 / std::sqrt(c.ple_size));
  if (is("per_layer_model_projection.weight")) return normal(1);  // the model divides by sqrt(H)
  if (is("post_attention_layernorm.weight")) return gain(first ? 0.6 : 0.3);
  if (is("post_feedforward_layernorm.weight")) return gain(first ? 1.0 : 0.4);
  if (is("post_per_layer_input_norm.weight")) return gain(0.4);
  if (is("post_feedforward_layernorm_2.weight")) return gain(0.5);  // the experts' share beside the dense MLP
  if (is("layer_scalar")) return uniform(0.85, 1.1);
  if (is("self_attn.q_norm.weight") || is("self_attn.k_norm.weight"))
    return gain(std::sqrt(kScoreDeviation / std::sqrt(fan_in)));  // scores are q.k without 1/sqrt(D)
  if (is("router.proj.weight")) return normal(kRouterDeviation);  // the model divides by sqrt(H)
  if (is("router.per_expert_scale")) return uniform(0.5, 1.5);
  if (is("mlp.gate_proj.weight") || is("mlp.up_proj.weight") || is("experts.gate_up_proj"))
    return normal(1.4 / std::sqrt(fan_in));
  if (t.shape.rank() == 1) return gain(1);  // the other norms and router.scale
  return normal(1 / std::sqrt(fan_in));     // the other projections
}

/// Rows [first, last] of the vocabulary that hold control tokens: where the end tokens lie and before (these
/// vocabularies begin with them), and from the first media token on.
std::set<TokenId> quiet_tokens(const ModelConfig& config) {
  const GenerationConfig& g = config.generation;
  std::set<TokenId> quiet(g.suppress_token_ids.begin(), g.suppress_token_ids.end());
  quiet.insert(g.pad_token_id);
  if (g.bos_token_id) quiet.insert(*g.bos_token_id);
  const MediaTokenIds& m = config.media;
  TokenId first_media = config.text.vocab_size;
  for (const auto& id : {m.image, m.video, m.audio, m.boi, m.eoi, m.boa, m.eoa})
    if (id) first_media = std::min(first_media, *id);
  const TokenId last_end = g.eos_token_ids.empty() ? -1 : g.eos_token_ids.back();
  // A vocabulary arranged in another way: only the tokens themselves.
  if (last_end >= config.text.vocab_size / 2 || first_media < config.text.vocab_size / 2) {
    quiet.insert(g.eos_token_ids.begin(), g.eos_token_ids.end());
    return quiet;
  }
  for (TokenId id = 0; id <= last_end; ++id) quiet.insert(id);
  for (TokenId id = first_media; id < config.text.vocab_size; ++id) quiet.insert(id);
  return quiet;
}

/// `embedding` is that of the vocabulary.
void quieten(const ModelConfig& config, const SeededTensor& embedding, uint64_t seed) {
  const int64_t width = config.text.hidden_size;
  const std::set<TokenId> quiet = quiet_tokens(config);
  for (auto it = quiet.begin(); it != quiet.end();) {  // run by run
    const TokenId first = *it;
    TokenId end = first;
    while (it != quiet.end() && *it == end) ++it, ++end;
    redraw(embedding, seed, embedding.law.scaled(kQuiet), first * width, end * width);
  }
}

}  // namespace

Result<std::shared_ptr<const TextWeights>> make_dummy_text_weights(const ModelConfig& config, uint64_t seed) {
  auto tensors = text_tensors(config.text);
  std::erase_if(tensors, [](const TextTensor& t) { return !t.used(); });
  std::vector<SeededTensor> values;
  for (const TextTensor& t : tensors) values.push_back({t.name, law_of(t, config.text), t.shape.num_elements()});
  CARAT_TRY(Buffer memory, draw(values, seed, str_cat("this model (", config.variant, ")")));
  quieten(config, values[0], seed);  // embed_tokens comes first

  auto weights = std::make_shared<TextWeights>();
  weights->layers.resize(static_cast<size_t>(config.text.num_layers));
  weights->owner = std::make_shared<const Buffer>(std::move(memory));
  for (size_t i = 0; i < tensors.size(); ++i) {
    weights->size_bytes += tensors[i].size_bytes();
    if (ConstTensorView* view = find_text_view(*weights, tensors[i]))
      *view = ConstTensorView(values[i].data, DType::kBf16, tensors[i].shape);
    else
      weights->layers[static_cast<size_t>(*tensors[i].layer)].layer_scalar = static_cast<float>(*values[i].data);
  }
  return std::shared_ptr<const TextWeights>(std::move(weights));
}

}  // namespace carat
