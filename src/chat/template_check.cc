#include "chat/template_check.h"

#include <system_error>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "base/str.h"
#include "base/utf8.h"

namespace carat {

namespace {

struct KnownTemplate {
  std::string_view sha256;
  ChatFamily family;
};

constexpr KnownTemplate kKnownTemplates[] = {
    // The official revision with header date 2026-07-09.
    {"ae53464bf3be25802b3a5b37def7fd89667067d7577049b3b2d74c4d8de4c6d4", ChatFamily::kBig},
    {"0a2c8073c878ab1da004bee933a998606537bbb62016310352c7285c3f01c5b5", ChatFamily::kSmall},
    // models/nano/chat_template.jinja, which gives the same prompts.
    {"0d0cc8cf81c339b3d38dec27c8ba9548a89b8e23b447fd6a4618a9fbe421a9f9", ChatFamily::kBig},
    {"856d1c414af2af782c33a14a6eb39ba158bba353b851613dffc068b99b7912ff", ChatFamily::kSmall},
};

std::string_view describe(ChatFamily family) {
  return family == ChatFamily::kBig ? "12B, 26B-A4B and 31B" : "E2B and E4B";
}

constexpr int64_t kMaxTemplateBytes = 1 << 20;

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

TemplateCheck check_chat_template(std::string_view chat_template, ChatFamily by_config) {
  if (chat_template.empty())
    return {by_config, false,
            str_cat("The checkpoint has no chat template; chat prompts are built as for Gemma 4 ", describe(by_config),
                    " (template of 2026-07-09).")};
  // The file ends in one newline, which Jinja drops; copies inside JSON often lack it.
  const std::string text = str_cat(rstrip_unicode(chat_template), "\n");
  const std::string digest = sha256_hex(text);
  for (const KnownTemplate& known : kKnownTemplates)
    if (digest == known.sha256) return {known.family, true, ""};
  return {
      by_config, false,
      str_cat("The checkpoint's chat template (SHA-256 ", digest,
              ") is not the one that is built in; chat prompts follow the official template of 2026-07-09 for Gemma 4 ",
              describe(by_config), " and may differ from what this checkpoint was made for.")};
}

Result<std::string> load_chat_template(const std::filesystem::path& folder, std::string_view from_tokenizer) {
  if (const auto path = folder / "chat_template.jinja"; is_there(path)) return read_text_file(path, kMaxTemplateBytes);
  if (const auto path = folder / "chat_template.json"; is_there(path)) {
    CARAT_TRY(const auto text, read_text_file(path, kMaxTemplateBytes));
    const auto json = parse_json(text);
    if (!json) return Error{Errc::kCorruptFile, str_cat(path.string(), ": ", json.error().message)};
    const Json* entry = json->find("chat_template");
    if (!entry || !entry->is_string())
      return Error{Errc::kCorruptFile, str_cat(path.string(), ": 'chat_template' must be a string")};
    return entry->as_string();
  }
  return std::string(from_tokenizer);
}

}  // namespace carat
