#pragma once
// What the media encoders read: made on prep threads, carried by the engine, encoded by a runner.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/keyed_hash.h"

namespace carat {

/// One thing that becomes soft tokens: an image, one frame of a video, or a clip of sound. Immutable once shared. Data
/// of an image or frame are its bytes after the resize: what follows (scaling to floats, rounding) is the encoder's.
struct EncoderInput {
  enum class Kind : uint8_t { kImage, kVideoFrame, kAudio };

  Kind kind = Kind::kImage;
  Hash128 hash{};      ///< of everything else here; what has the same hash is taken to be the same
  int num_tokens = 0;  ///< soft tokens it becomes, >= 1
  /// Image, frame: [grid_height * grid_width] patches in raster order, each [patch, patch, 3] bytes, RGB. The patch has
  /// 16 pixels, in the encoder-free form (12B) 48.
  std::vector<uint8_t> pixels;
  int grid_width = 0, grid_height = 0;
  /// Clip: [num_frames, 128] log-mel features of the valid frames, or [num_frames, 640] samples (12B).
  std::vector<float> features;
  int num_frames = 0;
};

/// The keyed_hash() of everything but `hash` itself.
Hash128 content_hash(const EncoderInput& input);

/// The prompt positions [begin, begin + input->num_tokens) that an input's soft tokens take.
struct MediaSpan {
  int begin = 0;
  std::shared_ptr<const EncoderInput> input;
};

}  // namespace carat
