#pragma once
// From schemas, regular expressions, grammars and tool declarations to compiled grammars: bounded, cached, and on
// threads of its own, so that no request waits for another one's schema.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "base/token.h"
#include "sampling/grammar/grammar.h"
#include "sampling/grammar/grammar_source.h"

namespace carat {

/// The tokens as grammars see them.
struct GrammarVocabulary {
  std::vector<std::string>
      pieces;  ///< the bytes each token stands for; empty: never part of an answer (special tokens)
  std::optional<TokenId> call_close;   ///< ends a tool call
  std::optional<TokenId> string_mark;  ///< stands on both sides of strings inside calls
};

struct GrammarOptions {
  bool any_whitespace = true;                        ///< JSON answers may have white space between their parts
  std::optional<int> max_whitespace = std::nullopt;  ///< ... so much in a row at most
  int threads = 2;
  size_t max_queued = 1024;           ///< sources that wait for a thread
  size_t max_source_bytes = 1 << 20;  ///< of one source
  int max_depth = 64;                 ///< of a schema
  int max_schema_nodes = 50000;       ///< values in a schema's JSON
  int max_states = 100000;            ///< of the automaton
  int64_t max_work = 100'000'000;     ///< comparisons of a token with a state: about 15 s of a thread
  int max_cached = 4096;              ///< grammars and errors kept for later requests
  int64_t max_cached_bytes = int64_t{256} << 20;
  std::chrono::milliseconds timeout{
      10000};  ///< after this a request gets an error; the thread goes on until it is done
};

/// Counters for /metrics. Null: not counted.
struct GrammarMetrics {
  Counter* compiled = nullptr;    ///< requests for a grammar
  Counter* cache_hits = nullptr;  ///< ... that found it
  Counter* aborted = nullptr;     ///< ... that got an error
  Histogram* seconds = nullptr;   ///< of compilations
};

/// Any thread.
class GrammarCompiler {
 public:
  using GrammarPtr = std::shared_ptr<const Grammar>;
  /// Called exactly once: by compile() itself if the answer is known, else on a compile thread or the watchdog. Must
  /// not block.
  using Done = std::function<void(Result<GrammarPtr>)>;

  GrammarCompiler(GrammarVocabulary vocabulary, GrammarOptions options, GrammarMetrics metrics = {});
  ~GrammarCompiler();  ///< answers who still waits with kUnavailable; waits for compilations under way (max_work)

  /// Errors: kInvalidArgument (malformed, contradictory, over a limit, or not done within the timeout), kOverloaded
  /// (too many wait), kUnavailable (stopping).
  void compile(GrammarSource source, Done done);
  /// The same, waiting. For tests and benchmarks.
  Result<GrammarPtr> compile_now(GrammarSource source);
  /// Requests whose grammar is being made.
  int num_waiting() const;
  const GrammarOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace carat
