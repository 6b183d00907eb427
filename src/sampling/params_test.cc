#include "sampling/params.h"

#include <gtest/gtest.h>

#include <cmath>

namespace carat {
namespace {

constexpr int kVocab = 100;

std::string error_of(const SamplingParams& params) {
  const auto result = validate(params, kVocab);
  if (result) return "";
  EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
  return result.error().message;
}

template <class T>
std::string error_with(T SamplingParams::*field, T value) {
  SamplingParams params;
  params.*field = value;
  return error_of(params);
}

TEST(Validate, DefaultsAreValid) { EXPECT_EQ(error_of({}), ""); }

TEST(Validate, EachLimitAtBelowAndAbove) {
  using P = SamplingParams;
  EXPECT_EQ(error_with(&P::temperature, 0.0f), "");
  EXPECT_EQ(error_with(&P::temperature, -0.5f), "temperature must be a non-negative finite number, got -0.5.");
  EXPECT_EQ(error_with(&P::temperature, -1.0f), "temperature must be a non-negative finite number, got -1.0.");
  EXPECT_EQ(error_with(&P::temperature, INFINITY), "temperature must be a non-negative finite number, got inf.");
  EXPECT_EQ(error_with(&P::temperature, NAN), "temperature must be a non-negative finite number, got nan.");
  EXPECT_EQ(error_with(&P::top_p, 1.0f), "");
  EXPECT_EQ(error_with(&P::top_p, 0.0f), "top_p must be in (0, 1], got 0.0.");
  EXPECT_EQ(error_with(&P::top_p, 1.1f), "top_p must be in (0, 1], got 1.1.");
  EXPECT_EQ(error_with(&P::top_k, 1), "");
  EXPECT_EQ(error_with(&P::top_k, -1), "");
  EXPECT_EQ(error_with(&P::top_k, 0), "top_k must be -1 (disable) or at least 1, got 0.");
  EXPECT_EQ(error_with(&P::top_k, -2), "top_k must be -1 (disable) or at least 1, got -2.");
  EXPECT_EQ(error_with(&P::min_p, 1.0f), "");
  EXPECT_EQ(error_with(&P::min_p, -0.1f), "min_p must be in [0, 1], got -0.1.");
  EXPECT_EQ(error_with(&P::frequency_penalty, -2.0f), "");
  EXPECT_EQ(error_with(&P::frequency_penalty, 2.5f), "frequency_penalty must be in [-2, 2], got 2.5.");
  EXPECT_EQ(error_with(&P::presence_penalty, -2.5f), "presence_penalty must be in [-2, 2], got -2.5.");
  EXPECT_EQ(error_with(&P::repetition_penalty, 2.0f), "");
  EXPECT_EQ(error_with(&P::repetition_penalty, 0.0f), "repetition_penalty must be in (0, 2], got 0.0.");
  EXPECT_EQ(error_with(&P::repetition_penalty, NAN), "repetition_penalty must be in (0, 2], got nan.");
  EXPECT_EQ(error_with(&P::max_new_tokens, 0), "");
  EXPECT_EQ(error_with(&P::max_new_tokens, -1), "max_new_tokens must be at least 0, got -1.");
  EXPECT_EQ(error_with(&P::min_new_tokens, 128), "");
  EXPECT_EQ(error_with(&P::min_new_tokens, -1), "min_new_tokens must be in [0, max_new_tokens], got -1.");
  EXPECT_EQ(error_with(&P::min_new_tokens, 129), "min_new_tokens must be in [0, max_new_tokens(128)], got 129.");
}

TEST(Validate, BiasesNeedKnownTokens) {
  SamplingParams params;
  params.logit_bias = {{0, 1.0f}, {kVocab - 1, -100.0f}};
  EXPECT_EQ(error_of(params), "");
  params.logit_bias = {{kVocab, 1.0f}};
  EXPECT_EQ(error_of(params), "logit_bias must has keys in [0, 99], got 100.");
  params.logit_bias = {{-1, 1.0f}};
  EXPECT_EQ(error_of(params), "logit_bias must has keys in [0, 99], got -1.");
}

}  // namespace
}  // namespace carat
