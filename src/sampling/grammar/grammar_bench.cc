// Constrained decoding over Gemma's vocabulary of 262,144 tokens: what a mask, a token and a grammar cost.
//
//   carat_grammar_bench                                    with a vocabulary made here, of words and bytes
//   CARAT_TOKENIZER=FOLDER/tokens.txt carat_grammar_bench  with the pieces of a real one: one per line, JSON strings

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <random>
#include <span>
#include <string>

#include "base/json.h"
#include "base/str.h"
#include "sampling/constraint.h"
#include "sampling/grammar/grammar_compiler.h"
#include "sampling/sampler.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

constexpr int kVocab = 262144;
constexpr TokenId kEnd = 1, kCallOpen = 2, kCallClose = 3, kMark = 4;

/// Bytes, runs of punctuation, and distinct words of 1 to 12 letters of several scripts with and without a space: about
/// as many pieces that are a matter of a grammar's structure as real vocabularies have.
GrammarVocabulary made_vocabulary() {
  GrammarVocabulary out;
  out.pieces.resize(8);
  for (int byte = 0; byte < 256; ++byte) out.pieces.emplace_back(1, static_cast<char>(byte));
  std::mt19937_64 random(1);
  const auto pick = [&](std::span<const char* const> list) { return list[random() % list.size()]; };
  const char* const kLetters[] = {"e", "t", "a", "o", "i", "n", "s", "r", "h", "l", "d", "c",  "u",  "m",
                                  "f", "p", "g", "w", "y", "b", "v", "é", "ü", "и", "о", "的", "一", "ا"};
  const char* const kSigns[] = {" ", "\"", ",", ":", "{", "}", "[", "]", "\n",
                                ".", "(",  ")", "1", "0", "-", "_", "<", "/"};
  for (int i = 0; i < 3000; ++i) {
    std::string piece;
    for (int n = static_cast<int>(random() % 4); n >= 0; --n) piece += pick(kSigns);
    out.pieces.push_back(std::move(piece));
  }
  while (out.pieces.size() < kVocab) {
    std::string piece = random() % 2 == 0 ? " " : "";
    for (int n = static_cast<int>(random() % 12); n >= 0; --n) piece += pick(kLetters);
    out.pieces.push_back(std::move(piece));
  }
  return out;
}

GrammarVocabulary vocabulary() {
  GrammarVocabulary out;
  if (const char* path = std::getenv("CARAT_TOKENIZER")) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) out.pieces.push_back(parse_json(line)->as_string());
    out.pieces.resize(kVocab);
  } else {
    out = made_vocabulary();
  }
  for (TokenId special = 0; special < 8; ++special) out.pieces[static_cast<size_t>(special)].clear();
  out.call_close = kCallClose;
  out.string_mark = kMark;
  return out;
}

GrammarCompiler& compiler() {
  static GrammarCompiler it(vocabulary(), {.threads = 1, .timeout = std::chrono::minutes(5)});
  return it;
}

constexpr char kPerson[] =
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},)"
    R"("mail":{"type":"array","items":{"type":"string"}},"kind":{"enum":["a","b","c"]}},"required":["name","age"]})";
constexpr char kTools[] =
    R"([{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},)"
    R"("unit":{"enum":["celsius","fahrenheit"]},"days":{"type":"integer"}},"required":["city"]}},)"
    R"({"name":"search","parameters":{"type":"object","properties":{"query":{"type":"string"},)"
    R"("filter":{"type":"object"}},"required":["query"]}}])";

std::shared_ptr<const Grammar> grammar(GrammarSource::Kind kind, std::string text) {
  auto made = compiler().compile_now({kind, std::move(text)});
  if (!made) std::fprintf(stderr, "%s\n", made.error().message.c_str());
  return *made;
}

/// This thread's time: that of a busy machine does not count.
double thread_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

/// Masks and tokens of random runs through a grammar. Counters: microseconds of a mask and of a token's acceptance,
/// mean and worst.
void run(benchmark::State& state, GrammarSource::Kind kind, const char* text) {
  const auto compiled = grammar(kind, text);
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(kVocab)));
  std::vector<TokenId> allowed;
  std::mt19937_64 random(2);
  double mask_us = 0, worst_us = 0, accept_us = 0;
  int64_t tokens = 0;
  for (auto _ : state) {
    GrammarMatcher matcher(*compiled);
    for (int i = 0; i < 100; ++i) {
      double start = thread_us();
      matcher.fill_mask(mask);
      const double us = thread_us() - start;
      mask_us += us;
      worst_us = std::max(worst_us, us);
      ++tokens;
      allowed.clear();
      for (TokenId t = 0; t < kVocab; ++t)
        if (mask_has(mask, t)) allowed.push_back(t);
      if (allowed.empty()) break;
      const TokenId token = allowed[random() % allowed.size()];
      start = thread_us();
      matcher.accept(token);
      accept_us += thread_us() - start;
    }
  }
  state.counters["mask_us"] = mask_us / static_cast<double>(tokens);
  state.counters["worst_mask_us"] = worst_us;
  state.counters["accept_us"] = accept_us / static_cast<double>(tokens);
}

void BM_MaskAnyJson(benchmark::State& state) { run(state, GrammarSource::Kind::kAnyJson, ""); }
void BM_MaskSchema(benchmark::State& state) { run(state, GrammarSource::Kind::kJsonSchema, kPerson); }
void BM_MaskCalls(benchmark::State& state) { run(state, GrammarSource::Kind::kCalls, kTools); }
void BM_MaskRegex(benchmark::State& state) {
  run(state, GrammarSource::Kind::kRegex, "([a-z]+, )*[A-Z][a-z]{2,20}\\.");
}
void BM_MaskBoundedString(benchmark::State& state) {
  run(state, GrammarSource::Kind::kJsonSchema, R"({"type":"string","minLength":2,"maxLength":12})");
}
BENCHMARK(BM_MaskBoundedString)->Iterations(20)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MaskAnyJson)->Iterations(20)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MaskSchema)->Iterations(20)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MaskCalls)->Iterations(20)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MaskRegex)->Iterations(20)->Unit(benchmark::kMillisecond);

/// One position inside of a JSON string, again and again: the state in which most tokens of answers are.
void BM_MaskInsideString(benchmark::State& state) {
  const auto compiled = grammar(GrammarSource::Kind::kJsonSchema, kPerson);
  GrammarMatcher matcher(*compiled);
  for (const char c : std::string("{\"name\":\"Some"))
    matcher.accept(static_cast<TokenId>(8 + static_cast<unsigned char>(c)));
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(kVocab)));
  for (auto _ : state) matcher.fill_mask(mask);
}
BENCHMARK(BM_MaskInsideString)->Unit(benchmark::kMicrosecond);

/// A new source each time.
void compile(benchmark::State& state, GrammarSource::Kind kind, std::string text) {
  compiler();
  for (auto _ : state) benchmark::DoNotOptimize(compiler().compile_now({kind, text += ' '}));
}
void BM_CompileAnyJson(benchmark::State& state) { compile(state, GrammarSource::Kind::kAnyJson, ""); }
void BM_CompileSchema(benchmark::State& state) { compile(state, GrammarSource::Kind::kJsonSchema, kPerson); }
void BM_CompileCalls(benchmark::State& state) { compile(state, GrammarSource::Kind::kCalls, kTools); }
void BM_CompileRegex(benchmark::State& state) { compile(state, GrammarSource::Kind::kRegex, "[a-z]{3}-[0-9]+"); }
void BM_CompileBoundedString(benchmark::State& state) {
  compile(state, GrammarSource::Kind::kJsonSchema, R"({"type":"string","minLength":2,"maxLength":12})");
}
BENCHMARK(BM_CompileBoundedString)->Iterations(5)->Unit(benchmark::kMillisecond);
void BM_CompileCached(benchmark::State& state) {
  grammar(GrammarSource::Kind::kJsonSchema, kPerson);
  for (auto _ : state) benchmark::DoNotOptimize(compiler().compile_now({GrammarSource::Kind::kJsonSchema, kPerson}));
}
BENCHMARK(BM_CompileAnyJson)->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CompileSchema)->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CompileCalls)->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CompileRegex)->Iterations(5)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CompileCached)->Unit(benchmark::kMicrosecond);

/// A whole sample() with chat's defaults, free and under a mask inside of a string; the mask is ready, as on a runner.
void sample(benchmark::State& state, bool constrained) {
  SamplerSpec spec;
  spec.params.temperature = 1;
  spec.params.top_p = 0.95f;
  spec.params.top_k = 64;
  spec.end_token_ids = {kEnd};
  if (constrained) {
    auto plan = std::make_shared<ConstraintPlan>();
    plan->answer = grammar(GrammarSource::Kind::kRegex, "[^\"]*");
    spec.params.constraint = plan;
  }
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(kVocab), logits(kVocab);
  for (float& x : row) x = normal(random);
  SequenceSampler sampler(spec, kVocab);
  SamplerScratch scratch;
  int64_t position = 0;
  for (auto _ : state) {
    state.PauseTiming();
    logits = row;
    sampler.next_mask()->prepare();
    state.ResumeTiming();
    benchmark::DoNotOptimize(sampler.sample(logits, position++, scratch));
  }
}
void BM_SampleFree(benchmark::State& state) { sample(state, false); }
void BM_SampleConstrained(benchmark::State& state) { sample(state, true); }
BENCHMARK(BM_SampleFree)->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_SampleConstrained)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace carat

BENCHMARK_MAIN();
