// From a chat request's JSON value to its prompt. Yardstick: parsing the JSON text of the same body. Argument: number
// of rounds of question, call, result and answer; two tools are declared.

#include <benchmark/benchmark.h>

#include <string>

#include "base/check.h"
#include "chat/parse_chat.h"
#include "chat/render.h"

namespace carat {
namespace {

std::string body(int64_t rounds) {
  const std::string text(200, 'x');
  std::string out = R"({"messages":[{"role":"system","content":"You are helpful."})";
  for (int64_t i = 0; i < rounds; ++i) {
    const std::string id = std::to_string(i);
    out += R"(,{"role":"user","content":")" + text + R"("},{"role":"assistant","content":null,"tool_calls":[{"id":"c)" +
           id +
           R"(","type":"function","function":{"name":"search","arguments":"{\"query\":\"weather\",\"limit\":3}"}}]})" +
           R"(,{"role":"tool","tool_call_id":"c)" + id + R"(","content":")" + text +
           R"("},{"role":"assistant","content":")" + text + R"("})";
  }
  const std::string tool = R"({"type":"function","function":{"name":"search","description":"Searches.","parameters":)"
                           R"({"type":"object","properties":{"query":{"type":"string","description":"What to find"},)"
                           R"("limit":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}}},)"
                           R"("required":["query"]}}})";
  return out + R"(,{"role":"user","content":"go"}],"tools":[)" + tool + "," + tool + "]}";
}

void parse_text(benchmark::State& state) {
  const std::string text = body(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(parse_json(text));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(parse_text)->Arg(1)->Arg(100);

void prepare_and_render(benchmark::State& state) {
  const std::string text = body(state.range(0));
  const Json json = *parse_json(text);
  for (auto _ : state) {
    const auto input = parse_chat_input(json);
    CARAT_CHECK(input.has_value(), "the benchmark's body is refused");
    benchmark::DoNotOptimize(render_chat(*input, ChatFamily::kBig));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}
BENCHMARK(prepare_and_render)->Arg(1)->Arg(100);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
