#pragma once
// From the command line to a model in memory: folder, configuration, tokenizer, weights or script.

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "chat/render.h"
#include "config/model_config.h"
#include "server/options.h"
#include "server/script.h"
#include "tokenizer/tokenizer.h"
#include "weights/encoder_weights.h"
#include "weights/text_weights.h"
#include "weights/weight_source.h"

namespace carat {

struct LoadedModel {
  std::string name;            ///< as the user wrote it, or the default's
  std::string tokenizer_path;  ///< folder, or the name again
  ModelConfig config;
  std::optional<WeightSource> source;  ///< none: the weights are made up
  std::unique_ptr<Tokenizer> tokenizer;
  ChatFamily family = ChatFamily::kSmall;
  int context_length = 0;
  std::vector<TokenId> end_token_ids;          ///< sampled, they end an answer
  std::shared_ptr<const TextWeights> weights;  ///< null for a script, and for seeded weights on a GPU
  EncoderWeights encoders;                     ///< of the encoders that `config` has; empty for a script
  std::vector<ScriptRule> script;              ///< with --load-format scripted
  bool is_default = false;                     ///< no model was named
};

/// Everything but the weights: fast. `config` has the encoders that will be there. Logs what a user should know.
/// Errors: as of the parts, naming file and reason.
Result<LoadedModel> open_model(const ServerOptions& options);
/// Weights or script, as --load-format says. Seeded weights are not made for a GPU, which makes its own.
Result<void> load_contents(const ServerOptions& options, bool on_gpu, LoadedModel& model);
/// Makes up what load_contents() left to a GPU, after all.
Result<void> load_for_cpu(const ServerOptions& options, LoadedModel& model);
uint64_t weight_seed(const ServerOptions& options);

/// `override_json` over `config`, objects member by member.
void merge_json(Json& config, const Json& override_json);

}  // namespace carat
