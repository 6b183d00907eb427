#pragma once
// Reads many pieces of files with several threads, as fast as files and memory allow, and hands each to a sink that
// sends it on: weights on their way to a device.

#include <cstdint>
#include <functional>
#include <span>

#include "base/result.h"
#include "tensor/tensor.h"
#include "weights/text_weights.h"

namespace carat {

/// Some bytes of a file, or of memory if `file` is null.
struct Piece {
  const TextWeights::File* file = nullptr;
  int64_t offset = 0;                 ///< in the file
  const std::byte* memory = nullptr;  ///< without a file
  int64_t size = 0;                   ///< at most PieceSink::slot_bytes, unless there is a target
  std::byte* target = nullptr;        ///< read straight to here; null: into a slot of the sink
};

/// Where `view`'s bytes from `offset` on lie: in one of the files of `weights`, or in memory.
Piece find_piece(const TextWeights& weights, const ConstTensorView& view, int64_t offset, int64_t size);

/// Takes pieces through slots: buffers that are filled by readers, sent and filled again. All calls come from the
/// thread that called read_pieces(); only a slot's bytes are written by others.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  virtual int num_slots() const = 0;
  virtual std::byte* slot(int slot) = 0;
  /// Begins to send piece `index`, whose bytes are in `slot` now.
  virtual void send(int slot, size_t index) = 0;
  /// Until what was sent from `slot` has left it.
  virtual void wait(int slot) = 0;
};

/// Reads all pieces, `num_threads` at a time; pieces reach the sink in about the given order, which should be that of
/// the files. Returns when all were sent and all slots are free again, also after an error. `progress` (may be null)
/// hears of the bytes done, on the calling thread. Errors: kIo naming the file that cannot be read any more; the other
/// pieces may not have been read then.
Result<void> read_pieces(std::span<const Piece> pieces, int num_threads, PieceSink& sink,
                         const std::function<void(int64_t bytes_done)>& progress);

}  // namespace carat
