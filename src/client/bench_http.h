#pragma once
// The HTTP backends of `carat bench`: SGLang's native interface, OpenAI completions and chat completions.

#include <memory>

#include "client/bench_backend.h"
#include "client/http_client.h"

namespace carat {

enum class BenchProtocol { kGenerate, kCompletions, kChat };

struct BenchHttpOptions {
  BenchProtocol protocol = BenchProtocol::kGenerate;
  HttpUrl base = {};
  std::string model = {};  ///< of the OpenAI protocols; "": the first of /v1/models
  bool stream = true;
  bool ignore_eos = true;
  bool return_logprob = false;
  double temperature = 0.0;  ///< of kGenerate
  double top_p = 1.0;        ///< of kGenerate
  Json extra_body = Json::object();
  double flush_cache_timeout_s = 60;
  int num_threads = 1;
};

std::unique_ptr<BenchBackend> make_bench_http(BenchHttpOptions options);

/// The body that is sent, for tests.
Json bench_request_body(const BenchHttpOptions& options, const BenchRequest& request);

/// Reads the events of one answer into a BenchOutput. One thread.
class BenchEventReader {
 public:
  BenchEventReader(BenchProtocol protocol, BenchOutput& output) : protocol_(protocol), output_(output) {}
  /// One event's data, "[DONE]" included.
  void on_event(double now, std::string_view data);
  /// A whole answer that was not streamed.
  void on_body(double now, std::string_view body);
  /// The stream has ended: decodes the text.
  void finish();

 private:
  void on_generate(double now, std::string_view data);
  void on_openai(double now, std::string_view data);
  void take_prompt_tokens(std::string_view counts);

  const BenchProtocol protocol_;
  BenchOutput& output_;
  std::string text_;  // still escaped: pieces of JSON strings joined are a JSON string
  bool failed_ = false;
};

}  // namespace carat
