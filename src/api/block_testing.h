#pragma once
// Replies for tests of block writers, whole and in pieces.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "api/block_writer.h"
#include "base/json.h"

namespace carat {

struct SentEvent {
  std::string type;
  Json data;
};

/// The events of a stream; each names its type twice.
inline std::vector<SentEvent> read_events(std::string_view stream) {
  std::vector<SentEvent> events;
  while (!stream.empty()) {
    const size_t end = stream.find("\n\n");
    const std::string_view event = stream.substr(0, end);
    const size_t line = event.find("\ndata: ");
    EXPECT_TRUE(end != stream.npos && event.starts_with("event: ") && line != event.npos) << event;
    if (end == stream.npos || line == event.npos) break;
    const auto data = parse_json(event.substr(line + 7));
    EXPECT_TRUE(data) << event;
    events.push_back({std::string(event.substr(7, line - 7)), data ? *data : Json()});
    EXPECT_EQ(events.back().data.find("type")->as_string(), events.back().type);
    stream.remove_prefix(end + 2);
  }
  return events;
}

inline std::string types_of(const std::vector<SentEvent>& events) {
  std::string out;
  for (const SentEvent& event : events) out += event.type + "\n";
  return out;
}

using MakeWriter = std::function<std::unique_ptr<AnswerWriter>(bool stream)>;

/// What a reply of `parts` is answered with in one piece.
inline std::string whole_answer(const MakeWriter& make, const std::vector<MessagePart>& parts, Prompt prompt) {
  std::string out;
  prompt.samples[0].parts = parts;
  make(false)->write_end(std::span(&prompt, 1), out);
  return out;
}

/// The same as a stream whose texts come in pieces of `piece` bytes, `per_chunk` of them at a time.
inline std::string streamed_answer(const MakeWriter& make, const std::vector<MessagePart>& parts, const Prompt& prompt,
                                   size_t piece = 1000, size_t per_chunk = 1) {
  std::vector<MessagePart> pieces;
  for (const MessagePart& part : parts)
    for (size_t at = 0; at < part.text.size() || at == 0; at += piece) {
      if (part.kind == MessagePart::Kind::kCallName) {
        pieces.push_back(part);
        break;
      }
      pieces.push_back({part.kind, part.call_idx, part.text.substr(at, piece)});
    }
  std::string out;
  const auto writer = make(true);
  bool first = true;
  for (size_t at = 0; at < pieces.size() || first; at += per_chunk) {
    SampleNews news;
    news.first_chunk = first;
    news.parts = std::span(pieces).subspan(at, std::min(per_chunk, pieces.size() - at));
    writer->write_news(prompt, prompt.samples[0], news, out);
    first = false;
  }
  writer->write_end(std::span(&prompt, 1), out);
  return out + std::string(writer->stream_end());
}

/// A prompt of three tokens with a reply of `num_tokens`.
inline Prompt replied_prompt(FinishReason reason = FinishReason::kStop, size_t num_tokens = 5) {
  Prompt prompt;
  prompt.prepared.ids = {1, 2, 3};
  Sample& sample = prompt.samples.emplace_back();
  sample.tokens.assign(num_tokens, 7);
  sample.end = SampleEnd{reason, std::nullopt, std::nullopt};
  return prompt;
}

inline MessagePart thought_part(std::string text) { return {MessagePart::Kind::kReasoning, 0, std::move(text)}; }
inline MessagePart content_part(std::string text) { return {MessagePart::Kind::kContent, 0, std::move(text)}; }
inline MessagePart name_part(int call, std::string name) {
  return {MessagePart::Kind::kCallName, call, std::move(name)};
}
inline MessagePart arguments_part(int call, std::string json) {
  return {MessagePart::Kind::kCallArguments, call, std::move(json)};
}

}  // namespace carat
