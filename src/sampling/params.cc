#include "sampling/params.h"

#include <cmath>

#include "base/str.h"

namespace carat {
namespace {

/// A float as Python prints it: integral values keep ".0".
std::string python_float(float value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = str_cat(value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

Error invalid(std::string message) { return Error{Errc::kInvalidArgument, std::move(message)}; }

bool within(float value, float low, float high) { return value >= low && value <= high; }  // false for NaN

}  // namespace

Result<void> validate(const SamplingParams& p, int vocab_size) {
  if (!std::isfinite(p.temperature) || p.temperature < 0)
    return invalid(str_cat("temperature must be a non-negative finite number, got ", python_float(p.temperature), "."));
  if (!(p.top_p > 0 && p.top_p <= 1))
    return invalid(str_cat("top_p must be in (0, 1], got ", python_float(p.top_p), "."));
  if (!within(p.min_p, 0, 1)) return invalid(str_cat("min_p must be in [0, 1], got ", python_float(p.min_p), "."));
  if (p.top_k < 1 && p.top_k != -1)
    return invalid(str_cat("top_k must be -1 (disable) or at least 1, got ", p.top_k, "."));
  if (!within(p.frequency_penalty, -2, 2))
    return invalid(str_cat("frequency_penalty must be in [-2, 2], got ", python_float(p.frequency_penalty), "."));
  if (!within(p.presence_penalty, -2, 2))
    return invalid(str_cat("presence_penalty must be in [-2, 2], got ", python_float(p.presence_penalty), "."));
  if (!(p.repetition_penalty > 0 && p.repetition_penalty <= 2))
    return invalid(str_cat("repetition_penalty must be in (0, 2], got ", python_float(p.repetition_penalty), "."));
  if (p.max_new_tokens < 0) return invalid(str_cat("max_new_tokens must be at least 0, got ", p.max_new_tokens, "."));
  if (p.min_new_tokens < 0)
    return invalid(str_cat("min_new_tokens must be in [0, max_new_tokens], got ", p.min_new_tokens, "."));
  if (p.min_new_tokens > p.max_new_tokens)
    return invalid(
        str_cat("min_new_tokens must be in [0, max_new_tokens(", p.max_new_tokens, ")], got ", p.min_new_tokens, "."));
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0 || token >= vocab_size)
      return invalid(str_cat("logit_bias must has keys in [0, ", vocab_size - 1, "], got ", token, "."));
    if (std::isnan(bias)) return invalid(str_cat("logit_bias must have numbers as values, got nan for ", token, "."));
  }
  return {};
}

}  // namespace carat
