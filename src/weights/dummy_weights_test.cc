#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "tensor/bf16.h"
#include "weights/host_memory.h"
#include "weights/test_support.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

using testing::HasSubstr;
using testing_support::small_spec;

std::shared_ptr<const TextWeights> make(const ModelConfig& config, uint64_t seed) {
  auto weights = make_dummy_text_weights(config, seed);
  EXPECT_TRUE(weights) << weights.error().message;
  return *weights;
}

struct Moments {
  double mean = 0, deviation = 0;
};
Moments moments(const ConstTensorView& view, int64_t first_row, int64_t last_row) {
  const auto* p = static_cast<const Bf16*>(view.data);
  const int64_t begin = first_row * view.last_dim(), end = last_row * view.last_dim();
  Moments m;
  for (int64_t i = begin; i < end; ++i) m.mean += static_cast<float>(p[i]);
  m.mean /= static_cast<double>(end - begin);
  for (int64_t i = begin; i < end; ++i) m.deviation += std::pow(static_cast<float>(p[i]) - m.mean, 2);
  m.deviation = std::sqrt(m.deviation / static_cast<double>(end - begin));
  return m;
}

TEST(DummyWeights, DependOnTheSeedAlone) {
  const ModelConfig config = make_model_config(small_spec("26B-A4B"));
  const auto a = make(config, 1), b = make(config, 1), c = make(config, 2);
  for (const TextTensor& t : text_tensors(config.text)) {
    const ConstTensorView* x = find_text_view(*a, t);
    if (!x) continue;
    const auto bytes = static_cast<size_t>(x->size_bytes());
    EXPECT_EQ(std::memcmp(x->data, find_text_view(*b, t)->data, bytes), 0) << t.name;
    EXPECT_NE(std::memcmp(x->data, find_text_view(*c, t)->data, bytes), 0) << t.name;
  }
}

// The values themselves are a promise: what is stored about a seeded model elsewhere stays true.
TEST(DummyWeights, ValuesAreFrozen) {
  const auto weights = make(make_model_config(small_spec("E2B")), 42);
  const auto bits = [](const ConstTensorView& view, int64_t i) { return static_cast<const Bf16*>(view.data)[i].bits; };
  EXPECT_EQ(bits(weights->embed_tokens, 200 * 32), 48361);
  EXPECT_EQ(bits(weights->embed_tokens, 200 * 32 + 1), 15452);
  EXPECT_EQ(bits(weights->norm, 31), 16900);
  EXPECT_EQ(bits(weights->layers[3].down_proj, 1001), 15860);
  EXPECT_EQ(Bf16(weights->layers[9].layer_scalar).bits, 16257);
}

TEST(DummyWeights, LawsKeepActivationsSensible) {
  MemberSpec spec = small_spec("E2B");
  spec.hidden_size = 128;
  const ModelConfig config = make_model_config(spec);
  const auto w = make(config, 3);
  const double root = std::sqrt(128.0);
  const Moments q = moments(w->layers[0].q_proj, 0, 64);
  EXPECT_NEAR(q.mean * root, 0, 0.05);
  EXPECT_NEAR(q.deviation * root, 1, 0.05);
  EXPECT_NEAR(moments(w->layers[1].gate_proj, 0, 48).deviation * root, 1.4, 0.07);
  EXPECT_NEAR(moments(w->layers[1].input_layernorm, 0, 1).mean, 1, 0.1);
  // Logit deviation = final norm's mean * embedding's deviation * sqrt(H).
  const Moments embedding = moments(w->embed_tokens, 107, 505), norm = moments(w->norm, 0, 1);
  EXPECT_NEAR(norm.mean * embedding.deviation * root, 4.5, 0.5);
  for (const LayerWeights& layer : w->layers) {
    EXPECT_GE(layer.layer_scalar, 0.85f);
    EXPECT_LE(layer.layer_scalar, 1.11f);
  }
}

TEST(DummyWeights, ControlTokensAreQuiet) {
  const ModelConfig config = make_model_config(small_spec("E2B"));
  const auto w = make(config, 3);
  const double loud = moments(w->embed_tokens, 107, 505).deviation;
  EXPECT_NEAR(moments(w->embed_tokens, 0, 107).deviation / loud, 0.2, 0.02);
  EXPECT_NEAR(moments(w->embed_tokens, 505, 512).deviation / loud, 0.2, 0.05);
  EXPECT_NEAR(moments(w->embed_tokens, 107, 108).deviation / loud, 1, 0.5);
  EXPECT_GT(moments(w->embed_tokens, 504, 505).deviation / loud, 0.5);
}

TEST(DummyWeights, NoTwoTokensHaveEqualRows) {
  const ModelConfig config = make_model_config(small_spec("12B"));
  const auto w = make(config, 3);
  std::set<std::string_view> rows;
  for (int64_t i = 0; i < 512; ++i) rows.insert({static_cast<const char*>(w->embed_tokens.data) + i * 64, 64});
  EXPECT_EQ(rows.size(), 512u);
}

TEST(DummyWeights, MemoryIsAskedForFirst) {
  ModelConfig config = make_model_config(published_member("31B"));
  config.text.vocab_size = 1 << 22;
  config.text.layers.resize(1024, config.text.layers[0]);
  for (int i = 0; i < 1024; ++i) config.text.layers[static_cast<size_t>(i)].kv_source = i;
  config.text.num_layers = 1024;
  const auto weights = make_dummy_text_weights(config, 1);
  ASSERT_FALSE(weights);
  EXPECT_EQ(weights.error().code, Errc::kOverloaded);
  EXPECT_THAT(weights.error().message, HasSubstr("need"));
  EXPECT_THAT(weights.error().message, HasSubstr("available are"));
}

TEST(HostMemory, ReadsMeminfo) {
  constexpr std::string_view kText = "MemTotal:  16 kB\nMemAvailable:   12345 kB\nBad: x kB\nOdd: 3\n";
  EXPECT_EQ(parse_meminfo(kText, "MemAvailable"), 12345 * 1024);
  EXPECT_FALSE(parse_meminfo(kText, "Mem"));
  EXPECT_FALSE(parse_meminfo(kText, "Bad"));
  EXPECT_FALSE(parse_meminfo(kText, "Odd"));
  EXPECT_FALSE(parse_meminfo("", "MemAvailable"));
  EXPECT_GT(available_memory_bytes().value_or(1), 0);
}

TEST(HostMemory, FormatsBytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.00 kB");
  EXPECT_EQ(format_bytes(999'999), "1.00 MB");
  EXPECT_EQ(format_bytes(9'257'138'758), "9.26 GB");
  EXPECT_EQ(format_bytes(5'000'000'000'000'000), "5000.00 TB");
}

}  // namespace
}  // namespace carat
