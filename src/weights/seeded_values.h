#pragma once
// Random numbers for seeded weights. Inside this folder. A value depends on seed, tensor name, index and law alone, so
// it is the same on every machine.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tensor/bf16.h"
#include "tensor/tensor.h"

namespace carat {

struct Law {
  enum class Kind { kNormal, kUniform } kind;
  double a, b;  // mean and standard deviation, or ends
  Law scaled(double s) const { return {kind, s * a, s * b}; }
};
inline Law normal(double deviation) { return {Law::Kind::kNormal, 0, deviation}; }
/// A multiplier around `mean`.
inline Law gain(double mean) { return {Law::Kind::kNormal, mean, 0.25 * mean}; }
inline Law uniform(double low, double high) { return {Law::Kind::kUniform, low, high}; }

struct SeededTensor {
  std::string name;
  Law law;
  int64_t count;
  Bf16* data = nullptr;  ///< set by draw()
};

/// Memory with all of them drawn, each from a multiple of a cache line on. Errors: kOverloaded if the memory is not
/// there; the message calls them the seeded weights of `whose`.
Result<Buffer> draw(std::span<SeededTensor> tensors, uint64_t seed, std::string_view whose);
/// Draws elements [begin, end) again by another law.
void redraw(const SeededTensor& tensor, uint64_t seed, const Law& law, int64_t begin, int64_t end);

}  // namespace carat
