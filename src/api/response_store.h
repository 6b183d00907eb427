#pragma once
// Answers of /v1/responses that clients come back for. In memory, bounded, gone with the process.

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/json.h"
#include "base/result.h"

namespace carat {

struct ResponseStoreLimits {
  size_t max_responses = 4096;
  size_t max_bytes = size_t{256} << 20;  ///< of responses and conversations as JSON text
  std::chrono::seconds max_age = std::chrono::hours(24);
};

/// Where a limit would be passed the oldest finished responses go. Any thread.
class ResponseStore {
 public:
  using Clock = std::chrono::steady_clock;
  explicit ResponseStore(ResponseStoreLimits limits = {}) : limits_(limits) {}

  /// A background run begins. `response` is what find() shows while it runs, `cancel` ends the run; it is called at
  /// most once and without the store's lock. Errors: kOverloaded if there is no room beside what is running;
  /// kInvalidArgument if the id is taken.
  Result<void> begin(const std::string& id, const Json& response, std::function<void()> cancel,
                     Clock::time_point now = Clock::now());
  /// A response is complete; `conversation` is its input and output items, or null where nothing can go on from it.
  /// Ends the run that begin() announced, unless that was cancelled. Replaces an older response of that id. A response
  /// too large for the store is not kept.
  void finish(const std::string& id, const Json& response, const Json& conversation,
              Clock::time_point now = Clock::now());
  /// The response as JSON text. Errors: kNotFound; kInvalidArgument for what can be no id.
  Result<std::string> find(std::string_view id, Clock::time_point now = Clock::now());
  /// The items of a finished response. Errors: as find(); kInvalidArgument if nothing can go on from it.
  Result<Json> conversation(std::string_view id, Clock::time_point now = Clock::now());
  /// Ends a background run; a response that has ended stays as it is. Gives the response. Errors: as find().
  Result<std::string> cancel(std::string_view id, Clock::time_point now = Clock::now());

 private:
  enum class State { kRunning, kFinished, kCancelled };
  struct Entry {
    std::string id, response, conversation;
    State state = State::kFinished;
    std::function<void()> cancel;  ///< of a running one
    Clock::time_point created;
    size_t bytes() const { return id.size() + response.size() + conversation.size(); }
  };
  using Entries = std::list<Entry>;  ///< oldest first

  Result<Entries::iterator> locate(std::string_view id, Clock::time_point now);
  void expire(Clock::time_point now);
  bool make_room(size_t bytes);
  void insert(Entry entry);
  void erase(Entries::iterator entry);

  const ResponseStoreLimits limits_;
  std::mutex mutex_;  ///< guards all below
  Entries entries_;
  std::unordered_map<std::string_view, Entries::iterator> by_id_;  ///< keys live in the entries
  size_t bytes_ = 0;
};

}  // namespace carat
