#pragma once
// For the tests: any bytes -> a chat request's body, mostly well-formed and of every form that the parser knows.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/json.h"

namespace carat {

/// Each byte is one decision; when they run out, the decisions are 0, which are the plainest ones.
class BodyGenerator {
 public:
  explicit BodyGenerator(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  Json body() {
    Json body = Json::object();
    JsonArray messages;
    for (size_t i = 0, n = 1 + pick(8); i < n; ++i) messages.push_back(message());
    body.set("messages", odd() ? any(3) : Json(std::move(messages)));
    if (pick(3) == 1) body.set("tools", odd() ? any(3) : tools());
    if (pick(4) == 1) body.set("tool_choice", tool_choice());
    if (pick(3) == 1)
      body.set("chat_template_kwargs",
               odd() ? any(2) : Json::object({{"enable_thinking", any(1)}, {"preserve_thinking", any(1)}}));
    if (pick(6) == 1) body.set("reasoning_effort", pick(2) ? any(1) : Json("high"));
    if (pick(6) == 1) body.set("reasoning", Json::object({{"enabled", any(1)}, {"effort", any(1)}}));
    if (pick(4) == 1) body.set("continue_final_message", odd() ? any(1) : Json(true));
    if (pick(8) == 1) body.set(text(), any(3));
    return body;
  }

 private:
  size_t pick(size_t n) {
    if (at_ == bytes_.size()) return 0;
    return bytes_[at_++] % n;
  }
  bool odd() { return pick(40) == 39; }
  template <size_t N>
  std::string choice(const char* const (&list)[N]) {
    return list[pick(N)];
  }

  std::string text() {
    static constexpr const char* kPieces[] = {"a",
                                              "",
                                              " ",
                                              "\n",
                                              "Hello",
                                              "é",
                                              "東",
                                              "😀",
                                              "<|channel>",
                                              "<channel|>",
                                              "<|channel>thought\n",
                                              "<turn|>",
                                              "<|\"|>",
                                              "{}",
                                              "\"",
                                              "\xC2\xA0",
                                              "city"};
    std::string out;
    for (size_t i = 0, n = 1 + pick(4); i < n; ++i) out += choice(kPieces);
    return out;
  }

  Json any(int depth) {
    switch (pick(depth > 0 ? 9 : 7)) {
      case 0:
        return Json();
      case 1:
        return Json(pick(2) == 1);
      case 2:
        return Json(static_cast<int>(pick(256)) - 100);
      case 3:
        return Json(static_cast<double>(pick(256)) / 7);
      case 4:
        return Json(Json::BigInt{"123456789012345678901"});
      case 5:
        return Json(text());
      case 6:
        return Json(1e20);
      case 7: {
        JsonArray list;
        for (size_t i = 0, n = pick(4); i < n; ++i) list.push_back(any(depth - 1));
        return list;
      }
      default: {
        Json object = Json::object();
        for (size_t i = 0, n = pick(4); i < n; ++i) object.set(text(), any(depth - 1));
        return object;
      }
    }
  }

  Json schema(int depth) {
    if (odd()) return any(2);
    static constexpr const char* kTypes[] = {"string", "object",  "array", "integer",
                                             "number", "boolean", "null",  "int32"};
    Json schema = Json::object();
    if (pick(8) != 7) schema.set("type", odd() ? any(2) : Json(choice(kTypes)));
    if (pick(3) == 1) schema.set("description", odd() ? any(1) : Json(text()));
    if (pick(4) == 1) schema.set("enum", odd() ? any(1) : Json::array({text(), any(1)}));
    if (pick(6) == 1) schema.set("nullable", any(1));
    if (pick(6) == 1) schema.set("default", any(2));
    if (depth == 0) return schema;
    if (pick(2) == 1) {
      Json properties = Json::object();
      for (size_t i = 0, n = pick(4); i < n; ++i) properties.set(text(), this->schema(depth - 1));
      schema.set("properties", std::move(properties));
      if (pick(2) == 1) schema.set("required", odd() ? any(1) : Json::array({text()}));
    }
    if (pick(3) == 1) schema.set("items", this->schema(depth - 1));
    if (pick(5) == 1) schema.set("additionalProperties", this->schema(depth - 1));
    if (pick(5) == 1) schema.set("anyOf", Json::array({this->schema(depth - 1)}));
    return schema;
  }

  Json tools() {
    static constexpr const char* kNames[] = {"f", "g", "get_weather"};
    JsonArray tools;
    for (size_t i = 0, n = pick(3); i < n; ++i) {
      Json function = Json::object({{"name", choice(kNames)}});
      if (pick(2) == 1) function.set("description", text());
      if (pick(2) == 1) function.set("parameters", schema(3));
      tools.push_back(odd() ? any(2) : Json::object({{"type", "function"}, {"function", std::move(function)}}));
    }
    return tools;
  }

  Json tool_choice() {
    static constexpr const char* kModes[] = {"auto", "none", "required"};
    if (odd()) return any(2);
    if (pick(4) == 3) return Json::object({{"type", "function"}, {"function", Json::object({{"name", "f"}})}});
    return choice(kModes);
  }

  Json part() {
    switch (pick(8)) {
      case 5:
        return Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", "data:,"}})}});
      case 6:
        return Json::object({{"type", "audio_url"}, {"audio_url", Json::object({{"url", "data:,"}})}});
      case 7:
        return odd() ? any(2) : Json::object({{"type", "thinking"}, {"thinking", text()}});
      default:
        return Json::object({{"type", "text"}, {"text", text()}});
    }
  }

  Json content() {
    if (odd()) return any(2);
    if (pick(3) != 2) return text();
    JsonArray parts;
    for (size_t i = 0, n = pick(4); i < n; ++i) parts.push_back(part());
    return parts;
  }

  Json call() {
    static constexpr const char* kIds[] = {"1", "2", "3"};
    Json function = Json::object({{"name", "f"}});
    if (pick(4) != 3) {
      Json arguments = Json::object();
      for (size_t i = 0, n = pick(3); i < n; ++i) arguments.set(text(), any(3));
      function.set("arguments", odd() ? any(2) : pick(2) ? std::move(arguments) : Json(arguments.dump()));
    }
    return Json::object({{"id", choice(kIds)}, {"type", "function"}, {"function", std::move(function)}});
  }

  Json message() {
    static constexpr const char* kRoles[] = {"user",   "assistant", "user", "assistant", "tool",
                                             "system", "developer", "tool", "function",  "Root"};
    static constexpr const char* kIds[] = {"1", "2", "9"};
    if (odd()) return any(2);
    const std::string role = choice(kRoles);
    Json message = Json::object({{"role", role}, {"content", content()}});
    if (role == "assistant") {
      if (pick(3) == 1) message.set("reasoning_content", text());
      JsonArray calls;
      for (size_t i = 0, n = pick(4) / 2 + pick(2); i < n; ++i) calls.push_back(call());
      if (!calls.empty()) message.set("tool_calls", std::move(calls));
    }
    if (role == "tool") message.set("tool_call_id", choice(kIds));
    if (odd()) message.set("name", any(1));
    return message;
  }

  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace carat
