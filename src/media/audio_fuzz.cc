// Any bytes as a sound file, under limits so small that no input may take much memory or time.
#include "base/check.h"
#include "media/audio.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const carat::MediaLimits limits{.max_audio_s = 2};
  const auto sound = carat::decode_audio({data, size}, limits);
  if (sound)
    CARAT_CHECK(!sound->empty() && sound->size() <= 32'001, "bounded and not empty");
  else
    CARAT_CHECK(!sound.error().message.empty(), "an error says what was wrong");
  return 0;
}
