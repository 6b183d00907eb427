// The message parser in its usual step: one token at a time, and a whole reply at once.

#include <benchmark/benchmark.h>

#include <string>

#include "output/message_parser.h"

namespace carat {
namespace {

std::string marked(std::string_view text) {
  MarkerScanner scanner;
  std::string out;
  scanner.push(text, out);
  scanner.finish(out);
  return out;
}

std::string repeat(std::string_view text, size_t bytes) {
  std::string out;
  while (out.size() < bytes) out += text;
  return out;
}

void parse(benchmark::State& state, const std::string& text, size_t piece) {
  MessageParserOptions options;
  options.parse_calls = true;
  for (auto _ : state) {
    MessageParser parser(options);
    for (size_t at = 0; at < text.size(); at += piece) {
      std::vector<MessagePart> parts;
      parser.push(std::string_view(text).substr(at, piece), parts);
      benchmark::DoNotOptimize(parts);
    }
    std::vector<MessagePart> parts;
    parser.finish(false, parts);
    benchmark::DoNotOptimize(parts);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>((text.size() + piece - 1) / piece));
}

const std::string& content() {
  static const std::string text =
      marked("<|channel>thought\nhm<channel|>") + repeat("The answer is plain text. ", 1 << 20);
  return text;
}
const std::string& arguments() {
  static const std::string text = marked("<|tool_call>call:write{path:<|\"|>a.cc<|\"|>,text:<|\"|>" +
                                         repeat("if (a) { b[1] = \"c\"; }\n", 1 << 20) + "<|\"|>}<tool_call|>");
  return text;
}
const std::string& many_calls() {
  static const std::string text = marked(
      repeat("<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>,days:2,units:[<|\"|>C<|\"|>]}<tool_call|>", 1 << 20));
  return text;
}

// Four bytes are about a token: items per second are tokens per second.
void BM_ContentByToken(benchmark::State& state) { parse(state, content(), 4); }
void BM_ContentWhole(benchmark::State& state) { parse(state, content(), content().size()); }
void BM_ArgumentsByToken(benchmark::State& state) { parse(state, arguments(), 4); }
void BM_ArgumentsWhole(benchmark::State& state) { parse(state, arguments(), arguments().size()); }
void BM_ManyCallsByToken(benchmark::State& state) { parse(state, many_calls(), 4); }
void BM_ManyCallsWhole(benchmark::State& state) { parse(state, many_calls(), many_calls().size()); }
BENCHMARK(BM_ContentByToken);
BENCHMARK(BM_ContentWhole);
BENCHMARK(BM_ArgumentsByToken);
BENCHMARK(BM_ArgumentsWhole);
BENCHMARK(BM_ManyCallsByToken);
BENCHMARK(BM_ManyCallsWhole);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
