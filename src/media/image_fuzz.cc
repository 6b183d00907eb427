// Any bytes as an image, under limits so small that no input may take much memory.
#include "base/check.h"
#include "media/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const carat::MediaLimits limits{.max_image_pixels = 1 << 16};
  const auto image = carat::decode_image({data, size}, limits);
  if (image)
    CARAT_CHECK_EQ(image->pixels.size(), size_t{3} * static_cast<size_t>(image->width) * image->height);
  else
    CARAT_CHECK(!image.error().message.empty(), "an error says what was wrong");
  return 0;
}
