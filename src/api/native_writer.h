#pragma once
// Answers of /generate. Source: spec api.md section 6.

#include <memory>
#include <string>

#include "api/generation.h"

namespace carat {

/// Which log-probabilities a prompt of a /generate request shows.
struct NativeLogprobs {
  bool enabled = false;
  bool with_text = false;
};

struct NativeAnswerOptions {
  bool stream = false;
  bool list = false;  ///< a batch or n > 1: an array, and `index` in events
  bool return_prompt_ids = false;
  std::vector<NativeLogprobs> logprobs;  ///< per prompt
  bool predictions = false;              ///< the answer stands in {"predictions": ...}; not with streams
};

std::unique_ptr<AnswerWriter> make_native_writer(WriterContext context, NativeAnswerOptions options);

/// What is shown beside the counters of meta_info.
struct MetaInfoExtras {
  NativeLogprobs logprobs;
  size_t first_token = 0;  ///< output log-probabilities from here on
  bool prompt_ids = false;
};
void append_meta_info(std::string& out, const WriterContext& context, const Prompt& prompt, const Sample& sample,
                      const MetaInfoExtras& extras);

}  // namespace carat
