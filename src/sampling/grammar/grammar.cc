#include "sampling/grammar/grammar.h"

#include <support/logging.h>

#include <algorithm>
#include <ctime>
#include <utility>
#include <vector>

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

/// Where a text may be counted there are several ways on: the grammar's own tokens, and a text of each kind that may
/// stand here. Each is a branch of its own.
struct GrammarMatcher::Impl {
  struct Branch {
    xgrammar::GrammarMatcher matcher;  ///< behind the text while one is counted
    std::optional<TextCount> text;
  };
  /// More are given up, which narrows what may come. It takes texts that different alternatives count differently.
  static constexpr size_t kMaxBranches = 8;

  explicit Impl(const Grammar& g)
      : grammar(g.impl()), buffer(static_cast<size_t>(num_mask_words(grammar.vocab_size + kMaxTexts))) {
    branches.push_back({xgrammar::GrammarMatcher(grammar.compiled), std::nullopt});
  }

  bool accept(TokenId token) {
    if (!grammar.texts.empty() && !expanded) {
      std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(grammar.vocab_size)));
      fill(mask);
    }
    std::vector<Branch> next;
    for (Branch& branch : branches)
      if (step(branch, token)) next.push_back(std::move(branch));
    if (next.empty()) return false;
    if (next.size() > kMaxBranches) next.erase(next.begin() + kMaxBranches, next.end());
    branches = std::move(next);
    expanded = false;
    return true;
  }

  /// Whether the token continues the branch, which is unchanged if not.
  static bool step(Branch& branch, TokenId token) {
    if (branch.text) {
      if (branch.text->accept(token)) return true;
      if (const auto* closer = branch.text->closer(token))
        token = closer->rest;
      else if (!branch.text->may_end(0))
        return false;
    }
    if (!branch.matcher.AcceptToken(token)) return false;
    branch.text.reset();
    return true;
  }

  /// Adds what may come to `mask`. The first time at a position texts that may begin here become branches.
  void fill(std::span<uint32_t> mask) {
    const size_t num_known = branches.size();
    for (size_t i = 0; i < num_known; ++i)
      if (!branches[i].text) {
        fill_buffer(branches[i].matcher);
        add_buffer(mask);
        if (!expanded) begin_texts(i);
      }
    for (Branch& branch : branches)
      if (branch.text) {
        branch.text->add_to(mask);
        add_end(branch, mask);
      }
    expanded = true;
  }

  void begin_texts(size_t branch) {
    for (size_t i = 0; i < grammar.texts.size(); ++i) {
      const TokenId stand_in = grammar.vocab_size + static_cast<TokenId>(i);
      if (!mask_has(buffer, stand_in)) continue;
      Branch begun{branches[branch].matcher.Fork(), TextCount(*grammar.text_tokens, grammar.texts[i])};
      if (begun.matcher.AcceptToken(stand_in)) branches.push_back(std::move(begun));
    }
  }

  /// What may come behind a text, alone or in one token with its last characters.
  void add_end(Branch& branch, std::span<uint32_t> mask) {
    bool filled = false;
    const auto behind = [&](TokenId token) {
      if (!std::exchange(filled, true)) fill_buffer(branch.matcher);
      return mask_has(buffer, token);
    };
    if (branch.text->may_end(0)) {
      behind(0);
      add_buffer(mask);
    }
    for (const auto& [token, closer] : grammar.text_tokens->closers())
      if (branch.text->may_end(closer.length) && behind(closer.rest)) mask_add(mask, token);
  }

  void fill_buffer(xgrammar::GrammarMatcher& matcher) {
    int64_t shape = static_cast<int64_t>(buffer.size());
    DLTensor tensor{};
    tensor.data = buffer.data();
    tensor.device = {kDLCPU, 0};
    tensor.ndim = 1;
    tensor.dtype = {kDLInt, 32, 1};
    tensor.shape = &shape;
    matcher.FillNextTokenBitmask(&tensor);
  }

  void add_buffer(std::span<uint32_t> mask) const {
    for (size_t i = 0; i < mask.size(); ++i) mask[i] |= buffer[i];
  }

  const Grammar::Impl& grammar;
  std::vector<Branch> branches;
  bool expanded = false;         ///< the branches hold the texts that may begin here
  std::vector<uint32_t> buffer;  ///< a matcher's mask, stand-ins for texts included
  int num_slow = 0;
};

GrammarMatcher::GrammarMatcher(const Grammar& grammar) : impl_(std::make_unique<Impl>(grammar)) {}
GrammarMatcher::~GrammarMatcher() = default;

/// How long it takes is minded: there ambiguity shows. (The first mask of a state may take tens of milliseconds in a
/// grammar that is not ambiguous at all.)
bool GrammarMatcher::accept(TokenId token) {
  if (exhausted()) return false;
  const double start = thread_seconds();
  const auto accepted = grammar_try([&] { return impl_->accept(token); });
  if (thread_seconds() - start > kMaxTokenSeconds) ++impl_->num_slow;
  return accepted && *accepted;
}

bool GrammarMatcher::exhausted() const { return impl_->num_slow >= kMaxSlowTokens; }

bool GrammarMatcher::complete() const {
  return std::ranges::any_of(impl_->branches, [](const Impl::Branch& b) { return !b.text && b.matcher.IsCompleted(); });
}

void GrammarMatcher::fill_mask(std::span<uint32_t> mask) {
  std::ranges::fill(mask, 0u);
  if (exhausted()) return;
  const auto filled = grammar_try([&] {
    impl_->fill(mask);
    return true;
  });
  if (!filled) std::ranges::fill(mask, 0u);
  mask_cut(mask, impl_->grammar.vocab_size);
  for (const TokenId token : impl_->grammar.barred) mask_remove(mask, token);
}

}  // namespace carat
