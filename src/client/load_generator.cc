#include "client/load_generator.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <deque>
#include <fstream>
#include <limits>
#include <mutex>
#include <thread>

#include "base/str.h"
#include "chat/template_check.h"
#include "client/flags.h"
#include "tokenizer/tokenizer.h"

namespace carat {
namespace {

constexpr int kMaxWarmupTokens = 32;
constexpr int64_t kMaxInt = std::numeric_limits<int>::max();

Result<void> add_goal(std::string_view pair, BenchGoals& goals) {
  const size_t colon = pair.find(':');
  const std::string_view name = pair.substr(0, colon);
  double limit_ms = 0;
  const bool known = name == "ttft" || name == "tpot" || name == "e2el";
  if (!known || colon == std::string_view::npos || !parse_float(pair.substr(colon + 1), limit_ms) || !(limit_ms > 0) ||
      !std::isfinite(limit_ms))
    return Error{Errc::kInvalidArgument,
                 str_cat("--goodput takes KEY:MILLISECONDS with KEY ttft, tpot or e2el, got '", pair, "'")};
  goals.emplace_back(name, limit_ms);
  return {};
}

std::vector<CliFlag> bench_flags(BenchOptions& o) {
  const auto to_int = [](int& target) { return [&target](int64_t v) { target = static_cast<int>(v); }; };
  return {
      CliFlag::text("--backend", "NAME", "sglang (default; /generate), sglang-oai (completions), sglang-oai-chat",
                    o.backend),
      CliFlag::text("--host", "HOST", "default 127.0.0.1", o.host),
      CliFlag::integer("--port", "default 30000", 1, 65535, to_int(o.port)),
      CliFlag::text("--base-url", "URL", "instead of --host and --port", o.base_url),
      CliFlag::text("--dataset-name", "NAME",
                    "random (default; texts of a ShareGPT file), random-ids, sharegpt (its conversations), or image",
                    o.data.dataset_name),
      CliFlag::text("--dataset-path", "FILE", "the ShareGPT file of 'random' and 'sharegpt'", o.data.dataset_path),
      CliFlag::integer("--sharegpt-output-len", "tokens of every answer; default: as in the file", 4, kMaxInt,
                       [&o](int64_t v) { o.data.sharegpt_output_len = static_cast<int>(v); }),
      CliFlag::integer("--sharegpt-context-len", "leaves longer conversations out; default: none", 1, kMaxInt,
                       [&o](int64_t v) { o.data.sharegpt_context_len = static_cast<int>(v); }),
      CliFlag::integer("--num-prompts", "default 1000", 1, kMaxInt, to_int(o.data.num_prompts)),
      CliFlag::integer("--random-input-len", "longest prompt in tokens, default 1024", 0, kMaxInt,
                       to_int(o.data.random_input_len)),
      CliFlag::integer("--random-output-len", "longest answer in tokens, default 1024", 0, kMaxInt,
                       to_int(o.data.random_output_len)),
      CliFlag::number("--random-range-ratio", "shortest / longest, default 0", 0, 1, o.data.random_range_ratio),
      CliFlag::integer("--image-count", "pictures of a request of 'image', default 1", 1, 1024,
                       to_int(o.data.image.count)),
      CliFlag::toggle("--random-image-count", "1 to --image-count pictures", o.data.image.random_count),
      CliFlag::text("--image-resolution", "SIZE", "4k, 1080p (default), 720p, 360p, HEIGHTxWIDTH or random:HxW-HxW",
                    o.data.image.resolution),
      CliFlag::text("--image-format", "NAME", "jpeg (default) or png", o.data.image.format),
      {"--image-content", "NAME", "random (default) or blank",
       [&o](std::string_view name) -> Result<void> {
         if (name != "random" && name != "blank")
           return Error{Errc::kInvalidArgument, str_cat("--image-content must be random or blank, got '", name, "'")};
         o.data.image.content = name == "blank" ? ImageContent::kBlank : ImageContent::kRandom;
         return {};
       }},
      CliFlag::number("--request-rate", "requests per second in exponential gaps; default inf: all at once", 0,
                      std::numeric_limits<double>::infinity(), o.request_rate),
      CliFlag::integer("--max-concurrency", "open requests at a time; default: no limit", 1, kMaxInt,
                       [&o](int64_t v) { o.max_concurrency = static_cast<int>(v); }),
      CliFlag::integer("--seed", "of lengths and texts, default 42 (SGLang before June 2026: 1)", 0,
                       std::numeric_limits<uint32_t>::max(), [&o](int64_t v) { o.data.seed = v; }),
      CliFlag::text("--model", "NAME", "default: the first of /v1/models", o.model),
      CliFlag::text("--tokenizer", "FOLDER", "default: what /model_info names", o.tokenizer),
      CliFlag::toggle("--tokenize-prompt", "send ids instead of text (backend sglang)", o.data.tokenize_prompt),
      CliFlag::toggle("--disable-ignore-eos", "let the model end its answers", o.disable_ignore_eos),
      CliFlag::toggle("--disable-stream", "ask for whole answers", o.disable_stream),
      CliFlag::toggle("--return-logprob", "ask for log-probabilities (backend sglang)", o.return_logprob),
      CliFlag::number("--temperature", "of backend sglang, default 0", 0, 100, o.temperature),
      CliFlag::number("--top-p", "of backend sglang, default 1", 0, 1, o.top_p),
      CliFlag::text("--extra-request-body", "JSON", "an object that is merged into each request", o.extra_request_body),
      {"--goodput", "KEY:MS ...", "counts requests within limits in milliseconds; keys ttft, tpot, e2el",
       [&o](std::string_view pair) { return add_goal(pair, o.goodput); }, true},
      CliFlag::text("--output-file", "FILE",
                    "where the JSON line is appended; default {backend}_{MMDD}_{N}_{in}_{out}.jsonl", o.output_file),
      CliFlag::toggle("--output-details", "also write lengths, times and texts of each request", o.output_details),
      CliFlag::text("--tag", "TEXT", "repeated in the JSON line", o.tag),
      CliFlag::toggle("--flush-cache", "empty the server's prefix cache after the warm-up", o.flush_cache),
      CliFlag::number("--flush-cache-timeout", "seconds, default 60", 0, 86400, o.flush_cache_timeout_s),
      CliFlag::integer("--warmup-requests", "copies of the first request, at most 32 tokens; default 1", 0, kMaxInt,
                       to_int(o.warmup_requests)),
      CliFlag::number("--ready-check-timeout-sec", "how long to wait for the server, default 60", 0, 86400,
                      o.ready_check_timeout_s),
      CliFlag::toggle("--disable-tqdm", "no progress on stderr", o.disable_tqdm),
      CliFlag::integer("--client-threads", "threads that read answers, default 1", 1, 64, to_int(o.client_threads)),
      CliFlag::toggle("--engine-only", "measure the engine in this process, without HTTP; its options follow after --",
                      o.engine_only),
  };
}

Result<BenchProtocol> protocol_of(std::string_view backend) {
  if (backend == "sglang" || backend == "sglang-native") return BenchProtocol::kGenerate;
  if (backend == "sglang-oai") return BenchProtocol::kCompletions;
  if (backend == "sglang-oai-chat") return BenchProtocol::kChat;
  return Error{Errc::kInvalidArgument,
               str_cat("--backend must be sglang, sglang-native, sglang-oai or sglang-oai-chat, got '", backend, "'")};
}

Result<Json> parse_extra_body(const std::string& text) {
  if (text.empty()) return Json::object();
  auto body = parse_json(text);
  if (!body) return Error{Errc::kInvalidArgument, str_cat("--extra-request-body: ", body.error().message)};
  if (!body->is_object()) return Error{Errc::kInvalidArgument, "--extra-request-body must be a JSON object"};
  return body;
}

}  // namespace

Result<BenchOptions> parse_bench_options(std::span<const std::string> args) {
  BenchOptions options;
  const auto flags = bench_flags(options);
  CARAT_TRY_VOID(parse_flags(flags, args, options.engine_args));
  if (std::isinf(options.request_rate)) options.request_rate = 0;
  CARAT_TRY(const auto protocol, protocol_of(options.backend));
  CARAT_TRY_VOID(parse_extra_body(options.extra_request_body));
  if (options.data.tokenize_prompt && protocol != BenchProtocol::kGenerate && !options.engine_only)
    return Error{Errc::kInvalidArgument,
                 str_cat("--tokenize-prompt works with --backend sglang only, got ", options.backend)};
  const std::string& data = options.data.dataset_name;
  if (data != "random" && data != "random-ids" && data != "sharegpt" && data != "image")
    return Error{Errc::kInvalidArgument,
                 str_cat("--dataset-name must be random, random-ids, sharegpt or image, got '", data, "'")};
  if (data == "image") {
    CARAT_TRY_VOID(parse_image_resolution(options.data.image.resolution));
    if (options.data.image.format != "jpeg" && options.data.image.format != "png")
      return Error{Errc::kInvalidArgument,
                   str_cat("--image-format must be jpeg or png, got '", options.data.image.format, "'")};
    if (protocol == BenchProtocol::kCompletions || options.engine_only || options.data.tokenize_prompt)
      return Error{Errc::kInvalidArgument,
                   "--dataset-name image works with --backend sglang or sglang-oai-chat, without --tokenize-prompt"};
    options.data.apply_template = protocol == BenchProtocol::kGenerate;
  }
  if (data == "sharegpt" && options.data.tokenize_prompt)
    return Error{Errc::kInvalidArgument, "--tokenize-prompt does not work with --dataset-name sharegpt"};
  if (!options.engine_args.empty() && !options.engine_only)
    return Error{Errc::kInvalidArgument, "options after -- belong to the engine and need --engine-only"};
  return options;
}

std::string bench_help() {
  BenchOptions options;
  return str_cat(
      "Usage: carat bench [options]\n\nSends the load of sglang.bench_serving to a server and prints its report.\n\n",
      flags_help(bench_flags(options)), "  --help                          this text\n");
}

// ---- the load ----

namespace {

// Hands out requests in order, at most `limit` at a time.
class LoadRun {
 public:
  LoadRun(BenchBackend& backend, const std::vector<BenchRequest>& requests, std::optional<int> limit,
          const std::function<void(int)>& on_done)
      : backend_(backend),
        requests_(requests),
        limit_(limit.value_or(std::numeric_limits<int>::max())),
        on_done_(on_done),
        outputs_(requests.size()) {}

  /// Request number `num_arrived_` may now start.
  void arrive() {
    {
      const std::lock_guard lock(mutex_);
      ++num_arrived_;
    }
    start_what_may();
  }

  std::vector<BenchOutput> wait() {
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [&] { return num_done_ == requests_.size(); });
    return std::move(outputs_);
  }

 private:
  void start_what_may() {
    while (true) {
      size_t next;
      {
        const std::lock_guard lock(mutex_);
        if (num_started_ == num_arrived_ || num_running_ >= limit_) return;
        next = num_started_++;
        ++num_running_;
      }
      backend_.submit(requests_[next], outputs_[next], [this] { finished(); });
    }
  }

  void finished() {
    {
      const std::lock_guard lock(mutex_);
      --num_running_;
    }
    start_what_may();
    // Counted last, since with the last one this object goes away.
    const std::lock_guard lock(mutex_);
    ++num_done_;
    if (on_done_) on_done_(static_cast<int>(num_done_));
    if (num_done_ == requests_.size()) all_done_.notify_all();
  }

  BenchBackend& backend_;
  const std::vector<BenchRequest>& requests_;
  const int limit_;
  const std::function<void(int)>& on_done_;

  std::mutex mutex_;  // guards what follows; an output belongs to the backend until it is done
  std::condition_variable all_done_;
  std::vector<BenchOutput> outputs_;
  size_t num_arrived_ = 0, num_started_ = 0, num_done_ = 0;
  int num_running_ = 0;
};

}  // namespace

std::vector<BenchOutput> run_load(BenchBackend& backend, const std::vector<BenchRequest>& requests,
                                  std::optional<int> max_concurrency, double request_rate, NumpyRandom& random,
                                  const std::function<void(int)>& on_done) {
  LoadRun run(backend, requests, max_concurrency, on_done);
  for (size_t i = 0; i < requests.size(); ++i) {
    run.arrive();
    if (request_rate > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(random.exponential(1.0 / request_rate)));
  }
  return run.wait();
}

// ---- the command ----

namespace {

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65535);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[8];
  std::strftime(text, sizeof text, "%m%d", &local);
  return text;
}

std::string result_file(const BenchOptions& o) {
  if (!o.output_file.empty()) return o.output_file;
  if (o.data.dataset_name == "image")
    return str_cat(o.backend, "_", today(), "_", o.data.num_prompts, "_", o.data.random_input_len, "_",
                   o.data.random_output_len, "_", o.data.image.count, "imgs_", o.data.image.resolution, ".jsonl");
  if (o.data.dataset_name == "sharegpt")
    return str_cat(o.backend, "_", today(), "_", o.data.num_prompts, "_sharegpt.jsonl");
  return str_cat(o.backend, "_", today(), "_", o.data.num_prompts, "_", o.data.random_input_len, "_",
                 o.data.random_output_len, ".jsonl");
}

// A line on stderr that counts up, at most ten times a second; nothing if nobody watches.
class Progress {
 public:
  Progress(size_t total, bool wanted) : total_(total), shown_(wanted && ::isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (shown_) std::fputc('\n', stderr);
  }
  void show(int num_done) {
    if (!shown_) return;
    const double now = bench_now();
    if (now - last_ < 0.1 && static_cast<size_t>(num_done) < total_) return;
    last_ = now;
    std::fprintf(stderr, "\r%d/%zu [%.0fs, %.2f req/s]", num_done, total_, now - begin_,
                 num_done / (now - begin_ + 1e-9));
  }

 private:
  const size_t total_;
  const bool shown_;
  const double begin_ = bench_now();
  double last_ = 0;
};

double accept_length_of(const Json& server_info) {
  const auto* states = server_info.find("internal_states");
  if (states == nullptr || !states->is_array() || states->as_array().empty()) return 0;
  const auto* length = states->as_array()[0].find("avg_spec_accept_length");
  return length != nullptr && length->is_number() ? length->as_double() : 0;
}

Result<void> warm_up(BenchBackend& backend, const BenchOptions& options, const BenchRequest& first,
                     NumpyRandom& random) {
  std::printf("Starting warmup with %d sequences...\n", options.warmup_requests);
  std::fflush(stdout);
  if (options.warmup_requests > 0) {
    auto copy = first;
    copy.output_len = std::min(copy.output_len, kMaxWarmupTokens);
    const std::vector<BenchRequest> requests(static_cast<size_t>(options.warmup_requests), copy);
    const auto outputs = run_load(backend, requests, options.max_concurrency, 0, random);
    if (std::none_of(outputs.begin(), outputs.end(), [](const auto& o) { return o.success; }))
      return Error{Errc::kUnavailable, str_cat("all warm-up requests failed: ", outputs[0].error)};
  }
  std::printf("Warmup completed with %d sequences. Starting main benchmark run...\n", options.warmup_requests);
  std::fflush(stdout);
  if (options.flush_cache) CARAT_TRY_VOID(backend.flush_cache());
  std::this_thread::sleep_for(std::chrono::seconds(1));
  return {};
}

/// The folder of the tokenizer that prompts are made with; "" if nobody names one.
std::string tokenizer_folder(BenchBackend& backend, const BenchOptions& options) {
  return options.tokenizer.empty() ? backend.tokenizer_path() : options.tokenizer;
}

/// The options of the data, with the chat template's family where prompts are counted with it.
BenchDataOptions data_options(BenchBackend& backend, const BenchOptions& options, const Tokenizer& tokenizer) {
  BenchDataOptions data = options.data;
  if (data.dataset_name != "image") return data;
  const auto chat_template = load_chat_template(tokenizer_folder(backend, options), tokenizer.chat_template());
  if (chat_template && !chat_template->empty())
    data.family = check_chat_template(*chat_template, ChatFamily::kSmall).family;
  return data;
}

/// The tokenizer that prompts are made with. `owned` keeps it if it is not the backend's.
Result<const Tokenizer*> find_tokenizer(BenchBackend& backend, const BenchOptions& options,
                                        std::unique_ptr<Tokenizer>& owned) {
  const Tokenizer* own = backend.tokenizer();
  if (own != nullptr && options.tokenizer.empty()) return own;
  const auto folder = tokenizer_folder(backend, options);
  if (folder.empty()) return Error{Errc::kNotFound, "the server names no tokenizer: give its folder with --tokenizer"};
  auto loaded = Tokenizer::load(folder);
  if (!loaded && options.tokenizer.empty())
    return Error{loaded.error().code,
                 str_cat(loaded.error().message, " (named by the server; --tokenizer names another folder)")};
  if (!loaded) return loaded.error();
  owned = std::move(*loaded);
  return owned.get();
}

Result<void> append_line(const std::string& path, const std::string& line) {
  std::ofstream out(path, std::ios::app);
  out << line << '\n';
  out.flush();
  if (!out) return Error{Errc::kIo, str_cat("cannot append to ", path)};
  return {};
}

Result<void> bench(const BenchOptions& options, BenchBackend& backend) {
  if (!options.engine_only)
    std::printf("Waiting up to %gs for the server to become ready...\n", options.ready_check_timeout_s);
  std::fflush(stdout);
  CARAT_TRY_VOID(backend.wait_ready(options.ready_check_timeout_s));
  std::unique_ptr<Tokenizer> owned;
  CARAT_TRY(const Tokenizer* const tokenizer, find_tokenizer(backend, options, owned));
  NumpyRandom random(static_cast<uint32_t>(options.data.seed));
  const BenchDataOptions data = data_options(backend, options, *tokenizer);
  CARAT_TRY(const auto requests, load_bench_requests(data, *tokenizer, random));
  int64_t total_input = 0, total_output = 0;
  for (const auto& r : requests) {
    total_input += r.prompt_len;
    total_output += r.output_len;
  }
  std::printf("#Input tokens: %lld\n#Output tokens: %lld\n", static_cast<long long>(total_input),
              static_cast<long long>(total_output));
  if (requests.size() < static_cast<size_t>(options.data.num_prompts))
    std::printf("WARNING: the data set has only %zu prompts.\n", requests.size());
  CARAT_TRY_VOID(warm_up(backend, options, requests.at(0), random));

  const double begin = bench_now();
  std::vector<BenchOutput> outputs;
  {
    Progress progress(requests.size(), !options.disable_tqdm);
    outputs = run_load(backend, requests, options.max_concurrency, options.request_rate, random,
                       [&](int num_done) { progress.show(num_done); });
  }
  BenchRunInfo info{.backend = options.engine_only ? "engine" : options.backend,
                    .tag = options.tag,
                    .data = options.data,
                    .request_rate = options.rate_is_infinite() ? INFINITY : options.request_rate,
                    .max_concurrency = options.max_concurrency,
                    .server_info = backend.server_info()};
  const double duration = bench_now() - begin;
  auto metrics =
      compute_bench_metrics(requests, outputs, duration, accept_length_of(info.server_info),
                            [&](std::string_view text) { return static_cast<int>(tokenizer->encode(text).size()); });
  if (!options.goodput.empty()) metrics.goodput = compute_goodput(options.goodput, outputs, duration);
  std::fputs(format_bench_report(info, metrics).c_str(), stdout);
  std::fflush(stdout);
  CARAT_TRY_VOID(
      append_line(result_file(options), format_bench_json(info, metrics, options.output_details ? &outputs : nullptr)));
  for (const auto& o : outputs)
    if (!o.success)
      return Error{Errc::kUnavailable, str_cat(outputs.size() - static_cast<size_t>(metrics.completed), " of ",
                                               outputs.size(), " requests failed, the first with: ", o.error)};
  return {};
}

Result<std::unique_ptr<BenchBackend>> make_backend(const BenchOptions& options, const BenchEngineFactory& make_engine) {
  if (options.engine_only) {
    if (!make_engine) return Error{Errc::kUnsupported, "--engine-only: this program has no engine in it"};
    return make_engine(options);
  }
  CARAT_TRY(auto base, parse_http_url(options.base_url.empty() ? str_cat("http://", options.host, ":", options.port)
                                                               : options.base_url));
  CARAT_TRY(const auto protocol, protocol_of(options.backend));
  CARAT_TRY(auto extra_body, parse_extra_body(options.extra_request_body));
  return make_bench_http({.protocol = protocol,
                          .base = std::move(base),
                          .model = options.model,
                          .stream = !options.disable_stream,
                          .ignore_eos = !options.disable_ignore_eos,
                          .return_logprob = options.return_logprob,
                          .temperature = options.temperature,
                          .top_p = options.top_p,
                          .extra_body = std::move(extra_body),
                          .flush_cache_timeout_s = options.flush_cache_timeout_s,
                          .num_threads = options.client_threads});
}

int report_error(const Error& error, int status) {
  std::fprintf(stderr, "carat bench: %s\n", error.message.c_str());
  return status;
}

}  // namespace

int run_bench(std::span<const std::string> args, const BenchEngineFactory& make_engine) {
  const auto own = args.first(static_cast<size_t>(std::find(args.begin(), args.end(), "--") - args.begin()));
  if (std::find(own.begin(), own.end(), "--help") != own.end()) {
    std::fputs(bench_help().c_str(), stdout);
    return 0;
  }
  const auto options = parse_bench_options(args);
  if (!options) return report_error(options.error(), 2);
  raise_file_limit();
  auto backend = make_backend(*options, make_engine);
  if (!backend) return report_error(backend.error(), backend.error().code == Errc::kInvalidArgument ? 2 : 1);
  if (const auto result = bench(*options, **backend); !result) return report_error(result.error(), 1);
  return 0;
}

}  // namespace carat
