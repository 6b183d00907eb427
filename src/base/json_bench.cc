// Reading and writing JSON as the server does: a chat request, one with a picture in it, a streamed chunk.
#include <benchmark/benchmark.h>

#include <string>

#include "base/json.h"

namespace carat {
namespace {

std::string chat_request(size_t num_messages) {
  std::string text = R"({"model":"gemma","stream":true,"temperature":0.7,"max_tokens":512,"messages":[)";
  for (size_t i = 0; i < num_messages; ++i) {
    if (i > 0) text += ',';
    text +=
        R"({"role":"user","content":"What does \"near-linear\" mean here?\nAnd: ile to będzie kosztować, 500 zł?"})";
  }
  return text + "]}";
}
std::string image_request() {
  return R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
         std::string(2'000'000, 'A') + R"("}}]}]})";
}

void parse(benchmark::State& state, const std::string& text) {
  for (auto _ : state) benchmark::DoNotOptimize(parse_json(text).has_value());
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
void dump(benchmark::State& state, const std::string& text) {
  const Json value = *parse_json(text);
  std::string out;
  for (auto _ : state) {
    out.clear();
    value.append_to(out);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
void append_string(benchmark::State& state, const std::string& text) {
  std::string out;
  for (auto _ : state) {
    out.clear();
    append_json_string(out, text);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

BENCHMARK_CAPTURE(parse, chat_8kB, chat_request(70));
BENCHMARK_CAPTURE(parse, small_request, chat_request(1));
BENCHMARK_CAPTURE(parse, image_2MB, image_request());
BENCHMARK_CAPTURE(dump, chat_8kB, chat_request(70));
BENCHMARK_CAPTURE(append_string, token, std::string(" server"));
BENCHMARK_CAPTURE(append_string, ascii_1kB, std::string(1024, 'a'));
BENCHMARK_CAPTURE(append_string, polish_1kB, [] {
  std::string text;
  while (text.size() < 1024) text += "Zażółć gęślą jaźń ";
  return text;
}());

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
