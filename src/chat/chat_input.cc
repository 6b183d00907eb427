#include "chat/chat_input.h"

namespace carat {

std::string_view to_string(ChatRole role) {
  switch (role) {
    case ChatRole::kSystem:
      return "system";
    case ChatRole::kDeveloper:
      return "developer";
    case ChatRole::kUser:
      return "user";
    case ChatRole::kAssistant:
      return "assistant";
    case ChatRole::kTool:
      return "tool";
    case ChatRole::kFunction:
      return "function";
    case ChatRole::kLatestReminder:
      return "latest_reminder";
    case ChatRole::kRoot:
      return "root";
  }
  return "user";
}

namespace {
void count_media(const ContentParts& parts, MediaCounts& counts) {
  for (const ContentPart& part : parts)
    if (const auto* media = std::get_if<MediaPart>(&part))
      ++(media->kind == MediaKind::kImage   ? counts.images
         : media->kind == MediaKind::kAudio ? counts.audios
                                            : counts.videos);
}
}  // namespace

MediaCounts count_media(const ChatInput& input) {
  MediaCounts counts;
  for (const ChatMessage& message : input.messages)
    if (const auto* parts = std::get_if<ContentParts>(&message.content)) count_media(*parts, counts);
  return counts;
}

}  // namespace carat
