#pragma once
// The prompts of `carat bench`: the same as those of sglang.bench_serving for the same seed, tokenizer and file.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "client/python_random.h"

namespace carat {

class Tokenizer;

struct BenchRequest {
  std::string prompt = {};               ///< empty if the ids are sent
  std::vector<TokenId> prompt_ids = {};  ///< with BenchDataOptions::tokenize_prompt
  int prompt_len = 0;
  int output_len = 0;
};

struct BenchDataOptions {
  std::string dataset_name = "random";  ///< or "random-ids", "sharegpt"
  std::string dataset_path = {};
  int num_prompts = 1000;
  int random_input_len = 1024;
  int random_output_len = 1024;
  double random_range_ratio = 0.0;
  std::optional<int> sharegpt_output_len = {};   ///< in place of the second turn's length
  std::optional<int> sharegpt_context_len = {};  ///< longer conversations are left out
  bool tokenize_prompt = false;
  int64_t seed = 42;
};

/// Lengths uniform in [max(int(full * ratio), 1), full]; all zeros if full <= 0.
std::vector<int64_t> random_lengths(NumpyRandom& random, int full_len, double range_ratio, int num);

/// `numpy` continues to be drawn from afterwards: the gaps of a finite request rate.
/// Errors: kNotFound or kCorruptFile naming the data set's file; kInvalidArgument for an unknown data set.
Result<std::vector<BenchRequest>> load_bench_requests(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                                      NumpyRandom& numpy);

}  // namespace carat
