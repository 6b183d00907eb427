#include "base/result.h"

namespace carat {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::kInvalidArgument:
      return "invalid argument";
    case Errc::kNotFound:
      return "not found";
    case Errc::kCorruptFile:
      return "corrupt file";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kTooLarge:
      return "too large";
    case Errc::kOverloaded:
      return "overloaded";
    case Errc::kUnavailable:
      return "unavailable";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kIo:
      return "input/output error";
    case Errc::kInternal:
      return "internal error";
  }
  return "unknown";
}

}  // namespace carat
