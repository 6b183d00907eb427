#include "api/request_log.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "api/native_writer.h"
#include "api/writer_parts.h"
#include "base/log.h"
#include "base/str.h"

namespace carat {
namespace {

/// Of a text or a list, at level 2.
constexpr size_t kShortened = 2048;
/// All that level 0 shows of a body.
constexpr auto kIdentity =
    std::to_array<std::string_view>({"model", "rid", "stream", "n", "priority", "extra_key", "session_id", "user"});
/// What level 1 leaves out: what the user wrote.
constexpr auto kContents =
    std::to_array<std::string_view>({"messages", "text", "prompt", "input", "input_ids", "instructions", "system",
                                     "tools", "image_data", "audio_data", "video_data", "lora_path"});

template <size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool in_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

/// The beginning and the end of a long text, cut between characters.
std::string shortened(const std::string& text) {
  size_t head = kShortened / 2, tail = text.size() - kShortened / 2;
  while (head > 0 && in_character(text[head])) --head;
  while (tail < text.size() && in_character(text[tail])) ++tail;
  return str_cat(std::string_view(text).substr(0, head), "...", std::string_view(text).substr(tail));
}

Json shortened(const Json& value) {
  if (value.is_string()) return value.as_string().size() > kShortened ? Json(shortened(value.as_string())) : value;
  if (value.is_array()) {
    Json out = Json::array();
    const size_t skipped = value.size() > kShortened ? value.size() - kShortened : 0;
    for (size_t i = 0; i < value.size(); ++i) {
      if (skipped > 0 && i == kShortened / 2) {
        out.push_back("...");
        i += skipped;
      }
      out.push_back(shortened(value.as_array()[i]));
    }
    return out;
  }
  if (!value.is_object()) return value;
  Json out = Json::object();
  for (const auto& [key, item] : value.as_object()) out.set(key, shortened(item));
  return out;
}

Json shown_body(const Json& body, int level) {
  if (level >= 3 || !body.is_object()) return body;
  if (level == 2) return shortened(body);
  Json out = Json::object();
  for (const auto& [key, item] : body.as_object())
    if (level == 0 ? contains(kIdentity, key) : !contains(kContents, key)) out.set(key, item);
  return out;
}

Json ids_of(std::span<const PreparedPrompt> prompts) {
  if (prompts.empty()) return Json();
  if (prompts.size() == 1) return Json(prompts.front().id);
  Json ids = Json::array();
  for (const PreparedPrompt& prompt : prompts) ids.push_back(prompt.id);
  return ids;
}

bool is_probe(std::string_view path) {
  return path.starts_with("/health") || path == "/ready" || path == "/ping" || path == "/metrics";
}

}  // namespace

void RequestLog::configure(const Change& change) {
  if (change.requests) requests_.store(*change.requests);
  if (change.level) level_.store(*change.level);
  if (change.json) json_.store(*change.json);
}

/// {"timestamp", "event", members...}, or "Title: members".
void RequestLog::write(std::string_view event, std::string_view title, Json members) const {
  if (!json_.load()) return log_info(title, ": ", members.dump());
  Json record = Json::object({{"timestamp", utc_now()}, {"event", event}});
  for (auto& [key, value] : members.as_object()) record.set(key, value);
  log_json(record.dump());
}

void RequestLog::received(const RequestOrigin& origin, const Json& body,
                          std::span<const PreparedPrompt> prompts) const {
  write("request.received", "Receive",
        Json::object({{"rid", ids_of(prompts)},
                      {"method", origin.method},
                      {"path", origin.path},
                      {"peer", origin.peer},
                      {"obj", shown_body(body, level_.load())}}));
}

void RequestLog::finished(const Tokenizer& tokenizer, std::span<const Prompt> prompts) const {
  const int level = level_.load();
  const WriterContext context{&tokenizer, weight_version_};
  for (const Prompt& prompt : prompts)
    for (const Sample& sample : prompt.samples) {
      std::string meta;
      append_meta_info(meta, context, prompt, sample, {});
      Json out = Json::object();
      if (level >= 2) {
        const Json text = tokenizer.decode(sample.tokens, /*skip_special_tokens=*/false);
        out.set("text", level == 2 ? shortened(text) : text);
      }
      out.set("meta_info", parse_json(meta).value_or(Json()));
      write("request.finished", "Finish", Json::object({{"rid", prompt.prepared.id}, {"out", std::move(out)}}));
    }
}

void RequestLog::answered(const RequestOrigin& origin, int status, std::chrono::steady_clock::duration took) const {
  const LogLevel level = is_probe(origin.path) ? LogLevel::kDebug : LogLevel::kInfo;
  if (!log_enabled(level)) return;
  const double milliseconds = std::chrono::duration<double, std::milli>(took).count();
  if (!json_.load()) {
    char time[32];
    std::snprintf(time, sizeof time, "%.1f", milliseconds);
    return log_line(level,
                    str_cat(origin.peer, " \"", origin.method, " ", origin.path, "\" ", status, " ", time, " ms"));
  }
  log_json(Json::object({{"timestamp", utc_now()},
                         {"event", "http.answered"},
                         {"peer", origin.peer},
                         {"method", origin.method},
                         {"path", origin.path},
                         {"status", status},
                         {"milliseconds", milliseconds}})
               .dump());
}

}  // namespace carat
