#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "base/str.h"
#include "client/bench_data.h"
#include "client/bench_http.h"
#include "client/bench_metrics.h"
#include "client/json_scan.h"
#include "client/load_generator.h"
#include "client/python_random.h"
#include "http/server.h"
#include "media/fetch.h"
#include "media/image.h"
#include "tokenizer/tokenizer.h"

namespace carat {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::Pointwise;

// ---- random numbers: values of CPython 3.11 and numpy 2 ----

TEST(NumpyRandom, DrawsTheLengthsOfTheBenchmark) {
  struct Case {
    uint32_t seed;
    int num;
    int64_t input, output;
    std::vector<int64_t> first_inputs, first_outputs;
  };
  for (const auto& c :
       std::vector<Case>{{1, 10, 6101, 4220, {38, 236, 909, 73, 768, 906}, {145, 130, 973, 584, 750, 509}},
                         {1, 1000, 512842, 510855, {38, 236, 909, 73, 768, 906}, {1017, 503, 133, 266, 125, 385}},
                         {42, 10, 3309, 3700, {103, 436, 861, 271, 107, 72}, {467, 215, 331, 459, 88, 373}},
                         {42, 1000, 516554, 508442, {103, 436, 861, 271, 107, 72}, {502, 959, 145, 201, 929, 1013}}}) {
    NumpyRandom random(c.seed);
    const auto inputs = random_lengths(random, 1024, 0.0, c.num), outputs = random_lengths(random, 1024, 0.0, c.num);
    EXPECT_EQ(std::accumulate(inputs.begin(), inputs.end(), int64_t{0}), c.input);
    EXPECT_EQ(std::accumulate(outputs.begin(), outputs.end(), int64_t{0}), c.output);
    EXPECT_THAT(std::vector(inputs.begin(), inputs.begin() + 6), ElementsAreArray(c.first_inputs));
    EXPECT_THAT(std::vector(outputs.begin(), outputs.begin() + 6), ElementsAreArray(c.first_outputs));
  }
}

TEST(NumpyRandom, GoesOnWithOtherDraws) {
  NumpyRandom random(42);
  (void)random.randint(1, 1025, 2000);
  EXPECT_DOUBLE_EQ(random.exponential(0.5), 0.10236514095673291);
  EXPECT_DOUBLE_EQ(random.exponential(0.5), 0.39033492307586826);
  EXPECT_THAT(random.randint(0, 262144, 4), ElementsAre(90327, 131410, 202503, 143326));
  EXPECT_EQ(random.randint(5, 6), 5);  // draws nothing
  EXPECT_THAT(random.randint(0, 1000, 5), ElementsAre(660, 80, 726, 484, 373));
}

TEST(NumpyRandom, LengthsFollowTheRatio) {
  NumpyRandom random(1);
  for (const auto n : random_lengths(random, 100, 0.5, 1000)) EXPECT_TRUE(n >= 50 && n <= 100) << n;
  EXPECT_THAT(random_lengths(random, 7, 1.0, 3), ElementsAre(7, 7, 7));
  EXPECT_THAT(random_lengths(random, 0, 1.0, 2), ElementsAre(0, 0));
  EXPECT_THAT(random_lengths(random, 1, 0.0, 2), ElementsAre(1, 1));
}

TEST(PythonRandom, ShufflesLikePython) {
  const auto shuffled = [](uint64_t seed) {
    PythonRandom random(seed);
    std::vector<int> ten(10), thousand(1000);
    std::iota(ten.begin(), ten.end(), 0);
    std::iota(thousand.begin(), thousand.end(), 0);
    random.shuffle(ten);
    random.shuffle(thousand);
    ten.insert(ten.end(), thousand.begin(), thousand.begin() + 6);
    return ten;
  };
  EXPECT_THAT(shuffled(1), ElementsAre(6, 8, 9, 7, 5, 3, 0, 4, 1, 2, 635, 197, 744, 459, 350, 813));
  EXPECT_THAT(shuffled(42), ElementsAre(7, 3, 2, 8, 5, 6, 9, 4, 0, 1, 666, 572, 731, 334, 732, 501));
  EXPECT_THAT(shuffled(0), ElementsAre(7, 8, 1, 5, 3, 4, 2, 0, 9, 6, 391, 933, 207, 558, 54, 410));
  EXPECT_THAT(shuffled((uint64_t{1} << 40) + 5),
              ElementsAre(1, 2, 3, 6, 7, 0, 5, 4, 9, 8, 910, 192, 134, 655, 578, 129));
}

TEST(PythonRandom, ChoosesLikePython) {
  EXPECT_THAT(PythonRandom(1).choices(1000, 6), ElementsAre(134, 847, 763, 255, 495, 449));
}

// ---- JSON ----

TEST(JsonScan, FindsValuesAsWritten) {
  const std::string_view text =
      R"( { "a" : "x\"}]," , "n":-1.5e3 ,"o":{"k":[1,{"z":"]"}],"s":"\\"},"l":[ {"t":1} , 2 ],"e":[],"u":null } )";
  EXPECT_EQ(find_json(text, "a"), R"("x\"}],")");
  EXPECT_EQ(find_json(text, "n"), "-1.5e3");
  EXPECT_EQ(find_json(text, "o"), R"({"k":[1,{"z":"]"}],"s":"\\"})");
  EXPECT_EQ(find_json(find_json(text, "o"), "s"), R"("\\")");
  EXPECT_EQ(first_of_json(find_json(text, "l")), R"({"t":1})");
  EXPECT_EQ(first_of_json(find_json(text, "e")), "");
  EXPECT_EQ(find_json(text, "u"), "null");
  EXPECT_EQ(find_json(text, "k"), "");  // only of the outermost object
  EXPECT_EQ(json_string_inside(find_json(text, "a")), R"(x\"}],)");
  EXPECT_EQ(json_string_inside("null"), "");
}

TEST(JsonScan, SurvivesWhatIsNoJson) {
  const std::string text = R"({"a":{"b":["\\\"",1,{}]},"c":"d"})";
  for (size_t cut = 0; cut <= text.size(); ++cut)
    for (const char c : {'"', '\\', '{', '}', '[', ']', ',', ':', ' '}) {
      const auto broken = text.substr(0, cut) + c + text.substr(cut);
      (void)find_json(find_json(broken, "a"), "b");
      (void)first_of_json(broken.substr(cut));
      (void)find_json(text.substr(0, cut), "c");
    }
}

// ---- measurements, on a timeline made by hand ----

struct Timeline {
  std::vector<BenchRequest> requests{
      {.prompt_len = 10, .output_len = 9}, {.prompt_len = 20, .output_len = 2}, {.prompt_len = 30, .output_len = 9}};
  std::vector<BenchOutput> outputs{3};

  Timeline() {
    auto& a = outputs[0];  // a server that counts tokens
    a.begin(100, requests[0]);
    a.on_tokens(100.5, 1);
    a.on_tokens(101, 3);    // two at once share the gap
    a.on_tokens(101.2, 3);  // none: the gap goes on
    a.on_tokens(101.6, 4);
    a.on_event(101.7);  // [DONE]
    a.success = true;
    a.generated_text = "four";
    auto& b = outputs[1];  // one that sends deltas
    b.begin(100.5, requests[1]);
    b.on_event(100.6);  // a role without text
    b.on_text(101.5, "x");
    b.on_text(101.75, "yz");
    b.on_event(102);
    b.success = true;
    b.generated_text = "xyz";
    outputs[2].begin(100, requests[2]);
    outputs[2].on_tokens(100.1, 5);
    outputs[2].fail("gone");
  }
  BenchMetrics metrics(double accept_length = 0) const {
    return compute_bench_metrics(requests, outputs, 2.5, accept_length,
                                 [](std::string_view text) { return static_cast<int>(text.size()); });
  }
};

constexpr double kTiny = 1e-9;

TEST(BenchMetrics, OfOneRequest) {
  const Timeline t;
  EXPECT_THAT(t.outputs[0].itl_s, Pointwise(DoubleNear(kTiny), {0.25, 0.25, 0.6}));
  EXPECT_NEAR(t.outputs[0].ttft_s, 0.5, kTiny);
  EXPECT_NEAR(t.outputs[0].latency_s, 1.7, kTiny);
  EXPECT_EQ(t.outputs[0].output_len, 4);
  EXPECT_THAT(t.outputs[1].itl_s, Pointwise(DoubleNear(kTiny), {0.25}));
  EXPECT_THAT(t.outputs[1].text_chunks, ElementsAre("yz"));
  EXPECT_EQ(t.outputs[1].output_len, 2);  // what was asked for
}

TEST(BenchMetrics, OfARun) {
  const auto m = Timeline().metrics();
  EXPECT_EQ(m.completed, 2);
  EXPECT_EQ(m.total_input, 30);
  EXPECT_EQ(m.total_output, 6);
  EXPECT_EQ(m.total_output_retokenized, 7);
  EXPECT_NEAR(m.request_throughput, 0.8, kTiny);
  EXPECT_NEAR(m.input_throughput, 12, kTiny);
  EXPECT_NEAR(m.output_throughput, 2.4, kTiny);
  EXPECT_NEAR(m.total_throughput, 14.4, kTiny);
  EXPECT_NEAR(m.concurrency, 1.28, kTiny);
  EXPECT_EQ(m.max_output_tokens_per_s, 4);
  EXPECT_EQ(m.max_concurrent_requests, 2);
  EXPECT_NEAR(m.e2e_ms.mean, 1600, 1e-6);
  EXPECT_NEAR(m.e2e_ms.p90, 1680, 1e-6);
  EXPECT_NEAR(m.ttft_ms.median, 750, 1e-6);
  EXPECT_NEAR(m.ttft_ms.p99, 995, 1e-6);
  EXPECT_NEAR(m.tpot_ms.mean, 450, 1e-6);
  EXPECT_NEAR(m.tpot_ms.std, 50, 1e-6);
  EXPECT_NEAR(m.itl_ms.mean, 337.5, 1e-6);
  EXPECT_NEAR(m.itl_ms.median, 250, 1e-6);
  EXPECT_NEAR(m.itl_ms.std, 151.554446, 1e-6);
  EXPECT_NEAR(m.itl_ms.p95, 547.5, 1e-6);
  EXPECT_NEAR(m.itl_ms.max, 600, 1e-6);
}

TEST(BenchMetrics, AnAcceptLengthDividesTheGapsOfDeltas) {
  const auto m = Timeline().metrics(2.0);
  // .25 .25 .6 and the chunk "yz" of two tokens: .125 twice.
  EXPECT_NEAR(m.itl_ms.mean, 1000 * (0.25 + 0.25 + 0.6 + 0.125 + 0.125) / 5, 1e-6);
  EXPECT_EQ(m.accept_length, 2.0);
}

TEST(BenchMetrics, NothingSucceeded) {
  const auto m = compute_bench_metrics({{}}, {BenchOutput{}}, 1.0, 0, [](std::string_view) { return 0; });
  EXPECT_EQ(m.completed, 0);
  EXPECT_EQ(m.e2e_ms.p99, 0);
  EXPECT_EQ(m.max_output_tokens_per_s, 0);
}

TEST(BenchMetrics, GoodRequestsKeepAllLimits) {
  const auto output = [](bool success, double ttft_s, double latency_s, int tokens) {
    BenchOutput o;
    o.success = success;
    o.ttft_s = ttft_s;
    o.latency_s = latency_s;
    o.output_len = tokens;
    return o;
  };
  const std::vector<BenchOutput> outputs = {output(true, 0.5, 1.5, 11), output(true, 0.6, 1.6, 11),
                                            output(true, 0.5, 2.5, 11), output(false, 0.1, 0.1, 1)};
  const auto goodput = compute_goodput({{"ttft", 500}, {"tpot", 100}}, outputs, 2.0);
  EXPECT_DOUBLE_EQ(goodput.request_goodput, 0.5);
  EXPECT_DOUBLE_EQ(goodput.attainment, 0.25);
  EXPECT_THAT(goodput.attainment_by_goal, ElementsAre(0.5, 0.5));
  EXPECT_DOUBLE_EQ(compute_goodput({{"e2el", 1600}}, outputs, 1.0).attainment, 0.5);
  BenchMetrics metrics;
  metrics.goodput = goodput;
  EXPECT_THAT(format_bench_report({}, metrics), HasSubstr(R"(---------------------Goodput----------------------
SLOs (ms):                               ttft:500 tpot:100
Request goodput (req/s):                 0.50      
SLO attainment (%):                      25.00     
TTFT SLO attainment (%):                 50.00     
TPOT SLO attainment (%):                 50.00     
----------------End-to-End Latency)"));
  EXPECT_THAT(
      format_bench_json({}, metrics, nullptr),
      HasSubstr(R"("goodput_slos_ms":{"ttft":500.0,"tpot":100.0},"request_goodput":0.5,"slo_attainment":0.25)"));
}

TEST(BenchMetrics, StatisticsAreThoseOfNumpy) {
  const auto s = bench_stats({3, 1, 2, 10, 4.5});
  EXPECT_NEAR(s.mean, 4.1, kTiny);
  EXPECT_NEAR(s.median, 3, kTiny);
  EXPECT_NEAR(s.std, 3.168595903550972, kTiny);
  EXPECT_NEAR(s.p90, 7.8, kTiny);
  EXPECT_NEAR(s.p95, 8.9, kTiny);
  EXPECT_NEAR(s.p99, 9.78, kTiny);
}

TEST(BenchReport, IsThatOfSglang) {
  const BenchRunInfo info{.backend = "sglang", .request_rate = INFINITY, .max_concurrency = 100};
  EXPECT_EQ(format_bench_report(info, Timeline().metrics(3.456)), R"(
============ Serving Benchmark Result ============
Backend:                                 sglang    
Traffic request rate:                    inf       
Max request concurrency:                 100       
Successful requests:                     2         
Benchmark duration (s):                  2.50      
Total input tokens:                      30        
Total input text tokens:                 30        
Total generated tokens:                  6         
Total generated tokens (retokenized):    7         
Request throughput (req/s):              0.80      
Input token throughput (tok/s):          12.00     
Output token throughput (tok/s):         2.40      
Peak output token throughput (tok/s):    4.00      
Peak concurrent requests:                2         
Total token throughput (tok/s):          14.40     
Concurrency:                             1.28      
Accept length:                           3.46      
----------------End-to-End Latency----------------
Mean E2E Latency (ms):                   1600.00   
Median E2E Latency (ms):                 1600.00   
P90 E2E Latency (ms):                    1680.00   
P95 E2E Latency (ms):                    1690.00   
P99 E2E Latency (ms):                    1698.00   
---------------Time to First Token----------------
Mean TTFT (ms):                          750.00    
Median TTFT (ms):                        750.00    
P90 TTFT (ms):                           950.00    
P95 TTFT (ms):                           975.00    
P99 TTFT (ms):                           995.00    
-----Time per Output Token (excl. 1st token)------
Mean TPOT (ms):                          450.00    
Median TPOT (ms):                        450.00    
P90 TPOT (ms):                           490.00    
P95 TPOT (ms):                           495.00    
P99 TPOT (ms):                           499.00    
---------------Inter-Token Latency----------------
Mean ITL (ms):                           270.00    
Median ITL (ms):                         250.00    
P90 ITL (ms):                            460.00    
P95 ITL (ms):                            530.00    
P99 ITL (ms):                            586.00    
Max ITL (ms):                            600.00    
==================================================
)");
  const BenchRunInfo paced{.backend = "sglang-oai", .request_rate = 10};
  const auto text = format_bench_report(paced, Timeline().metrics());
  EXPECT_THAT(text, HasSubstr("Traffic request rate:                    10.0      \n"));
  EXPECT_THAT(text, HasSubstr("Max request concurrency:                 not set   \n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("Accept length")));
}

TEST(BenchReport, JsonLineHasSglangsFieldsInItsOrder) {
  const Timeline t;
  const BenchRunInfo info{.backend = "sglang", .request_rate = INFINITY, .server_info = Json::object({{"a", 1}})};
  auto line = format_bench_json(info, t.metrics(), &t.outputs);
  const auto at = line.find("\"request_rate\":Infinity");
  ASSERT_NE(at, std::string::npos);
  line.replace(at, 23, "\"request_rate\":null");
  const auto json = parse_json(line);
  ASSERT_TRUE(json) << json.error().message;
  std::vector<std::string> keys;
  for (const auto& [key, value] : json->as_object()) keys.push_back(key);
  std::vector<std::string> expected{"tag",
                                    "backend",
                                    "dataset_name",
                                    "request_rate",
                                    "max_concurrency",
                                    "sharegpt_output_len",
                                    "random_input_len",
                                    "random_output_len",
                                    "random_range_ratio",
                                    "server_info",
                                    "duration",
                                    "completed",
                                    "total_input_tokens",
                                    "total_input_text_tokens",
                                    "total_input_vision_tokens",
                                    "total_output_tokens",
                                    "total_output_tokens_retokenized",
                                    "request_throughput",
                                    "input_throughput",
                                    "output_throughput",
                                    "total_throughput"};
  for (const auto* name : {"e2e_latency", "ttft", "tpot", "itl"})
    for (const auto* which : {"mean", "median", "std", "p90", "p95", "p99"})
      expected.push_back(str_cat(which, "_", name, "_ms"));
  for (const auto* key : {"concurrency", "accept_length", "max_output_tokens_per_s", "max_concurrent_requests",
                          "input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors"})
    expected.push_back(key);
  EXPECT_EQ(keys, expected);
  EXPECT_EQ(json->find("output_lens")->dump(), "[4,2,0]");
  EXPECT_EQ(json->find("errors")->dump(), R"(["","","gone"])");
}

// ---- bodies and events ----

TEST(BenchHttp, SendsTheBodiesOfSglangsClient) {
  const BenchRequest request{.prompt = "Hi", .prompt_len = 1, .output_len = 7};
  BenchHttpOptions o;
  o.model = "m";
  EXPECT_EQ(bench_request_body(o, request).dump(),
            R"({"text":"Hi","sampling_params":{"temperature":0.0,"max_new_tokens":7,"ignore_eos":true},"stream":true,)"
            R"("lora_path":null,"return_logprob":false,"return_routed_experts":false,"logprob_start_len":-1})");
  o.top_p = 0.5;
  o.stream = o.ignore_eos = false;
  o.extra_body = *parse_json(R"({"stream":true,"x":[1]})");
  EXPECT_EQ(
      bench_request_body(o, {.prompt_ids = {3, 4}, .output_len = 1}).dump(),
      R"({"input_ids":[3,4],"sampling_params":{"temperature":0.0,"max_new_tokens":1,"ignore_eos":false,"top_p":0.5},)"
      R"("stream":true,"lora_path":null,"return_logprob":false,"return_routed_experts":false,"logprob_start_len":-1,)"
      R"("x":[1]})");
  o = {.protocol = BenchProtocol::kCompletions, .model = "m"};
  EXPECT_EQ(
      bench_request_body(o, request).dump(),
      R"({"model":"m","prompt":"Hi","best_of":1,"max_tokens":7,"stream":true,"temperature":0.0,"ignore_eos":true})");
  o.protocol = BenchProtocol::kChat;
  o.extra_body = *parse_json(R"({"temperature":1.0})");
  EXPECT_EQ(bench_request_body(o, request).dump(),
            R"({"model":"m","messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":7,"stream":true,)"
            R"("temperature":1.0,"ignore_eos":true})");
}

BenchOutput read_events(BenchProtocol protocol, const std::vector<std::string>& events) {
  BenchOutput output;
  output.begin(10, {.prompt_len = 5, .output_len = 100});
  BenchEventReader reader(protocol, output);
  double now = 10;
  for (const auto& e : events) reader.on_event(now += 1, e);
  reader.finish();
  return output;
}

TEST(BenchHttp, ReadsNativeEvents) {
  const auto o =
      read_events(BenchProtocol::kGenerate,
                  {R"({"text":"","meta_info":{"completion_tokens":1}})",
                   R"({"text":"a\n","output_ids":[1],"meta_info":{"id":"x","prompt_tokens":9,"completion_tokens":2}})",
                   R"({"meta_info":{"completion_tokens":4},"text":"a\nb\u00e4\ud83d\ude00"})", "[DONE]"});
  EXPECT_TRUE(o.success);
  EXPECT_EQ(o.generated_text, "a\nbä😀");
  EXPECT_EQ(o.output_len, 4);
  EXPECT_EQ(o.prompt_len, 9);
  EXPECT_EQ(o.ttft_s, 2);
  EXPECT_THAT(o.itl_s, ElementsAre(0.5, 0.5));
  EXPECT_EQ(o.latency_s, 4);
}

TEST(BenchHttp, ReadsCompletionEvents) {
  const auto o = read_events(
      BenchProtocol::kCompletions,
      {R"({"id":"1","choices":[{"index":0,"text":"a"}]})", R"({"choices":[{"text":""}],"usage":null})",
       R"({"choices":[{"text":"\"b\"","finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":6}})",
       "[DONE]"});
  EXPECT_TRUE(o.success);
  EXPECT_EQ(o.generated_text, "a\"b\"");
  EXPECT_THAT(o.text_chunks, ElementsAre("\"b\""));
  EXPECT_EQ(o.output_len, 6);
  EXPECT_EQ(o.ttft_s, 1);
  EXPECT_THAT(o.itl_s, ElementsAre(2));
  EXPECT_EQ(o.latency_s, 4);
}

TEST(BenchHttp, ReadsChatEvents) {
  const auto o = read_events(BenchProtocol::kChat,
                             {R"({"choices":[{"delta":{"reasoning_content":null,"role":"assistant","content":""}}]})",
                              R"({"choices":[{"delta":{"reasoning_content":"th"}}]})",
                              R"({"choices":[{"delta":{"reasoning":"ink","content":null}}]})",
                              R"({"choices":[{"delta":{"reasoning_content":null,"content":"ok"}}]})",
                              R"({"choices":[],"usage":{"completion_tokens":3}})", "[DONE]"});
  EXPECT_TRUE(o.success);
  EXPECT_EQ(o.generated_text, "thinkok");
  EXPECT_EQ(o.output_len, 3);
  EXPECT_EQ(o.ttft_s, 2);
  EXPECT_THAT(o.itl_s, ElementsAre(1, 1));
}

TEST(BenchHttp, AnErrorInTheStreamIsAFailure) {
  const auto o =
      read_events(BenchProtocol::kGenerate, {R"({"text":"a","meta_info":{"completion_tokens":1}})",
                                             R"({"error":{"message":"out of \"pages\"","code":503}})", "[DONE]"});
  EXPECT_FALSE(o.success);
  EXPECT_EQ(o.error, "out of \"pages\"");
}

// ---- the load ----

// Answers after a moment on a thread of its own; records what was open at a time.
class ScriptedBackend final : public BenchBackend {
 public:
  ~ScriptedBackend() override {
    for (auto& t : threads_) t.join();
  }
  void submit(const BenchRequest& request, BenchOutput& output, std::function<void()> done) override {
    const std::lock_guard lock(mutex_);
    order.push_back(request.prompt_len);
    max_open = std::max(max_open, ++open_);
    output.begin(bench_now(), request);
    threads_.emplace_back([this, &output, done = std::move(done)] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      output.on_tokens(bench_now(), 1);
      output.success = true;
      {
        const std::lock_guard l(mutex_);
        --open_;
      }
      done();
    });
  }
  Result<void> wait_ready(double) override { return {}; }
  std::string tokenizer_path() override { return ""; }
  Result<void> flush_cache() override { return {}; }
  Json server_info() override { return {}; }

  std::vector<int> order;
  int max_open = 0;

 private:
  std::mutex mutex_;
  int open_ = 0;
  std::vector<std::thread> threads_;
};

TEST(RunLoad, KeepsOrderAndConcurrency) {
  std::vector<BenchRequest> requests;
  for (int i = 0; i < 40; ++i) requests.push_back({.prompt_len = i, .output_len = 1});
  for (const std::optional<int> limit : {std::optional(1), std::optional(3), std::optional<int>()}) {
    ScriptedBackend backend;
    NumpyRandom random(1);
    std::atomic<int> last{0};
    const auto outputs = run_load(backend, requests, limit, 0, random, [&](int n) { last = n; });
    ASSERT_EQ(outputs.size(), 40U);
    for (const auto& o : outputs) EXPECT_TRUE(o.success);
    EXPECT_EQ(last, 40);
    if (limit) {
      EXPECT_LE(backend.max_open, *limit);
    }
    EXPECT_EQ(backend.max_open, limit.value_or(backend.max_open));
    if (limit == 1) {
      EXPECT_TRUE(std::is_sorted(backend.order.begin(), backend.order.end()));
    }
  }
}

TEST(RunLoad, ARateSpreadsTheStarts) {
  std::vector<BenchRequest> requests(20);
  ScriptedBackend backend;
  NumpyRandom random(1);
  const auto outputs = run_load(backend, requests, {}, 500, random);
  NumpyRandom same(1);
  double expected = 0;
  for (size_t i = 0; i + 1 < outputs.size(); ++i) expected += same.exponential(1.0 / 500);
  EXPECT_GE(outputs.back().start_s - outputs.front().start_s, expected * 0.99);
}

TEST(BenchOptions, ParsesAndRefuses) {
  const auto parse = [](const std::vector<std::string>& args) { return parse_bench_options(args); };
  const auto o = parse({"--backend", "sglang-oai", "--num-prompts=7", "--random-input", "5", "--max-con", "3",
                        "--request-rate", "inf", "--seed", "1", "--disable-stream"});
  ASSERT_TRUE(o) << o.error().message;
  EXPECT_EQ(o->backend, "sglang-oai");
  EXPECT_EQ(o->data.num_prompts, 7);
  EXPECT_EQ(o->data.random_input_len, 5);
  EXPECT_EQ(o->max_concurrency, 3);
  EXPECT_TRUE(o->rate_is_infinite());
  EXPECT_EQ(o->data.seed, 1);
  EXPECT_TRUE(o->disable_stream);
  EXPECT_EQ(parse({})->data.seed, 42);
  const auto goals = parse({"--goodput", "ttft:500", "tpot:50.5", "--dataset-name", "sharegpt"});
  ASSERT_TRUE(goals) << goals.error().message;
  EXPECT_EQ(goals->goodput, (BenchGoals{{"ttft", 500}, {"tpot", 50.5}}));
  EXPECT_EQ(parse({"--engine-only", "--", "--model-path", "x"})->engine_args,
            (std::vector<std::string>{"--model-path", "x"}));
  for (const auto& [args, message] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"--nonsense"}, "unknown option '--nonsense'"},
           {{"--random"}, "could be --random-input-len, --random-output-len, --random-range-ratio"},
           {{"--port"}, "--port needs a value"},
           {{"--port", "0"}, "--port must be an integer in [1, 65535], got '0'"},
           {{"--num-prompts", "x"}, "got 'x'"},
           {{"--backend", "vllm"}, "got 'vllm'"},
           {{"--dataset-name", "pictures"}, "got 'pictures'"},
           {{"--dataset-name", "image", "--backend", "sglang-oai"}, "works with --backend sglang"},
           {{"--dataset-name", "image", "--tokenize-prompt"}, "without --tokenize-prompt"},
           {{"--dataset-name", "image", "--image-resolution", "8k"}, "got '8k'"},
           {{"--dataset-name", "image", "--image-resolution", "0x5"}, "got '0x5'"},
           {{"--dataset-name", "image", "--image-resolution", "random:9x9-8x10"}, "is larger"},
           {{"--dataset-name", "image", "--image-format", "gif"}, "got 'gif'"},
           {{"--image-content", "cats"}, "got 'cats'"},
           {{"--goodput", "itl:5"}, "got 'itl:5'"},
           {{"--goodput", "ttft:500", "tpot:-1"}, "got 'tpot:-1'"},
           {{"--dataset-name", "sharegpt", "--tokenize-prompt"}, "does not work with"},
           {{"--disable-stream=1"}, "takes no value"},
           {{"--extra-request-body", "[1]"}, "must be a JSON object"},
           {{"--extra-request-body", "{"}, "--extra-request-body"},
           {{"--tokenize-prompt", "--backend", "sglang-oai"}, "--tokenize-prompt works with"},
           {{"--", "--model-path"}, "need --engine-only"},
           {{"stray"}, "unexpected argument 'stray'"}}) {
    const auto bad = parse(args);
    ASSERT_FALSE(bad) << message;
    EXPECT_THAT(bad.error().message, HasSubstr(message));
  }
  EXPECT_THAT(bench_help(), HasSubstr("--random-range-ratio"));
}

// ---- a whole run over HTTP ----

// A server that speaks the three protocols: every answer has as many tokens "x " as were asked for.
class BenchServer {
 public:
  BenchServer() {
    auto server = HttpServer::start(
        {.port = 0}, [](HttpRequest request, std::shared_ptr<HttpReply> reply) { answer(request, *reply); });
    server_ = std::move(server).value();
  }
  HttpUrl url() const { return {.host = "127.0.0.1", .port = server_->port(), .path = ""}; }

 private:
  static void answer(const HttpRequest& request, HttpReply& reply) {
    if (request.path == "/v1/models") return reply.send({.body = R"({"data":[{"id":"tiny"}]})"});
    if (request.path == "/model_info") return reply.send({.body = R"({"model_path":"/m","tokenizer_path":""})"});
    if (request.path == "/server_info")
      return reply.send({.body = R"({"internal_states":[{"avg_spec_accept_length":1.5}]})"});
    if (request.path == "/flush_cache") return reply.send({.status = 200, .body = "ok"});
    const auto body = parse_json(request.body).value();
    const bool native = request.path == "/generate", chat = request.path == "/v1/chat/completions";
    const auto tokens = native ? body.find("sampling_params")->find("max_new_tokens")->as_int()
                               : body.find(chat ? "max_completion_tokens" : "max_tokens")->as_int();
    if (tokens == 13) return reply.send({.status = 400, .body = "unlucky"});
    const auto event = [&](int64_t n, std::string_view text) {
      if (native) return str_cat(R"({"text":")", text, R"(","meta_info":{"completion_tokens":)", n, "}}");
      if (chat) return str_cat(R"({"choices":[{"delta":{"content":")", n == 1 ? text : "x ", R"("}}]})");
      return str_cat(R"({"choices":[{"text":")", n == 1 ? text : "x ", R"("}]})");
    };
    std::string text;
    if (!body.find("stream")->as_bool()) {
      for (int64_t n = 1; n <= tokens; ++n) text += "x ";
      if (chat)
        return reply.send({.body = str_cat(R"({"choices":[{"message":{"content":")", text,
                                           R"("}}],"usage":{"completion_tokens":)", tokens, "}}")});
      return reply.send({.body = native ? event(tokens, text) : event(1, text)});
    }
    reply.begin_stream({.content_type = "text/event-stream"});
    for (int64_t n = 1; n <= tokens; ++n) {
      text += "x ";
      reply.write(str_cat("data: ", event(n, text), "\n\n"));
    }
    reply.write("data: [DONE]\n\n");
    reply.end();
  }
  std::unique_ptr<HttpServer> server_;
};

TEST(BenchHttp, RunsAgainstAServer) {
  const BenchServer server;
  std::vector<BenchRequest> requests;
  for (int i = 0; i < 30; ++i) requests.push_back({.prompt = "p", .prompt_len = 1, .output_len = i});
  for (const auto protocol : {BenchProtocol::kGenerate, BenchProtocol::kCompletions, BenchProtocol::kChat})
    for (const bool stream : {true, false}) {
      const auto backend =
          make_bench_http({.protocol = protocol, .base = server.url(), .stream = stream, .num_threads = 2});
      ASSERT_TRUE(backend->wait_ready(5));
      EXPECT_EQ(backend->tokenizer_path(), "/m");
      EXPECT_TRUE(backend->flush_cache());
      EXPECT_TRUE(backend->server_info().contains("internal_states"));
      NumpyRandom random(1);
      const auto outputs = run_load(*backend, requests, 8, 0, random);
      for (size_t i = 0; i < outputs.size(); ++i) {
        const auto& o = outputs[i];
        if (i == 13) {
          EXPECT_FALSE(o.success);
          EXPECT_EQ(o.error, "Bad Request: unlucky");
          continue;
        }
        EXPECT_TRUE(o.success) << o.error;
        EXPECT_EQ(o.output_len, static_cast<int>(i));
        EXPECT_EQ(o.generated_text.size(), 2 * i);
        if (stream) {
          EXPECT_EQ(o.itl_s.size(), i == 0 ? 0 : i - 1);
        }
        EXPECT_GE(o.latency_s, o.ttft_s);
      }
    }
}

TEST(BenchHttp, SaysThatNobodyAnswers) {
  HttpUrl url;
  {
    const BenchServer server;
    url = server.url();
  }
  const auto backend = make_bench_http({.base = url});
  const auto ready = backend->wait_ready(0);
  ASSERT_FALSE(ready);
  EXPECT_THAT(ready.error().message, HasSubstr("cannot connect to"));
  EXPECT_EQ(backend->tokenizer_path(), "");
  EXPECT_TRUE(backend->server_info().is_null());
}

// ---- data, with a tokenizer whose pieces are single bytes ----

std::string byte_tokenizer() {
  std::string vocab = "\"<unk>\":0,\"\u2581\":1";
  for (int i = 0; i < 256; ++i) {
    char piece[16];
    std::snprintf(piece, sizeof piece, "<0x%02X>", i);
    vocab += str_cat(",\"", piece, "\":", i + 2);
  }
  return str_cat(
      R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],)",
      "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"},",
      R"("pre_tokenizer":{"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false},)",
      R"("post_processor":null,"decoder":{"type":"Sequence","decoders":[)",
      "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\u2581\"},\"content\":\" \"},",
      R"({"type":"ByteFallback"},{"type":"Fuse"}]},"model":{"type":"BPE","dropout":null,"unk_token":"<unk>",)",
      R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":true,)",
      R"("ignore_merges":false,"vocab":{)", vocab, R"(},"merges":[]}})");
}

class BenchData : public testing::Test {
 protected:
  void SetUp() override {
    auto tokenizer = Tokenizer::parse(byte_tokenizer(), "");
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizer_ = std::move(*tokenizer);
  }
  void TearDown() override { std::filesystem::remove(file_); }

  void write_file(std::string_view text) { std::ofstream(file_) << text; }

  const std::string file_ = testing::TempDir() + "/carat_bench_data.json";
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(BenchData, RandomTakesShuffledFirstTurns) {
  std::string text = "[";
  for (int i = 0; i < 12; ++i)
    text += str_cat(R"({"id":")", i, R"(","conversations":[{"from":"human","value":"w)", i,
                    R"(\n\"\u00e4"},{"value":"b"}]},)", "\n");
  text += R"({"conversations":[{"value":"alone"}]}, {"id":"none"}, {"conversation":[{"value":""},{"value":""}]}])";
  write_file(text);
  BenchDataOptions options{
      .dataset_path = file_, .num_prompts = 5, .random_input_len = 20, .tokenize_prompt = true, .seed = 1};
  NumpyRandom random(1);
  const auto requests = load_bench_requests(options, *tokenizer_, random);
  ASSERT_TRUE(requests) << requests.error().message;
  ASSERT_EQ(requests->size(), 5U);
  // The order in which Python visits the thirteen conversations of two turns.
  std::vector<int> order(13);
  std::iota(order.begin(), order.end(), 0);
  PythonRandom(1).shuffle(order);
  std::erase(order, 12);  // the empty one
  for (size_t i = 0; i < requests->size(); ++i) {
    const auto& r = (*requests)[i];
    const auto ids = tokenizer_->encode(str_cat("w", order[i], "\n\"ä"), true);
    ASSERT_EQ(r.prompt_ids.size(), static_cast<size_t>(r.prompt_len));
    for (size_t j = 0; j < r.prompt_ids.size(); ++j) ASSERT_EQ(r.prompt_ids[j], ids[j % ids.size()]);
  }
  options.tokenize_prompt = false;
  NumpyRandom again(1);
  const auto texts = load_bench_requests(options, *tokenizer_, again);
  ASSERT_TRUE(texts);
  EXPECT_EQ((*texts)[2].prompt, tokenizer_->decode((*requests)[2].prompt_ids, false));
  options.num_prompts = 50;  // more than there are
  EXPECT_EQ(load_bench_requests(options, *tokenizer_, again)->size(), 12U);
}

TEST_F(BenchData, ShareGptAsksForTheSecondTurnsLength) {
  write_file(R"([{"conversations":[{"value":"first question"},{"value":"answer"}]},
                 {"conversations":[{"value":"q"},{"value":"too short a question"}]},
                 {"conversations":[{"value":"too short an answer"},{"value":"a"}]},
                 {"conversations":[{"value":"a question with quite some words"},{"value":"and its answer"}]}])");
  BenchDataOptions options{.dataset_name = "sharegpt", .dataset_path = file_, .num_prompts = 10, .seed = 3};
  NumpyRandom random(3);
  const auto prompts = [&] {
    auto requests = load_bench_requests(options, *tokenizer_, random).value();
    std::sort(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.prompt < b.prompt; });
    return requests;
  };
  const auto both = prompts();
  ASSERT_EQ(both.size(), 2U) << "one-token turns are left out";
  EXPECT_EQ(both[1].prompt, "first question");
  EXPECT_EQ(both[1].prompt_len, static_cast<int>(tokenizer_->encode("first question", true).size()));
  EXPECT_EQ(both[1].output_len, static_cast<int>(tokenizer_->encode("answer", true).size()));
  options.sharegpt_output_len = 7;
  EXPECT_EQ(prompts().back().output_len, 7);
  options.sharegpt_context_len = both[1].prompt_len + 7;
  EXPECT_THAT(prompts(), testing::Contains(testing::Field(&BenchRequest::prompt, "first question")));
  EXPECT_EQ(prompts().size(), 1U) << "the others are longer";
  options.sharegpt_context_len = 5;
  EXPECT_THAT(load_bench_requests(options, *tokenizer_, random).error().message, HasSubstr("no conversation fits"));
}

TEST_F(BenchData, RandomIdsCountUp) {
  const BenchDataOptions options{
      .dataset_name = "random-ids", .num_prompts = 3, .random_input_len = 10, .tokenize_prompt = true};
  NumpyRandom random(42), same(42);
  const auto requests = load_bench_requests(options, *tokenizer_, random).value();
  (void)same.randint(1, 11, 3);
  (void)same.randint(1, 1025, 3);
  const auto offsets = same.randint(0, tokenizer_->vocab_size(), 3);
  for (size_t i = 0; i < 3; ++i)
    for (size_t j = 0; j < requests[i].prompt_ids.size(); ++j)
      EXPECT_EQ(requests[i].prompt_ids[j], (offsets[i] + static_cast<int64_t>(i + j)) % tokenizer_->vocab_size());
}

TEST_F(BenchData, SaysWhatIsWrongWithTheFile) {
  NumpyRandom random(1);
  BenchDataOptions options;
  EXPECT_THAT(load_bench_requests(options, *tokenizer_, random).error().message, HasSubstr("--dataset-path"));
  options.dataset_path = file_;
  EXPECT_EQ(load_bench_requests(options, *tokenizer_, random).error().code, Errc::kNotFound);
  for (const auto* text : {"", "{}", "[]", "nonsense", R"([{"conversations":[{"value":1},{}]}])",
                           R"([{"conversations":[{"value":"\x"},{}]}])"}) {
    write_file(text);
    const auto requests = load_bench_requests(options, *tokenizer_, random);
    ASSERT_FALSE(requests) << text;
    EXPECT_EQ(requests.error().code, Errc::kCorruptFile);
    EXPECT_THAT(requests.error().message, HasSubstr(file_));
  }
}

// ---- pictures ----

int64_t sum_of(const std::vector<BenchRequest>& requests, int BenchRequest::*member) {
  int64_t sum = 0;
  for (const BenchRequest& r : requests) sum += r.*member;
  return sum;
}

TEST_F(BenchData, ImagesHaveTheTotalsOfThePage) {
  for (const auto& [seed, raw_text, output] : {std::tuple(1, 597, 4220), std::tuple(42, 749, 3700)}) {
    BenchDataOptions options{.dataset_name = "image",
                             .num_prompts = 10,
                             .random_input_len = 128,
                             .image = {.count = 2, .resolution = "720p", .content = ImageContent::kBlank},
                             .seed = seed};
    NumpyRandom random(static_cast<uint32_t>(seed));
    const auto requests = load_bench_requests(options, *tokenizer_, random);
    ASSERT_TRUE(requests) << requests.error().message;
    EXPECT_EQ(sum_of(*requests, &BenchRequest::vision_len), 5320);
    EXPECT_EQ(sum_of(*requests, &BenchRequest::output_len), output);
    NumpyRandom again(static_cast<uint32_t>(seed));
    const auto lengths = random_lengths(again, 128, 0.0, 10);
    EXPECT_EQ(std::accumulate(lengths.begin(), lengths.end(), int64_t{0}), raw_text);
    for (const BenchRequest& r : *requests) {
      EXPECT_EQ(r.images.size(), 2U);
      EXPECT_THAT(r.images[0], testing::StartsWith("data:image/jpeg;base64,/9j/"));
      const auto text = tokenizer_->encode(str_cat("<bos><|turn>user\n", r.prompt, "<turn|>\n<|turn>model\n"), false);
      EXPECT_NEAR(r.prompt_len - r.vision_len, static_cast<int>(text.size()), 2);  // the template trims
    }
  }
}

TEST_F(BenchData, ImagesAreNumpysNoise) {
  BenchDataOptions options{.dataset_name = "image",
                           .num_prompts = 2,
                           .random_input_len = 128,
                           .image = {.resolution = "48x48", .format = "png"},
                           .apply_template = true,
                           .family = ChatFamily::kBig,
                           .seed = 1};
  NumpyRandom random(1);
  const auto requests = load_bench_requests(options, *tokenizer_, random);
  ASSERT_TRUE(requests) << requests.error().message;
  const auto pixels = [](const std::string& uri) { return decode_image(fetch_media(uri).value()).value().pixels; };
  const auto first = pixels(requests->at(0).images.at(0));
  EXPECT_THAT(std::vector<int>(first.begin(), first.begin() + 12),
              ElementsAre(0, 77, 37, 23, 47, 88, 101, 137, 106, 174, 52, 223));
  EXPECT_EQ(requests->at(0).vision_len, 256 + 2);  // small pictures grow
  EXPECT_THAT(requests->at(0).prompt, testing::StartsWith("<bos><|turn>user\n<|image|>"));
  EXPECT_THAT(requests->at(0).prompt, testing::EndsWith("<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"));
}

TEST_F(BenchData, ImagesOfManySizesAndCounts) {
  BenchDataOptions options{
      .dataset_name = "image",
      .num_prompts = 30,
      .random_input_len = 4,
      .image = {.count = 3, .random_count = true, .resolution = "random:20x30-40x60", .format = "png"}};
  NumpyRandom random(42);
  const auto requests = load_bench_requests(options, *tokenizer_, random);
  ASSERT_TRUE(requests) << requests.error().message;
  std::set<size_t> counts;
  for (const BenchRequest& r : *requests) {
    counts.insert(r.images.size());
    for (const std::string& uri : r.images) {
      const auto header = read_image_header(fetch_media(uri).value()).value();
      EXPECT_TRUE(header.width >= 30 && header.width <= 60 && header.height >= 20 && header.height <= 40);
    }
  }
  EXPECT_THAT(counts, ElementsAre(1, 2, 3));
}

TEST(BenchRequestBody, ImagesComeBeforeTheText) {
  const BenchRequest request{.prompt = "p", .images = {"data:a", "data:b"}, .output_len = 3};
  const auto chat = bench_request_body({.protocol = BenchProtocol::kChat}, request);
  EXPECT_EQ(chat.find("messages")->dump(),
            R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:a"}},)"
            R"({"type":"image_url","image_url":{"url":"data:b"}},{"type":"text","text":"p"}]}])");
  EXPECT_EQ(bench_request_body({}, request).find("image_data")->dump(), R"(["data:a","data:b"])");
}

TEST(BenchReport, TellsTextFromVision) {
  const BenchRunInfo info{.backend = "sglang-oai-chat", .data = {.dataset_name = "image"}};
  BenchMetrics metrics;
  metrics.total_input = 100;
  metrics.total_input_vision = 60;
  EXPECT_THAT(format_bench_report(info, metrics), HasSubstr("Total input tokens:                      100       \n"
                                                            "Total input text tokens:                 40        \n"
                                                            "Total input vision tokens:               60        \n"));
}

}  // namespace
}  // namespace carat
