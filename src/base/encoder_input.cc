#include "base/encoder_input.h"

#include <array>
#include <span>

namespace carat {
namespace {

template <class T>
Hash128 add(const T& values, const Hash128& hash) {
  return keyed_hash(std::as_bytes(std::span(values)), hash);
}

}  // namespace

Hash128 content_hash(const EncoderInput& input) {
  const std::array<int, 5> shape = {static_cast<int>(input.kind), input.num_tokens, input.grid_width, input.grid_height,
                                    input.num_frames};
  return add(input.features, add(input.pixels, add(shape, {})));
}

}  // namespace carat
