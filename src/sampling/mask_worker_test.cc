#include "sampling/mask_worker.h"

#include <gtest/gtest.h>

#include <random>

#include "sampling/constraint_testing.h"
#include "sampling/sampler.h"

namespace carat {
namespace {

using testing::SmallVocabulary;

const SmallVocabulary& vocabulary() {
  static const SmallVocabulary it;
  return it;
}

std::vector<SequenceSampler> samplers(int count) {
  static GrammarCompiler compiler(vocabulary().grammar(), {.timeout = std::chrono::minutes(5)});
  std::vector<SequenceSampler> out;
  for (int i = 0; i < count; ++i) {
    SamplerSpec spec;
    spec.end_token_ids = {SmallVocabulary::kEnd};
    spec.seed = static_cast<uint64_t>(i);
    if (i % 3 != 0) {
      auto plan = std::make_shared<ConstraintPlan>(vocabulary().plan());
      plan->answer = *compiler.compile_now({GrammarSource::Kind::kRegex, "([a-f]{1,4}[0-9])*"});
      spec.params.constraint = plan;
    }
    out.emplace_back(std::move(spec), vocabulary().size());
  }
  return out;
}

std::vector<float> logits(int row, int position) {
  std::mt19937_64 random(static_cast<uint64_t>(row * 1000 + position));
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> out(static_cast<size_t>(vocabulary().size()));
  for (float& x : out) x = normal(random);
  return out;
}

/// Steps with masks made beside "the forward pass" give what samplers give that make their own.
TEST(MaskWorker, PreparesWhatSamplersWouldMakeThemselves) {
  for (const int count : {0, 1, 2, 37}) {
    std::vector<SequenceSampler> alone = samplers(count), helped = samplers(count);
    std::vector<NextMask*> all;
    for (SequenceSampler& sampler : helped)
      if (NextMask* mask = sampler.next_mask()) all.push_back(mask);
    MaskWorker worker;
    SamplerScratch scratch;
    for (int position = 0; position < 20; ++position) {
      worker.start(all);
      if (position % 4 == 0) std::this_thread::yield();
      worker.finish();
      for (int i = 0; i < count; ++i) {
        std::vector<float> a = logits(i, position), b = a;
        ASSERT_EQ(helped[static_cast<size_t>(i)].sample(a, position, scratch),
                  alone[static_cast<size_t>(i)].sample(b, position, scratch));
      }
    }
  }
}

}  // namespace
}  // namespace carat
