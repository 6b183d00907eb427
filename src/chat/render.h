#pragma once
// Gemma 4's chat template, written out: prepared messages -> prompt text, byte for byte what the official template
// (header date 2026-07-09) gives, its quirks included. Spec: prompt-format.md sections 4 to 8.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "chat/chat_input.h"
#include "tokenizer/tokenizer.h"

namespace carat {

/// The two texts of the official template differ in one step: with thinking off, the big models' reply starts after an
/// empty thought.
enum class ChatFamily {
  kSmall,  ///< E2B, E4B
  kBig,    ///< 12B, 26B-A4B, 31B
};

/// What stands in a prompt's text for a medium of this kind, e.g. "<|image|>".
std::string_view placeholder(MediaKind kind);

struct RenderedMedia {
  MediaPart part;
  size_t offset = 0;  ///< of its placeholder in the text; other places that spell it are the client's words
};

struct RenderedPrompt {
  std::string text;
  std::string continuation;  ///< to be tokenised by itself and appended
  /// In the order of the text. Media for which the template has no place (in a system message, in the result of no
  /// call) are not among them.
  std::vector<RenderedMedia> media = {};
};

/// Errors: kInvalidArgument where the template itself would fail, e.g. on call arguments that are text.
Result<RenderedPrompt> render_chat(const ChatInput& input, ChatFamily family);

/// The prompt's ids. The text carries its own <bos>, so the tokenizer adds nothing; a <bos> at the start of the
/// continuation is dropped, as SGLang does.
std::vector<TokenId> encode_chat(const Tokenizer& tokenizer, const RenderedPrompt& prompt);

}  // namespace carat
