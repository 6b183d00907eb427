// libstdc++'s random_device calls arc4random, which glibc has since 2.36 only. With libstdc++ linked statically this
// definition is found first, and the program runs on glibc 2.35.

#include <sys/random.h>

#include <cstdint>
#include <cstdlib>

extern "C" uint32_t arc4random() {
  uint32_t value = 0;
  if (getrandom(&value, sizeof value, 0) != sizeof value) std::abort();
  return value;
}
