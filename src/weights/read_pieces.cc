#include "weights/read_pieces.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "base/thread_name.h"

namespace carat {

namespace {

Result<void> read(const Piece& piece, std::byte* to) {
  if (!piece.file) {
    std::memcpy(to, piece.memory, static_cast<size_t>(piece.size));
    return {};
  }
  auto done = piece.file->mapping->read(piece.offset, {to, static_cast<size_t>(piece.size)});
  if (!done) return Error{done.error().code, str_cat(piece.file->path.string(), ": ", done.error().message)};
  return {};
}

/// Readers take pieces in order, each with a free slot; the calling thread sends what they have filled.
class Pump {
 public:
  Pump(std::span<const Piece> pieces, PieceSink& sink) : pieces_(pieces), sink_(sink) {
    for (int slot = 0; slot < sink.num_slots(); ++slot) free_.push_back(slot);
  }

  void read_all() {
    set_thread_name("load");
    for (std::optional<Filled> next = take(); next; next = take()) {
      const Piece& piece = pieces_[next->index];
      auto done = read(piece, piece.target ? piece.target : sink_.slot(next->slot));
      const std::lock_guard lock(mutex_);
      if (done) {
        filled_.push_back(*next);
      } else {
        if (!error_) error_ = std::move(done).error();
        slot_is_free_.notify_all();
      }
      is_filled_.notify_one();
    }
  }

  Result<void> send_all(const std::function<void(int64_t)>& progress) {
    int64_t bytes = 0;
    for (size_t done = 0; done < pieces_.size(); ++done) {
      const std::optional<Filled> next = wait_filled();
      if (!next) break;
      if (next->slot >= 0) {
        sink_.send(next->slot, next->index);
        sending_.push_back(next->slot);
      }
      bytes += pieces_[next->index].size;
      if (progress) progress(bytes);
    }
    while (!sending_.empty()) free_oldest();
    const std::lock_guard lock(mutex_);
    if (error_) return *error_;
    return {};
  }

 private:
  struct Filled {
    size_t index;
    int slot;  ///< -1: straight to its target
  };

  /// The next piece to read, once there is a slot for it; none if all are taken or one has failed.
  std::optional<Filled> take() {
    std::unique_lock lock(mutex_);
    if (error_ || next_ == pieces_.size()) return std::nullopt;
    Filled taken{next_++, -1};
    if (pieces_[taken.index].target) return taken;
    slot_is_free_.wait(lock, [&] { return error_ || !free_.empty(); });
    if (error_) return std::nullopt;
    taken.slot = free_.front();
    free_.pop_front();
    return taken;
  }

  /// What was filled next; meanwhile gives back slots whose bytes have left. None after an error.
  std::optional<Filled> wait_filled() {
    while (true) {
      {
        std::unique_lock lock(mutex_);
        if (sending_.empty()) is_filled_.wait(lock, [&] { return error_ || !filled_.empty(); });
        if (error_) return std::nullopt;
        if (!filled_.empty()) {
          const Filled next = filled_.front();
          filled_.pop_front();
          return next;
        }
      }
      free_oldest();
    }
  }

  void free_oldest() {
    sink_.wait(sending_.front());
    const std::lock_guard lock(mutex_);
    free_.push_back(sending_.front());
    sending_.pop_front();
    slot_is_free_.notify_one();
  }

  const std::span<const Piece> pieces_;
  PieceSink& sink_;
  std::deque<int> sending_;  // calling thread only
  std::mutex mutex_;         // guards what follows
  std::condition_variable slot_is_free_, is_filled_;
  size_t next_ = 0;
  std::deque<int> free_;
  std::deque<Filled> filled_;
  std::optional<Error> error_;
};

}  // namespace

Piece find_piece(const TextWeights& weights, const ConstTensorView& view, int64_t offset, int64_t size) {
  const auto* begin = static_cast<const std::byte*>(view.data) + offset;
  Piece piece;
  piece.size = size;
  for (const TextWeights::File& file : weights.files) {
    const std::span<const std::byte> bytes = file.mapping->bytes();
    if (begin < bytes.data() || begin >= bytes.data() + bytes.size()) continue;
    piece.file = &file;
    piece.offset = begin - bytes.data();
    return piece;
  }
  piece.memory = begin;
  return piece;
}

Result<void> read_pieces(std::span<const Piece> pieces, int num_threads, PieceSink& sink,
                         const std::function<void(int64_t)>& progress) {
  CARAT_CHECK(num_threads > 0 && sink.num_slots() > 0, "somebody reads, and somewhere to");
  Pump pump(pieces, sink);
  std::vector<std::thread> readers;
  for (int i = 0; i < num_threads; ++i) readers.emplace_back([&] { pump.read_all(); });
  auto result = pump.send_all(progress);
  for (std::thread& reader : readers) reader.join();
  return result;
}

}  // namespace carat
