#include "base/encoder_input.h"

#include <random>
#include <string_view>

#include "base/hash.h"

namespace carat {
namespace {

uint64_t random_word() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

std::array<uint64_t, 2> content_hash(const EncoderInput& input) {
  static const std::array<uint64_t, 2> salts = {random_word(), random_word()};
  std::array<uint64_t, 2> hash;
  for (size_t i = 0; i < hash.size(); ++i) {
    uint64_t h = hash_combine(salts[i], static_cast<uint64_t>(input.kind));
    for (const int number : {input.num_tokens, input.grid_width, input.grid_height, input.num_frames})
      h = hash_combine(h, static_cast<uint64_t>(number));
    hash[i] = hash_bytes(bytes_of(input.features), hash_bytes(bytes_of(input.pixels), h));
  }
  return hash;
}

}  // namespace carat
