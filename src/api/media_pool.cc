#include "api/media_pool.h"

#include <exception>

#include "base/str.h"

namespace carat {
namespace {

int64_t num_bytes(const EncoderInput& input) {
  return static_cast<int64_t>(input.pixels.size() + input.features.size() * sizeof(float));
}

Error overloaded() { return {Errc::kOverloaded, "The request queue is full."}; }

}  // namespace

struct MediaPool::Batch {
  std::vector<MediaPart> parts;
  std::shared_ptr<const std::atomic<bool>> cancelled;
  Done done;
  std::vector<Result<LoadedMedium>> results;
  std::atomic<bool> failed = false;
  std::atomic<size_t> num_left;
};

MediaPool::MediaPool(Load load, const MediaOptions& options)
    : load_(std::move(load)),
      max_held_bytes_(options.max_held_bytes),
      here_{.threads{options.num_threads, kMaxWaitingMedia, "media"}},
      elsewhere_{.threads{options.num_fetch_threads, kMaxWaitingMedia, "fetch"}} {}

MediaPool::~MediaPool() {
  here_.stopping.store(true);
  elsewhere_.stopping.store(true);
}

void MediaPool::load(std::vector<MediaPart> parts, std::shared_ptr<const std::atomic<bool>> cancelled, Done done) {
  auto batch = std::make_shared<Batch>();
  batch->results.assign(parts.size(), Error{Errc::kCancelled, "The request was given up."});
  batch->num_left = parts.size() + 1;  // one of them is ours, so that nobody is done before all are queued
  batch->parts = std::move(parts);
  batch->cancelled = std::move(cancelled);
  batch->done = std::move(done);
  for (size_t i = 0; i < batch->parts.size(); ++i) {
    const auto size = static_cast<int64_t>(batch->parts[i].source->size());
    Crew& crew = MediaLoader::is_remote(batch->parts[i]) ? elsewhere_ : here_;
    const bool fits = waiting_bytes_.fetch_add(size) + size <= kMaxWaitingMediaBytes;
    const bool queued = fits && crew.threads.submit([this, batch, &crew, i, size] {
      waiting_bytes_.fetch_sub(size);
      load_one(*batch, i, crew);
      finish_one(batch);
    });
    if (queued) continue;
    waiting_bytes_.fetch_sub(size);
    batch->results[i] = overloaded();
    batch->failed.store(true);
    finish_one(batch);
  }
  finish_one(batch);
}

void MediaPool::load_one(Batch& batch, size_t index, const Crew& crew) {
  Result<LoadedMedium>& result = batch.results[index];
  MediaPart& part = batch.parts[index];
  const auto stopped = [&] { return crew.stopping.load() || batch.failed.load() || batch.cancelled->load(); };
  if (!stopped()) result = load_safely(part, stopped);
  if (result) result = hold(std::move(*result));
  if (!result && result.error().code == Errc::kCancelled && crew.stopping.load())
    result = Error{Errc::kUnavailable, "The server is shutting down."};
  part.source.reset();  // megabytes, perhaps
  if (result || result.error().code == Errc::kCancelled) return;
  batch.failed.store(true);
  if (batch.parts.size() > 1)
    result = Error{result.error().code, str_cat("Medium ", index + 1, " of ", batch.parts.size(), " (",
                                                to_string(part.kind), "): ", result.error().message)};
}

/// A batch whose part never ends would never be answered.
Result<LoadedMedium> MediaPool::load_safely(const MediaPart& part, const std::function<bool()>& stopped) const {
  try {
    return load_(part, stopped);
  } catch (const std::exception& e) {
    return Error{Errc::kInternal, str_cat("loading a medium failed: ", e.what())};
  }
}

/// Counts its bytes for as long as somebody keeps LoadedMedium::counted.
Result<LoadedMedium> MediaPool::hold(LoadedMedium medium) {
  int64_t total = 0;
  for (const auto& input : medium.inputs) total += num_bytes(*input);
  if (const int64_t held = held_bytes_->fetch_add(total); held + total > max_held_bytes_) {
    held_bytes_->fetch_sub(total);
    return Error{Errc::kOverloaded, str_cat("The memory for media is full: ", held, " of ", max_held_bytes_,
                                            " bytes are in use, ", total, " more are needed.")};
  }
  medium.counted = std::shared_ptr<void>(nullptr, [held = held_bytes_, total](void*) { held->fetch_sub(total); });
  return medium;
}

int64_t MediaPool::num_waiting() const {
  return static_cast<int64_t>(here_.threads.num_queued() + elsewhere_.threads.num_queued());
}

void MediaPool::finish_one(const std::shared_ptr<Batch>& batch) {
  if (batch->num_left.fetch_sub(1) > 1) return;
  std::vector<LoadedMedium> loaded;
  const Error* error = nullptr;
  for (auto& result : batch->results) {
    if (result)
      loaded.push_back(std::move(*result));
    else if (!error || error->code == Errc::kCancelled)
      error = &result.error();  // one that made others be given up comes before them
  }
  if (error) return batch->done(*error);
  batch->done(std::move(loaded));
}

}  // namespace carat
