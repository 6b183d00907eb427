// Grammars from bytes: the first one is the kind of source, the rest its text. Nothing may crash or hang, and a token
// that a mask allows is accepted.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "base/check.h"
#include "base/hash.h"
#include "sampling/constraint.h"
#include "sampling/constraint_testing.h"
#include "sampling/token_mask.h"

namespace carat {
namespace {

const testing::SmallVocabulary& vocabulary() {
  static const testing::SmallVocabulary it;
  return it;
}

GrammarCompiler& compiler() {
  static GrammarCompiler it(vocabulary().grammar(), {.threads = 1,
                                                     .max_source_bytes = 4096,
                                                     .max_schema_nodes = 2000,
                                                     .max_states = 5000,
                                                     .max_cached = 2,
                                                     .timeout = std::chrono::minutes(10)});
  return it;
}

/// Random walks: whatever is allowed is accepted, and at the end tokens ends are.
void walk(const std::shared_ptr<const Grammar>& grammar, bool call, uint64_t seed) {
  auto plan = std::make_shared<ConstraintPlan>(vocabulary().plan());
  plan->start = static_cast<ConstraintPlan::Start>(seed % 3);
  if (seed % 2 != 0) plan->thinking_budget = static_cast<int>(seed % 7);
  (call ? plan->call : plan->answer) = grammar;
  plan->call_required = call;
  const TokenId ends[] = {testing::SmallVocabulary::kEnd};
  TokenConstraint constraint(plan, ends, static_cast<int>(seed % 5), vocabulary().size());
  GrammarMatcher matcher(*grammar);
  std::vector<uint32_t> mask(static_cast<size_t>(num_mask_words(vocabulary().size())));
  for (int i = 0; i < 40; ++i) {
    matcher.fill_mask(mask);
    std::vector<TokenId> allowed;
    for (TokenId t = 0; t < vocabulary().size(); ++t)
      if (mask_has(mask, t)) allowed.push_back(t);
    if (allowed.empty()) break;
    const TokenId token = allowed[hash_combine(seed, static_cast<uint64_t>(i)) % allowed.size()];
    CARAT_CHECK(matcher.accept(token), "what the mask allows is accepted");
  }
  for (int i = 0; i < 60; ++i) {
    TokenId token = static_cast<TokenId>(hash_combine(seed + 1, static_cast<uint64_t>(i)) %
                                         static_cast<uint64_t>(vocabulary().size()));
    if (constraint.fill_mask(mask)) {
      CARAT_CHECK(!mask_empty(mask), "something may come");
      while (!mask_has(mask, token)) token = (token + 1) % vocabulary().size();
    }
    if (token == testing::SmallVocabulary::kEnd) break;
    constraint.accept(token);
  }
}

}  // namespace
}  // namespace carat

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace carat;
  if (size == 0) return 0;
  const auto kind = static_cast<GrammarSource::Kind>(data[0] % 6);
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto made = compiler().compile_now({kind, text});
  if (!made) {
    CARAT_CHECK(!made.error().message.empty(), "an error says what is wrong");
    return 0;
  }
  for (uint64_t seed = 0; seed < 3; ++seed) walk(*made, kind == GrammarSource::Kind::kCalls, hash_bytes(text, seed));
  return 0;
}
