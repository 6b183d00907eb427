#pragma once
// The prompts of `carat bench`: the same as those of sglang.bench_serving for the same seed, tokenizer and file.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/token.h"
#include "chat/render.h"
#include "client/python_random.h"

namespace carat {

class Tokenizer;

struct BenchRequest {
  std::string prompt = {};               ///< empty if the ids are sent
  std::vector<TokenId> prompt_ids = {};  ///< with BenchDataOptions::tokenize_prompt
  std::vector<std::string> images = {};  ///< data URIs
  int prompt_len = 0;                    ///< tokens, those of images included
  int vision_len = 0;                    ///< of them those of images, markers included
  int output_len = 0;
};

enum class ImageContent { kRandom, kBlank };

/// Of the data set "image".
struct BenchImageOptions {
  int count = 1;
  bool random_count = false;  ///< 1 to count, for each request
  std::string resolution = "1080p";
  ImageContent content = ImageContent::kRandom;
  std::string format = "jpeg";  ///< or "png"
};

/// Bounds of widths and heights.
struct ImageBounds {
  int min_width = 0, min_height = 0, max_width = 0, max_height = 0;
};
/// "4k", "1080p", "720p", "360p", "HEIGHTxWIDTH", or "random:HxW-HxW". Errors: kInvalidArgument.
Result<ImageBounds> parse_image_resolution(std::string_view text);

struct BenchDataOptions {
  std::string dataset_name = "random";  ///< or "random-ids", "sharegpt", "image"
  std::string dataset_path = {};
  int num_prompts = 1000;
  int random_input_len = 1024;
  int random_output_len = 1024;
  double random_range_ratio = 0.0;
  std::optional<int> sharegpt_output_len = {};   ///< in place of the second turn's length
  std::optional<int> sharegpt_context_len = {};  ///< longer conversations are left out
  bool tokenize_prompt = false;
  BenchImageOptions image = {};
  /// "image": the prompt is sent as it comes out of the chat template, with placeholders; else as plain text.
  bool apply_template = false;
  ChatFamily family = ChatFamily::kSmall;  ///< of that template
  int64_t seed = 42;
};

/// Lengths uniform in [max(int(full * ratio), 1), full]; all zeros if full <= 0.
std::vector<int64_t> random_lengths(NumpyRandom& random, int full_len, double range_ratio, int num);

/// Text of tokens drawn from the whole vocabulary but its special tokens, and pictures of noise. Lengths, pictures and
/// the sums of the report are SGLang's, the texts are not: it leaves out fewer tokens.
Result<std::vector<BenchRequest>> make_image_requests(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                                      NumpyRandom& numpy);

/// `numpy` continues to be drawn from afterwards: the gaps of a finite request rate.
/// Errors: kNotFound or kCorruptFile naming the data set's file; kInvalidArgument for an unknown data set.
Result<std::vector<BenchRequest>> load_bench_requests(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                                      NumpyRandom& numpy);

}  // namespace carat
