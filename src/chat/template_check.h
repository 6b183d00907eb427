#pragma once
// Which of the known chat templates a checkpoint carries. The renderer is written for one revision of the official
// text; with any other it may give different prompts, so the difference must be said.

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"
#include "chat/render.h"

namespace carat {

struct TemplateCheck {
  ChatFamily family = ChatFamily::kBig;
  bool known = false;
  std::string warning;  ///< one sentence for the log; empty if known
};

/// Compares `chat_template` (empty: the checkpoint has none) with the official texts by SHA-256. If it is another one,
/// the family is `by_config`: small for models with per-layer embeddings (E2B, E4B).
TemplateCheck check_chat_template(std::string_view chat_template, ChatFamily by_config);

/// The chat template in `folder`: chat_template.jinja, else the entry of chat_template.json, else `from_tokenizer`
/// (Tokenizer::chat_template). Empty if there is none. Errors: kIo, kTooLarge, kCorruptFile, naming the file.
Result<std::string> load_chat_template(const std::filesystem::path& folder, std::string_view from_tokenizer);

}  // namespace carat
