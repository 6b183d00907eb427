#pragma once
// What `carat bench` measures: a server behind HTTP, or an engine in the same process.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "client/bench_metrics.h"

namespace carat {

class Tokenizer;

/// Seconds of the steady clock, for BenchOutput.
double bench_now();

class BenchBackend {
 public:
  virtual ~BenchBackend() = default;

  /// Starts a request and returns. `request` and `output` live until done(). The implementation calls
  /// output.begin(bench_now(), request) at once and then, on one thread at a time, on_tokens() or on_text() for what
  /// comes; at the end it sets success (or calls fail()) and generated_text, and calls done() once, from any thread but
  /// not inside this call.
  virtual void submit(const BenchRequest& request, BenchOutput& output, std::function<void()> done) = 0;

  /// Waits until requests are welcome. Errors: kUnavailable.
  virtual Result<void> wait_ready(double timeout_s) = 0;
  /// The model's own tokenizer, where it is in this process; lives as long as the backend.
  virtual const Tokenizer* tokenizer() { return nullptr; }
  /// Else the folder of the tokenizer that the model uses, "" if unknown.
  virtual std::string tokenizer_path() = 0;
  virtual Result<void> flush_cache() = 0;
  /// What /server_info says (null if it does not): goes into the result file; internal_states[0] has the accept length.
  virtual Json server_info() = 0;
};

}  // namespace carat
