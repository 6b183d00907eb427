#include "sampling/grammar/grammar.h"

#include <support/logging.h>

#include <algorithm>
#include <ctime>

#include "base/log.h"
#include "sampling/grammar/grammar_impl.h"
#include "sampling/token_mask.h"

// XGrammar leaves it to us what becomes of its messages. Most are about parts of schemas that it does not enforce.
namespace xgrammar {

[[noreturn]] void LogFatalImpl(const std::string& file, int line, const std::string& message) {
  throw LogFatalError(file, line, message);
}

void LogMessageImpl(const std::string&, int, int, const std::string& message) {
  carat::log_debug("grammar: ", message);
}

}  // namespace xgrammar

namespace carat {
namespace {

/// CPU time of this thread: what others take from it on a busy machine does not count.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

}  // namespace

std::string grammar_error_text(const std::exception& e) {
  const auto* fatal = dynamic_cast<const xgrammar::LogFatalError*>(&e);
  return fatal ? fatal->std::runtime_error::what() : e.what();
}

Grammar::Grammar(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Grammar::~Grammar() = default;

int64_t Grammar::memory_bytes() const { return static_cast<int64_t>(impl_->compiled.MemorySizeBytes()); }

struct GrammarMatcher::Impl {
  explicit Impl(const Grammar& g) : grammar(g), matcher(g.impl().compiled) {}

  /// Calls `f`, which advances the matcher, and minds how long it took: there ambiguity shows. (The first mask of a
  /// state may take tens of milliseconds in a grammar that is not ambiguous at all.)
  template <class F>
  auto timed(const F& f) {
    const double start = thread_seconds();
    auto out = grammar_try(f);
    if (thread_seconds() - start > kMaxTokenSeconds) ++num_slow;
    return out;
  }

  const Grammar& grammar;
  xgrammar::GrammarMatcher matcher;
  int num_slow = 0;
};

GrammarMatcher::GrammarMatcher(const Grammar& grammar) : impl_(std::make_unique<Impl>(grammar)) {}
GrammarMatcher::~GrammarMatcher() = default;

bool GrammarMatcher::accept(TokenId token) {
  if (exhausted()) return false;
  const auto accepted = impl_->timed([&] { return impl_->matcher.AcceptToken(token); });
  return accepted && *accepted;
}

bool GrammarMatcher::exhausted() const { return impl_->num_slow >= kMaxSlowTokens; }

bool GrammarMatcher::complete() const { return impl_->matcher.IsCompleted(); }

void GrammarMatcher::fill_mask(std::span<uint32_t> mask) {
  if (exhausted()) {
    std::ranges::fill(mask, 0u);
    return;
  }
  int64_t shape = static_cast<int64_t>(mask.size());
  DLTensor tensor{};
  tensor.data = mask.data();
  tensor.device = {kDLCPU, 0};
  tensor.ndim = 1;
  tensor.dtype = {kDLInt, 32, 1};
  tensor.shape = &shape;
  const auto filled = grammar_try([&] { return impl_->matcher.FillNextTokenBitmask(&tensor); });
  if (!filled) std::ranges::fill(mask, 0u);
  mask_cut(mask, impl_->grammar.impl().vocab_size);
  for (const TokenId token : impl_->grammar.impl().barred) mask_remove(mask, token);
}

}  // namespace carat
