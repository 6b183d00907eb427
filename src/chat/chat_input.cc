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

std::string_view to_string(MediaKind kind) {
  switch (kind) {
    case MediaKind::kImage:
      return "image";
    case MediaKind::kAudio:
      return "audio";
    case MediaKind::kVideo:
      return "video";
  }
  return "image";
}

std::vector<MediaPart> all_media(const ChatInput& input) {
  std::vector<MediaPart> media;
  for (const ChatMessage& message : input.messages)
    if (const auto* parts = std::get_if<ContentParts>(&message.content))
      for (const ContentPart& part : *parts)
        if (const auto* medium = std::get_if<MediaPart>(&part)) media.push_back(*medium);
  return media;
}

}  // namespace carat
