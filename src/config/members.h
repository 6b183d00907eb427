#pragma once
// The published members of the family as one table, and configurations made from a row of it.

#include <optional>
#include <span>
#include <string_view>

#include "config/model_config.h"

namespace carat {

/// Which encoders stand beside the text decoder.
enum class MediaTowers {
  kNone,
  kSmall,    ///< E2B, E4B: 768-wide vision tower, audio tower
  kLarge,    ///< 26B-A4B, 31B: 1152-wide vision tower
  kUnified,  ///< 12B: embedders instead of towers
};

/// What tells one member from another (checkpoints.md section 2); everything else is the same in all of them.
/// Tests make small models by changing a row.
struct MemberSpec {
  std::string_view name;
  int hidden_size, intermediate_size, num_layers;
  int sliding_per_full;  ///< sliding layers before each full one
  int num_heads, num_kv_heads;
  int num_global_kv_heads = 0;  ///< of full layers, whose keys are then their values too; 0: as the others, own V
  int sliding_window = 1024;
  int num_kv_shared_layers = 0;
  bool double_wide_mlp = false;  ///< in the KV-shared layers
  int ple_size = 0;
  MoeConfig moe = {};  ///< no experts: dense
  MediaTowers towers = MediaTowers::kNone;
  int vocab_size = 262144;
  int head_dim = 256, global_head_dim = 512;
};

std::span<const MemberSpec> published_members();
/// The row of "E2B", "E4B", "12B", "26B-A4B" or "31B"; anything else is a programmer error.
const MemberSpec& published_member(std::string_view name);

/// The configuration that a checkpoint of this shape would have, `raw` included. Ids of media and control tokens are
/// the published ones where the vocabulary holds them; a smaller vocabulary has its media ids at its end and its end
/// tokens below 107, or the last ids before those.
ModelConfig make_model_config(const MemberSpec& spec, bool instruct = true);

/// The name of the published member with exactly these text shapes, else "custom".
std::string variant_of(const ModelConfig& config);

}  // namespace carat
