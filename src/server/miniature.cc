#include "server/builtin_model.h"

#include <array>
#include <cstdio>
#include <utility>

#include "base/str.h"

namespace carat {
namespace {

constexpr int kFirstByte = 238;  // as in Gemma 4, <0x00> .. <0xFF> lie at 238 .. 493
constexpr int kSpace = 494;
constexpr int kNewline = 107;  // as in Gemma 4
// '!' .. '~'. ASCII needs pieces of its own: a run of byte tokens becomes text only when the run has ended.
constexpr int kFirstPrintable = 110, kNumPrintable = '~' - '!' + 1;
constexpr int kTab = kFirstPrintable + kNumPrintable;

/// Special tokens at Gemma 4's ids; media tokens, which lie at the end there, at the end here.
constexpr auto kSpecials = std::to_array<std::pair<int, std::string_view>>({{0, "<pad>"},
                                                                            {1, "<eos>"},
                                                                            {2, "<bos>"},
                                                                            {3, "<unk>"},
                                                                            {46, "<|tool>"},
                                                                            {47, "<tool|>"},
                                                                            {48, "<|tool_call>"},
                                                                            {49, "<tool_call|>"},
                                                                            {50, "<|tool_response>"},
                                                                            {51, "<tool_response|>"},
                                                                            {52, "<|\"|>"},
                                                                            {98, "<|think|>"},
                                                                            {100, "<|channel>"},
                                                                            {101, "<channel|>"},
                                                                            {105, "<|turn>"},
                                                                            {106, "<turn|>"},
                                                                            {505, "<|image>"},
                                                                            {506, "<|audio>"},
                                                                            {507, "<|image|>"},
                                                                            {508, "<|audio|>"},
                                                                            {509, "<image|>"},
                                                                            {510, "<audio|>"},
                                                                            {511, "<|video|>"}});

std::string byte_piece(int byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", static_cast<unsigned>(byte));
  return text;
}

std::string piece_of(int id) {
  for (const auto& [special, text] : kSpecials)
    if (special == id) return std::string(text);
  if (id >= kFirstByte && id < kFirstByte + 256) return byte_piece(id - kFirstByte);
  if (id == kNewline) return "\n";
  if (id == kTab) return "\t";
  if (id >= kFirstPrintable && id < kTab) return std::string(1, static_cast<char>('!' + id - kFirstPrintable));
  if (id == kSpace) return "\u2581";
  return str_cat("<unused", id, ">");
}

Json added_token(int id, std::string_view content) {
  return Json::object({{"id", id},
                       {"content", content},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
}

Json replace(std::string_view from, std::string_view to) {
  return Json::object({{"type", "Replace"}, {"pattern", Json::object({{"String", from}})}, {"content", to}});
}

}  // namespace

Json miniature_config_json() {
  Json layer_types = Json::array();
  for (int i = 0; i < 10; ++i) layer_types.push_back(i % 5 == 4 ? "full_attention" : "sliding_attention");
  const Json text = Json::object(
      {{"model_type", "gemma4_text"},
       {"vocab_size", kMiniatureVocabSize},
       {"hidden_size", 64},
       {"intermediate_size", 128},
       {"num_hidden_layers", 10},
       {"num_attention_heads", 4},
       {"num_key_value_heads", 1},
       {"head_dim", 32},
       {"global_head_dim", 64},
       {"num_global_key_value_heads", nullptr},
       {"layer_types", layer_types},
       {"sliding_window", 128},
       {"num_kv_shared_layers", 5},
       {"attention_k_eq_v", false},
       {"use_double_wide_mlp", true},
       {"use_bidirectional_attention", nullptr},
       {"rope_parameters",
        Json::object({{"sliding_attention", Json::object({{"rope_type", "default"}, {"rope_theta", 10000.0}})},
                      {"full_attention", Json::object({{"rope_type", "proportional"},
                                                       {"partial_rotary_factor", 0.25},
                                                       {"rope_theta", 1000000.0}})}})},
       {"max_position_embeddings", 32768},
       {"rms_norm_eps", 1e-6},
       {"hidden_activation", "gelu_pytorch_tanh"},
       {"final_logit_softcapping", 30.0},
       {"attention_bias", false},
       {"tie_word_embeddings", true},
       {"dtype", "bfloat16"},
       {"pad_token_id", 0},
       {"bos_token_id", 2},
       {"eos_token_id", 1},
       {"hidden_size_per_layer_input", 16},
       {"vocab_size_per_layer_input", kMiniatureVocabSize},
       {"enable_moe_block", false}});
  const Json vision = Json::object({{"model_type", "gemma4_vision"},
                                    {"hidden_size", 64},
                                    {"intermediate_size", 128},
                                    {"num_hidden_layers", 2},
                                    {"num_attention_heads", 2},
                                    {"num_key_value_heads", 2},
                                    {"head_dim", 32},
                                    {"global_head_dim", 32},
                                    {"patch_size", 16},
                                    {"pooling_kernel_size", 3},
                                    {"position_embedding_size", 1024},
                                    {"use_clipped_linears", true},
                                    {"standardize", false},
                                    {"rms_norm_eps", 1e-6},
                                    {"hidden_activation", "gelu_pytorch_tanh"},
                                    {"dtype", "bfloat16"}});
  const Json audio = Json::object({{"model_type", "gemma4_audio"},
                                   {"hidden_size", 64},
                                   {"num_hidden_layers", 2},
                                   {"num_attention_heads", 2},
                                   {"subsampling_conv_channels", Json::array({32, 8})},
                                   {"conv_kernel_size", 5},
                                   {"use_clipped_linears", true},
                                   {"output_proj_dims", 64},
                                   {"dtype", "bfloat16"}});
  return Json::object({{"architectures", Json::array({"Gemma4ForConditionalGeneration"})},
                       {"model_type", "gemma4"},
                       {"dtype", "bfloat16"},
                       {"text_config", text},
                       {"vision_config", vision},
                       {"audio_config", audio},
                       {"boi_token_id", 505},
                       {"eoi_token_id", 509},
                       {"image_token_id", 507},
                       {"video_token_id", 511},
                       {"boa_token_id", 506},
                       {"eoa_token_id", 510},
                       {"audio_token_id", 508},
                       {"eos_token_id", Json::array({1, 106})},
                       {"tie_word_embeddings", true}});
}

Json miniature_generation_json() {
  return Json::object({{"bos_token_id", 2},
                       {"pad_token_id", 0},
                       {"eos_token_id", Json::array({1, 106, 50})},
                       {"do_sample", true},
                       {"temperature", 1.0},
                       {"top_k", 64},
                       {"top_p", 0.95}});
}

std::string miniature_tokenizer_json() {
  Json added = Json::array();
  for (const auto& [id, text] : kSpecials) added.push_back(added_token(id, text));
  Json vocab = Json::object();
  for (int id = 0; id < kMiniatureVocabSize; ++id) vocab.set(piece_of(id), id);
  const Json model = Json::object({{"type", "BPE"},
                                   {"dropout", nullptr},
                                   {"unk_token", "<unk>"},
                                   {"continuing_subword_prefix", nullptr},
                                   {"end_of_word_suffix", nullptr},
                                   {"fuse_unk", true},
                                   {"byte_fallback", true},
                                   {"ignore_merges", false},
                                   {"vocab", vocab},
                                   {"merges", Json::array()}});
  const Json decoders =
      Json::array({replace("\u2581", " "), Json::object({{"type", "ByteFallback"}}), Json::object({{"type", "Fuse"}})});
  return Json::object({{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", added},
                       {"normalizer", replace(" ", "\u2581")},
                       {"pre_tokenizer", Json::object({{"type", "Split"},
                                                       {"pattern", Json::object({{"String", " "}})},
                                                       {"behavior", "MergedWithPrevious"},
                                                       {"invert", false}})},
                       {"post_processor", nullptr},
                       {"decoder", Json::object({{"type", "Sequence"}, {"decoders", decoders}})},
                       {"model", model}})
      .dump();
}

std::string miniature_tokenizer_config_json() {
  return Json::object({{"tokenizer_class", "GemmaTokenizer"},
                       {"add_bos_token", false},
                       {"add_eos_token", false},
                       {"bos_token", "<bos>"},
                       {"eos_token", "<eos>"},
                       {"pad_token", "<pad>"},
                       {"unk_token", "<unk>"}})
      .dump();
}

}  // namespace carat
