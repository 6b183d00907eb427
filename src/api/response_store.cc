#include "api/response_store.h"

#include "base/str.h"

namespace carat {

Result<void> ResponseStore::begin(const std::string& id, const Json& response, std::function<void()> cancel,
                                  Clock::time_point now) {
  Entry entry{id, response.dump(), {}, State::kRunning, std::move(cancel), now};
  const std::lock_guard lock(mutex_);
  expire(now);
  if (by_id_.contains(id)) return Error{Errc::kInvalidArgument, str_cat("request_id '", id, "' is taken.")};
  if (!make_room(entry.bytes())) return Error{Errc::kOverloaded, "The response store is full of running responses."};
  insert(std::move(entry));
  return {};
}

void ResponseStore::finish(const std::string& id, const Json& response, const Json& conversation,
                           Clock::time_point now) {
  Entry entry{id, response.dump(), conversation.is_null() ? "" : conversation.dump(), State::kFinished, nullptr, now};
  const std::lock_guard lock(mutex_);
  expire(now);
  if (const auto found = by_id_.find(id); found != by_id_.end()) {
    if (found->second->state == State::kCancelled) return;
    erase(found->second);
  }
  if (make_room(entry.bytes())) insert(std::move(entry));
}

Result<std::string> ResponseStore::find(std::string_view id, Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  CARAT_TRY(const auto entry, locate(id, now));
  return entry->response;
}

Result<Json> ResponseStore::conversation(std::string_view id, Clock::time_point now) {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    CARAT_TRY(const auto entry, locate(id, now));
    if (entry->conversation.empty())
      return Error{Errc::kInvalidArgument, str_cat("Response with id '", id, "' has no output to go on from.")};
    text = entry->conversation;
  }
  return parse_json(text);
}

Result<std::string> ResponseStore::cancel(std::string_view id, Clock::time_point now) {
  std::function<void()> end_run;
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    CARAT_TRY(const auto entry, locate(id, now));
    if (entry->state == State::kRunning) {
      CARAT_TRY(auto response, parse_json(entry->response));
      response.set("status", "cancelled");
      bytes_ -= entry->bytes();
      entry->response = response.dump();
      bytes_ += entry->bytes();
      entry->state = State::kCancelled;
      end_run.swap(entry->cancel);
    }
    text = entry->response;
  }
  if (end_run) end_run();
  return text;
}

Result<ResponseStore::Entries::iterator> ResponseStore::locate(std::string_view id, Clock::time_point now) {
  if (!id.starts_with("resp_"))
    return Error{Errc::kInvalidArgument,
                 str_cat("Invalid 'response_id': '", id, "'. Expected an ID that begins with 'resp'.")};
  expire(now);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return Error{Errc::kNotFound, str_cat("Response with id '", id, "' not found.")};
  return found->second;
}

/// Running responses stay: their number is bounded by the limits all the same.
void ResponseStore::expire(Clock::time_point now) {
  for (auto entry = entries_.begin(); entry != entries_.end() && now - entry->created >= limits_.max_age;) {
    const auto old = entry++;
    if (old->state != State::kRunning) erase(old);
  }
}

/// Drops finished responses, oldest first, until one of `bytes` fits.
bool ResponseStore::make_room(size_t bytes) {
  if (bytes > limits_.max_bytes) return false;
  const auto fits = [&] { return entries_.size() < limits_.max_responses && bytes_ + bytes <= limits_.max_bytes; };
  for (auto entry = entries_.begin(); entry != entries_.end() && !fits();) {
    const auto old = entry++;
    if (old->state != State::kRunning) erase(old);
  }
  return fits();
}

void ResponseStore::insert(Entry entry) {
  bytes_ += entry.bytes();
  entries_.push_back(std::move(entry));
  const auto last = std::prev(entries_.end());
  by_id_.emplace(last->id, last);
}

void ResponseStore::erase(Entries::iterator entry) {
  bytes_ -= entry->bytes();
  by_id_.erase(entry->id);
  entries_.erase(entry);
}

}  // namespace carat
