// A GPU driver's library as far as it takes to be asked for its version and for GPUs, for machines without one: tests
// start the program with it in the library path. The environment says what is wrong: FAKE_DRIVER_VERSION (12020 for
// CUDA 12.2), FAKE_DRIVER_INIT (what cuInit answers).
#include <dlfcn.h>

#include <cstdlib>

namespace {
int number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : otherwise;
}
constexpr int kNotFound = 500;
}  // namespace

extern "C" {
int cuInit(unsigned) { return number("FAKE_DRIVER_INIT", 0); }
int cuDriverGetVersion(int* version) {
  *version = number("FAKE_DRIVER_VERSION", 13000);
  return 0;
}
int cuGetProcAddress(const char* name, void** function, int, unsigned long long) {
  *function = dlsym(RTLD_DEFAULT, name);
  return *function ? 0 : kNotFound;
}
int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags, int* status) {
  const int result = cuGetProcAddress(name, function, version, flags);
  if (status) *status = result == 0 ? 0 : 1;
  return result;
}
}
