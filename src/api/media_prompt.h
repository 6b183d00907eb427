#pragma once
// Media in a prompt's ids: where their placeholders are, and what takes their places. Spec: prompt-format.md section 9,
// vision.md sections 6 and 7, audio.md section 2.

#include <memory>
#include <span>
#include <vector>

#include "base/encoder_input.h"
#include "base/result.h"
#include "base/token.h"
#include "chat/render.h"
#include "config/model_config.h"
#include "tokenizer/tokenizer.h"

namespace carat {

/// A medium that is still to be loaded, and where its placeholder is among the ids.
struct PlacedMedium {
  MediaPart part;
  size_t position = 0;
  /// The part, whose source is not kept here: it may be megabytes.
  MediaPart take_part() { return {part.kind, std::move(part.source)}; }
};

/// A prompt before its media are loaded.
struct PromptTokens {
  std::vector<TokenId> ids;
  std::vector<PlacedMedium> media = {};  ///< by position, each its own
};

/// A chat prompt's `ids`, made of `prompt`'s text. Placeholders that a client spelled in a text are not replaced: they
/// stay what they are, tokens without a medium. `num_media`: of the request; all must have a place in the prompt.
/// Errors: kInvalidArgument.
Result<PromptTokens> place_chat_media(std::vector<TokenId> ids, const RenderedPrompt& prompt, size_t num_media,
                                      const MediaTokenIds& tokens);
/// Ids of a client, who wrote the placeholders: the i-th of a kind is for the i-th of `media` of that kind. A run that
/// was expanded already counts as one. Without media nothing is looked at. Errors: kInvalidArgument unless there are as
/// many placeholders as media of each kind.
Result<PromptTokens> place_media(std::vector<TokenId> ids, std::span<const MediaPart> media,
                                 const MediaTokenIds& tokens);

/// What a medium became.
struct LoadedMedium {
  std::vector<std::shared_ptr<const EncoderInput>> inputs;  ///< one; of a video one per frame
  std::vector<double> seconds = {};                         ///< of a video's frames
  std::shared_ptr<const void> counted = {};                 ///< while it lives, the inputs' bytes count as held
  double unheard_s = 0;                                     ///< of a sound: at its end, not taken by the model
};

struct ExpandedPrompt {
  std::vector<TokenId> ids;
  std::vector<MediaSpan> media;
};
/// Puts soft tokens between their markers in place of the placeholders; a video becomes its frames, each after its
/// time. `loaded`: of prompt.media, in its order. The model has the ids of `tokens` that the kinds need.
ExpandedPrompt expand_media(const PromptTokens& prompt, std::span<const LoadedMedium> loaded,
                            const MediaTokenIds& tokens, const Tokenizer& tokenizer);

}  // namespace carat
