#include "client/bench_http.h"

#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/str.h"
#include "client/json_scan.h"
#include "client/sse.h"

namespace carat {

double bench_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

// A request may take long; SGLang's client waits six hours.
constexpr double kRequestTimeout = 6 * 3600;

std::string unescape(std::string_view inside) {
  if (inside.find('\\') == std::string_view::npos) return std::string(inside);
  const auto text = parse_json(str_cat("\"", inside, "\""));
  return text && text->is_string() ? text->as_string() : std::string(inside);
}

bool present(std::string_view value) { return !value.empty() && value != "null"; }

int to_int(std::string_view value, int fallback) {
  int64_t out = 0;
  return parse_int(value, out) ? static_cast<int>(out) : fallback;
}

std::vector<HttpHeader> auth_headers() {
  if (const char* key = std::getenv("OPENAI_API_KEY"); key != nullptr && *key != '\0')
    return {{"Authorization", str_cat("Bearer ", key)}};
  if (const char* key = std::getenv("API_KEY"); key != nullptr && *key != '\0') return {{"Authorization", key}};
  return {};
}

void merge(Json& into, const Json& extra) {
  for (const auto& [key, value] : extra.as_object()) into.set(key, value);
}

/// The text, with pictures before it if there are any.
Json chat_content(const BenchRequest& request) {
  if (request.images.empty()) return request.prompt;
  Json parts = Json::array();
  for (const std::string& image : request.images)
    parts.push_back(Json::object({{"type", "image_url"}, {"image_url", Json::object({{"url", image}})}}));
  parts.push_back(Json::object({{"type", "text"}, {"text", request.prompt}}));
  return parts;
}

std::string_view path_of(BenchProtocol protocol) {
  switch (protocol) {
    case BenchProtocol::kGenerate:
      return "/generate";
    case BenchProtocol::kCompletions:
      return "/v1/completions";
    case BenchProtocol::kChat:
      return "/v1/chat/completions";
  }
  return "";
}

}  // namespace

// ---- requests ----

Json bench_request_body(const BenchHttpOptions& options, const BenchRequest& request) {
  if (options.protocol == BenchProtocol::kGenerate) {
    Json sampling = Json::object({{"temperature", options.temperature},
                                  {"max_new_tokens", request.output_len},
                                  {"ignore_eos", options.ignore_eos}});
    if (options.top_p < 1.0) sampling.set("top_p", options.top_p);
    Json body = Json::object();
    if (request.prompt_ids.empty())
      body.set("text", request.prompt);
    else
      body.set("input_ids", JsonArray(request.prompt_ids.begin(), request.prompt_ids.end()));
    if (!request.images.empty()) body.set("image_data", JsonArray(request.images.begin(), request.images.end()));
    body.set("sampling_params", std::move(sampling));
    body.set("stream", options.stream);
    body.set("lora_path", nullptr);
    body.set("return_logprob", options.return_logprob);
    body.set("return_routed_experts", false);
    body.set("logprob_start_len", -1);
    merge(body, options.extra_body);
    return body;
  }
  const bool chat = options.protocol == BenchProtocol::kChat;
  Json body = Json::object({{"model", options.model}});
  if (chat) {
    body.set("messages", Json::array({Json::object({{"role", "user"}, {"content", chat_content(request)}})}));
    body.set("max_completion_tokens", request.output_len);
  } else {
    body.set("prompt", request.prompt);
    body.set("best_of", 1);
    body.set("max_tokens", request.output_len);
  }
  body.set("stream", options.stream);
  body.set("temperature", 0.0);
  body.set("ignore_eos", options.ignore_eos);
  merge(body, options.extra_body);
  return body;
}

// ---- answers ----

void BenchEventReader::on_event(double now, std::string_view data) {
  output_.on_event(now);
  if (failed_ || data == "[DONE]") return;
  if (const auto error = find_json(data, "error"); present(error)) {
    const auto message = json_string_inside(find_json(error, "message"));
    output_.fail(message.empty() ? std::string(error) : unescape(message));
    failed_ = true;
    return;
  }
  protocol_ == BenchProtocol::kGenerate ? on_generate(now, data) : on_openai(now, data);
}

void BenchEventReader::take_prompt_tokens(std::string_view counts) {
  if (const int n = to_int(find_json(counts, "prompt_tokens"), 0); n > 0) output_.prompt_len = n;
}

void BenchEventReader::on_generate(double now, std::string_view data) {
  std::string_view text, meta;
  scan_json(data, [&](std::string_view key, std::string_view value) {
    if (key == "text") text = json_string_inside(value);
    if (key == "meta_info") meta = value;
    return text.empty() || meta.empty();
  });
  take_prompt_tokens(meta);
  if (text.empty()) return;
  text_.assign(text);  // each event repeats the whole text
  output_.on_tokens(now, to_int(find_json(meta, "completion_tokens"), output_.output_len));
}

void BenchEventReader::on_openai(double now, std::string_view data) {
  std::string_view choices, usage;
  scan_json(data, [&](std::string_view key, std::string_view value) {
    if (key == "choices") choices = value;
    if (key == "usage") usage = value;
    return true;
  });
  if (present(usage)) {
    take_prompt_tokens(usage);
    output_.output_len = to_int(find_json(usage, "completion_tokens"), output_.output_len);
  }
  const auto choice = first_of_json(choices);
  if (protocol_ == BenchProtocol::kCompletions) {
    const auto text = json_string_inside(find_json(choice, "text"));
    if (text.empty()) return;
    text_ += text;
    return output_.on_text(now, text);
  }
  std::string_view content, reasoning, other_reasoning;
  scan_json(find_json(choice, "delta"), [&](std::string_view key, std::string_view value) {
    if (key == "content") content = json_string_inside(value);
    if (key == "reasoning_content") reasoning = json_string_inside(value);
    if (key == "reasoning") other_reasoning = json_string_inside(value);
    return true;
  });
  if (reasoning.empty()) reasoning = other_reasoning;
  if (content.empty() && reasoning.empty()) return;
  const auto begin = text_.size();
  text_ += reasoning;
  text_ += content;
  output_.on_text(now, std::string_view(text_).substr(begin));
}

void BenchEventReader::on_body(double now, std::string_view body) {
  if (protocol_ != BenchProtocol::kChat) return on_event(now, body);
  output_.on_event(now);
  const auto message = find_json(first_of_json(find_json(body, "choices")), "message");
  if (!present(message)) {
    failed_ = true;
    return output_.fail("the answer has no message");
  }
  text_ = str_cat(json_string_inside(find_json(message, "reasoning_content")),
                  json_string_inside(find_json(message, "content")));
  output_.ttft_s = output_.latency_s;
  const auto usage = find_json(body, "usage");
  take_prompt_tokens(usage);
  output_.output_len = to_int(find_json(usage, "completion_tokens"), output_.output_len);
}

void BenchEventReader::finish() {
  if (failed_) return;
  output_.success = true;
  output_.generated_text = unescape(text_);
  for (auto& chunk : output_.text_chunks) chunk = unescape(chunk);
}

// ---- the backend ----

namespace {

class HttpBenchBackend final : public BenchBackend {
 public:
  explicit HttpBenchBackend(BenchHttpOptions options)
      : options_(std::move(options)),
        client_(options_.base, {.connect_timeout_s = 5, .idle_timeout_s = 2 * options_.flush_cache_timeout_s}),
        pool_(options_.base, {.connect_timeout_s = 60, .idle_timeout_s = kRequestTimeout}, options_.num_threads) {}

  void submit(const BenchRequest& request, BenchOutput& output, std::function<void()> done) override {
    struct Run {
      BenchEventReader events;
      SseReader sse;
      int status = 0;
      std::string reason, body;
      bool is_stream = false;
    };
    output.begin(bench_now(), request);
    auto run = std::make_shared<Run>(Run{.events = {options_.protocol, output}, .sse = {}, .reason = {}, .body = {}});
    pool_.send({.method = "POST",
                .target = std::string(path_of(options_.protocol)),
                .headers = auth_headers(),
                .body = bench_request_body(options_, request).dump()},
               {.on_head =
                    [run](const HttpResponseHead& head) {
                      run->status = head.status;
                      run->reason = head.reason;
                      const auto* type = head.header("content-type");
                      run->is_stream = head.status == 200 && type != nullptr && type->starts_with("text/event-stream");
                    },
                .on_data =
                    [run](std::string_view data) {
                      if (!run->is_stream) {
                        run->body += data;
                        return;
                      }
                      const double now = bench_now();
                      run->sse.feed(
                          data, [&](std::string_view, std::string_view event) { run->events.on_event(now, event); });
                    },
                .on_done =
                    [run, &output, done = std::move(done)](Result<void> result) {
                      if (!result) {
                        output.fail(result.error().message);
                      } else if (run->status != 200) {
                        output.fail(str_cat(run->reason, ": ", run->body));
                      } else {
                        if (!run->is_stream) run->events.on_body(bench_now(), run->body);
                        run->events.finish();
                      }
                      done();
                    }});
  }

  Result<void> wait_ready(double timeout_s) override {
    const double begin = bench_now();
    while (true) {
      const auto answer = get("/v1/models");
      if (answer && answer->status() == 200) return take_model(answer->body);
      if (bench_now() - begin >= timeout_s)
        return Error{Errc::kUnavailable,
                     str_cat("the server is not ready: ",
                             answer ? str_cat("/v1/models answers ", answer->status()) : answer.error().message)};
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }

  std::string tokenizer_path() override {
    const auto answer = get("/model_info");
    if (!answer || answer->status() != 200) return "";
    const auto info = parse_json(answer->body);
    if (!info) return "";
    for (const auto* key : {"tokenizer_path", "model_path"})
      if (const auto* path = info->find(key); path != nullptr && path->is_string() && !path->as_string().empty())
        return path->as_string();
    return "";
  }

  Result<void> flush_cache() override {
    CARAT_TRY(const auto answer,
              client_.request({.method = "POST",
                               .target = str_cat("/flush_cache?timeout=", options_.flush_cache_timeout_s),
                               .headers = auth_headers()}));
    if (answer.status() != 200)
      return Error{Errc::kUnavailable, str_cat("/flush_cache answers ", answer.status(), ": ", answer.body)};
    return {};
  }

  Json server_info() override {
    const auto answer = get("/server_info");
    if (!answer || answer->status() != 200) return {};
    auto info = parse_json(answer->body);
    return info ? std::move(*info) : Json();
  }

 private:
  Result<HttpClientResponse> get(std::string_view target) {
    return client_.request({.target = std::string(target), .headers = auth_headers()});
  }

  Result<void> take_model(std::string_view body) {
    if (!options_.model.empty()) return {};
    options_.model = unescape(json_string_inside(find_json(first_of_json(find_json(body, "data")), "id")));
    if (options_.model.empty()) return Error{Errc::kUnavailable, "/v1/models names no model: give one with --model"};
    return {};
  }

  BenchHttpOptions options_;
  HttpClient client_;
  HttpClientPool pool_;
};

}  // namespace

std::unique_ptr<BenchBackend> make_bench_http(BenchHttpOptions options) {
  return std::make_unique<HttpBenchBackend>(std::move(options));
}

}  // namespace carat
