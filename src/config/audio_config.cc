#include "config/audio_config.h"

#include <array>
#include <string_view>

#include "base/str.h"
#include "config/object_reader.h"

namespace carat {
namespace {

constexpr int64_t kMaxWidth = 1 << 16, kMaxLayers = 256, kMaxHeads = 1024, kMaxKernel = 64, kMaxWindow = 1024;
// What the reference clamps activations to. Linears bound what they put out, so no value gets near it.
constexpr double kUnreachable = 1e9;

void read_channels(ObjectReader& r, ConformerConfig& c) {
  const Json* list = r.find("subsampling_conv_channels");
  if (!list) {
    c.conv_channels[0] = 128;
    c.conv_channels[1] = 32;
    return;
  }
  const auto fits = [](const Json& n) { return n.is_int() && n.as_int() >= 1 && n.as_int() <= kMaxWidth; };
  if (!list->is_array() || list->size() != 2 || !fits(list->as_array()[0]) || !fits(list->as_array()[1]))
    return r.fail(Errc::kInvalidArgument, "subsampling_conv_channels",
                  str_cat("must be two integers from 1 to ", kMaxWidth));
  for (size_t i = 0; i < 2; ++i) c.conv_channels[i] = static_cast<int>(list->as_array()[i].as_int());
}

/// What of the published towers' attention may vary: the window, of which chunks are as long.
void read_attention(ObjectReader& r, ConformerConfig& c) {
  c.attention_window = static_cast<int>(r.integer("attention_context_left", 2, kMaxWindow + 1, 13)) - 1;
  if (r.integer("attention_context_right", 0, kMaxWindow, 0) != 0)
    r.fail(Errc::kUnsupported, "attention_context_right", "supported: 0");
  if (r.integer("attention_chunk_size", 1, kMaxWindow, 12) != c.attention_window)
    r.fail(Errc::kUnsupported, "attention_chunk_size", "supported: attention_context_left - 1");
  c.attention_logit_cap = r.number("attention_logit_cap", 0, 1e6, false, 50.0);
}

ConformerConfig read_conformer(ObjectReader& r) {
  static constexpr std::array<std::string_view, 1> kTypes = {"gemma4_audio"}, kActivations = {"silu"};
  r.word("model_type", kTypes, kTypes[0]);
  r.word("hidden_act", kActivations, kActivations[0]);
  ConformerConfig c;
  c.hidden_size = static_cast<int>(r.integer("hidden_size", 2, kMaxWidth, 1024));
  c.num_layers = static_cast<int>(r.integer("num_hidden_layers", 1, kMaxLayers, 12));
  c.num_heads = static_cast<int>(r.integer("num_attention_heads", 1, kMaxHeads, 8));
  if (c.hidden_size % (2 * c.num_heads) != 0)
    r.fail(Errc::kInvalidArgument, "hidden_size",
           str_cat("must be a multiple of 2 * num_attention_heads = ", 2 * c.num_heads));
  read_channels(r, c);
  c.conv_kernel_size = static_cast<int>(r.integer("conv_kernel_size", 1, kMaxKernel, 5));
  read_attention(r, c);
  c.residual_weight = r.number("residual_weight", 0, 1e6, false, 0.5);
  c.clipped_linears = r.boolean("use_clipped_linears", true);
  c.output_size = static_cast<int>(r.integer("output_proj_dims", 1, kMaxWidth, 1536));
  c.rms_norm_eps = r.number("rms_norm_eps", 0, 0.1, false, 1e-6);
  if (r.number("gradient_clipping", 0, 1e300, false, 1e10) < kUnreachable)
    r.fail(Errc::kUnsupported, "gradient_clipping", "supported: 1e9 and above, which no value reaches");
  return c;
}

RawAudioConfig read_raw(ObjectReader& r) {
  static constexpr std::array<std::string_view, 1> kTypes = {"gemma4_unified_audio"};
  r.word("model_type", kTypes, kTypes[0]);
  if (r.integer("audio_embed_dim", 1, kMaxWidth, RawAudioConfig::kFrameSamples) != RawAudioConfig::kFrameSamples)
    r.fail(Errc::kUnsupported, "audio_embed_dim", str_cat("supported: ", RawAudioConfig::kFrameSamples));
  return {.rms_norm_eps = r.number("rms_norm_eps", 0, 0.1, false, 1e-6)};
}

Json json_of(const ConformerConfig& c) {
  return Json::object({{"model_type", "gemma4_audio"},
                       {"hidden_size", c.hidden_size},
                       {"num_hidden_layers", c.num_layers},
                       {"num_attention_heads", c.num_heads},
                       {"hidden_act", "silu"},
                       {"subsampling_conv_channels", Json::array({c.conv_channels[0], c.conv_channels[1]})},
                       {"conv_kernel_size", c.conv_kernel_size},
                       {"residual_weight", c.residual_weight},
                       {"attention_chunk_size", c.attention_window},
                       {"attention_context_left", c.attention_window + 1},
                       {"attention_context_right", 0},
                       {"attention_logit_cap", c.attention_logit_cap},
                       {"attention_invalid_logits_value", -1e9},
                       {"use_clipped_linears", c.clipped_linears},
                       {"rms_norm_eps", c.rms_norm_eps},
                       {"gradient_clipping", 1e10},
                       {"output_proj_dims", c.output_size},
                       {"dtype", "bfloat16"}});
}

Json json_of(const RawAudioConfig& c) {
  return Json::object({{"model_type", "gemma4_unified_audio"},
                       {"audio_embed_dim", RawAudioConfig::kFrameSamples},
                       {"rms_norm_eps", c.rms_norm_eps},
                       {"dtype", "bfloat16"}});
}

}  // namespace

AudioConfig read_audio_config(const Json& object, bool unified, Result<void>& status) {
  ObjectReader r(object, "config.json: audio_config.", status);
  if (unified) return read_raw(r);
  return read_conformer(r);
}

Json audio_config_json(const AudioConfig& config) {
  return std::visit([](const auto& c) { return json_of(c); }, config);
}

}  // namespace carat
