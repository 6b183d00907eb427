#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>

#include "base/json.h"
#include "tensor/bf16.h"
#include "weights/checkpoint.h"
#include "weights/test_support.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing_support::safetensors;
using testing_support::small_spec;
using testing_support::TempFolder;

constexpr const char* kMembers[] = {"E2B", "E4B", "12B", "26B-A4B", "31B"};

void expect_equal(const TextWeights& a, const TextWeights& b, const TextConfig& config) {
  EXPECT_EQ(a.size_bytes, b.size_bytes);
  for (const TextTensor& t : text_tensors(config)) {
    const ConstTensorView* x = find_text_view(a, t);
    const ConstTensorView* y = find_text_view(b, t);
    if (!x) {
      const auto i = static_cast<size_t>(*t.layer);
      EXPECT_EQ(a.layers[i].layer_scalar, b.layers[i].layer_scalar);
      continue;
    }
    ASSERT_EQ(static_cast<bool>(*x), t.used()) << t.name;
    ASSERT_EQ(static_cast<bool>(*y), t.used()) << t.name;
    if (!t.used()) continue;
    EXPECT_TRUE(x->shape == y->shape) << t.name;
    EXPECT_EQ(std::memcmp(x->data, y->data, static_cast<size_t>(x->size_bytes())), 0) << t.name;
  }
}

TEST(LoadWeights, WhatWasWrittenComesBack) {
  for (const char* name : kMembers) {
    SCOPED_TRACE(name);
    const ModelConfig config = make_model_config(small_spec(name));
    const auto weights = make_dummy_text_weights(config, 7);
    ASSERT_TRUE(weights) << weights.error().message;
    for (const int64_t shard_bytes : {int64_t{1} << 40, int64_t{100'000}}) {
      TempFolder folder;
      ASSERT_TRUE(write_checkpoint(folder.path(), config, **weights, shard_bytes, ConfigLayout::kPerLayer));
      EXPECT_EQ(std::filesystem::exists(folder / "model.safetensors"), shard_bytes > 100'000);
      const auto read = load_model_config(folder.path());
      ASSERT_TRUE(read) << read.error().message;
      EXPECT_TRUE(read->text == config.text);
      EXPECT_TRUE(read->generation == config.generation);
      const auto loaded = load_text_weights(folder.path(), *read);
      ASSERT_TRUE(loaded) << loaded.error().message;
      expect_equal(**loaded, **weights, config.text);
    }
  }
}

TEST(LoadWeights, TextOnlyNames) {
  ModelConfig config = make_model_config(small_spec("E2B"));
  config.model_type = "gemma4_text";
  const auto weights = make_dummy_text_weights(config, 7);
  TempFolder folder;
  ASSERT_TRUE(write_checkpoint(folder.path(), config, **weights));
  const auto read = load_model_config(folder.path());
  ASSERT_TRUE(read) << read.error().message;
  const auto loaded = load_text_weights(folder.path(), *read);
  ASSERT_TRUE(loaded) << loaded.error().message;
  expect_equal(**loaded, **weights, config.text);
}

/// A good checkpoint whose tensor list can be changed before it is written again.
class ChangedCheckpoint : public testing::Test {
 protected:
  ChangedCheckpoint() : config(make_model_config(small_spec("E2B"))), weights(*make_dummy_text_weights(config, 1)) {
    for (const TextTensor& t : text_tensors(config.text)) {
      if (!t.used()) continue;
      const ConstTensorView* view = find_text_view(*weights, t);
      tensors.push_back({"model.language_model." + t.name, view ? *view : ConstTensorView(&one, DType::kBf16, {1})});
    }
  }
  NamedTensor& at(std::string_view name) {
    for (NamedTensor& t : tensors)
      if (t.name == name) return t;
    ADD_FAILURE() << name;
    return tensors[0];
  }
  Result<std::shared_ptr<const TextWeights>> load() {
    EXPECT_TRUE(write_safetensors(folder / "model.safetensors", tensors));
    return load_text_weights(folder.path(), config);
  }
  void expect_error(Errc code, std::vector<std::string> says) {
    const auto loaded = load();
    ASSERT_FALSE(loaded);
    EXPECT_EQ(loaded.error().code, code) << loaded.error().message;
    EXPECT_THAT(loaded.error().message, HasSubstr(folder.path().string()));
    for (const auto& text : says) EXPECT_THAT(loaded.error().message, HasSubstr(text));
  }
  void add(std::string name, DType type, Shape shape) {
    tensors.push_back({name, ConstTensorView(zeros, type, shape)});
  }

  Bf16 one{1.0f};
  char zeros[512 * 32 * 8] = {};
  TempFolder folder;
  ModelConfig config;
  std::shared_ptr<const TextWeights> weights;
  std::vector<NamedTensor> tensors;
};

TEST_F(ChangedCheckpoint, UnchangedLoads) { EXPECT_TRUE(load()); }

TEST_F(ChangedCheckpoint, MissingTensor) {
  std::erase_if(tensors, [](auto& t) { return t.name.ends_with("layers.3.self_attn.q_norm.weight"); });
  expect_error(Errc::kCorruptFile, {"\"model.language_model.layers.3.self_attn.q_norm.weight\" is missing;"});
  std::erase_if(tensors, [](auto& t) { return t.name.ends_with("layer_scalar"); });
  expect_error(Errc::kCorruptFile, {"is missing (and 10 others)"});
}

TEST_F(ChangedCheckpoint, EverythingElseOnly) {
  tensors.clear();
  add("model.vision_tower.x", DType::kF32, {1});
  expect_error(Errc::kCorruptFile, {"model.language_model.embed_tokens.weight"});
}

TEST_F(ChangedCheckpoint, ExtraTensor) {
  add("model.language_model.layers.10.layer_scalar", DType::kBf16, {1});
  expect_error(Errc::kCorruptFile, {"layers.10.layer_scalar", "[1]", "10 layers", "model.safetensors"});
  tensors.pop_back();
  add("something.else", DType::kBf16, {2, 3});
  expect_error(Errc::kCorruptFile, {"something.else", "[2, 3]"});
}

TEST_F(ChangedCheckpoint, TensorsOfEncodersAndUnusedKvAreAccepted) {
  add("model.vision_tower.encoder.layers.0.mlp.gate_proj.input_min", DType::kBf16, {});
  add("model.embed_vision.embedding_projection.weight", DType::kF32, {32, 4});
  add("model.audio_tower.output_proj.bias", DType::kBf16, {4});
  add("model.embed_audio.embedding_projection.weight", DType::kBf16, {32, 4});
  add("model.vision_embedder.pos_embedding", DType::kBf16, {4, 2, 8});
  add("model.language_model.layers.5.self_attn.k_proj.weight", DType::kBf16, {16, 32});
  add("model.language_model.layers.5.self_attn.k_norm.weight", DType::kBf16, {16});
  add("lm_head.weight", DType::kBf16, {512, 32});
  const auto loaded = load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_FALSE((*loaded)->layers[5].k_proj);
  EXPECT_EQ((*loaded)->size_bytes, weights->size_bytes);
}

TEST_F(ChangedCheckpoint, UnusedKvMustFitToo) {
  add("model.language_model.layers.5.self_attn.k_proj.weight", DType::kBf16, {16, 31});
  expect_error(Errc::kCorruptFile, {"layers.5.self_attn.k_proj.weight", "[16, 31]", "[16, 32]"});
}

TEST_F(ChangedCheckpoint, AnotherHeadIsRefused) {
  add("lm_head.weight", DType::kBf16, {511, 32});
  expect_error(Errc::kCorruptFile, {"lm_head.weight"});
}

TEST_F(ChangedCheckpoint, WrongShape) {
  at("model.language_model.norm.weight").view.shape = {31};
  at("model.language_model.norm.weight").view.row_stride = 31;
  expect_error(Errc::kCorruptFile, {"\"model.language_model.norm.weight\"", "[31]", "asks for [32]"});
  at("model.language_model.norm.weight").view = ConstTensorView(zeros, DType::kBf16, {1, 32});
  expect_error(Errc::kCorruptFile, {"[1, 32]", "asks for [32]"});
}

TEST_F(ChangedCheckpoint, WrongType) {
  at("model.language_model.layers.2.mlp.up_proj.weight").view.dtype = DType::kF16;
  expect_error(Errc::kUnsupported, {"layers.2.mlp.up_proj.weight", "F16", "supported: BF16"});
  at("model.language_model.layers.2.mlp.up_proj.weight").view =
      ConstTensorView(zeros, DType::kF32, at("model.language_model.layers.2.mlp.up_proj.weight").view.shape);
  expect_error(Errc::kUnsupported, {"F32"});
}

TEST_F(ChangedCheckpoint, EveryCutIsRefused) {
  ASSERT_TRUE(load());
  const std::string file = folder.read("model.safetensors");
  for (size_t n = 0; n < file.size(); n += 1 + file.size() / 97) {
    folder.write("model.safetensors", file.substr(0, n));
    EXPECT_FALSE(load_text_weights(folder.path(), config)) << n;
  }
}

TEST_F(ChangedCheckpoint, OddAddressesAreCopied) {
  ASSERT_TRUE(load());
  // The same file with one more blank in the header: every tensor begins at an odd byte.
  const std::string file = folder.read("model.safetensors");
  const auto header = parse_safetensors(std::as_bytes(std::span(file)), "");
  ASSERT_TRUE(header);
  const auto begin = static_cast<size_t>(header->data_begin);
  folder.write("model.safetensors", safetensors(file.substr(8, begin - 8) + " ", file.substr(begin)));
  const auto loaded = load_text_weights(folder.path(), config);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(reinterpret_cast<uintptr_t>((*loaded)->norm.data) % 2, 0u);
  EXPECT_EQ(std::memcmp((*loaded)->embed_tokens.data, weights->embed_tokens.data, 512 * 32 * 2), 0);
  EXPECT_EQ((*loaded)->layers[9].layer_scalar, 1.0f);
}

TEST_F(ChangedCheckpoint, ViewsOutliveTheCall) {
  auto loaded = load();
  ASSERT_TRUE(loaded);
  const std::shared_ptr<const TextWeights> kept = *loaded;
  loaded = Error{};
  std::filesystem::remove(folder / "model.safetensors");
  EXPECT_EQ(std::memcmp(kept->norm.data, weights->norm.data, 64), 0);
}

// Checkpoints made by the reference tool, where the environment names a folder of them.
TEST(OracleCheckpoints, Load) {
  const char* root = std::getenv("CARAT_ORACLE_DIR");
  if (!root) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set";
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    ++count;
    const auto config = load_model_config(entry.path());
    ASSERT_TRUE(config) << config.error().message;
    const auto loaded = load_text_weights(entry.path(), *config);
    ASSERT_TRUE(loaded) << loaded.error().message;
    for (const LayerWeights& layer : (*loaded)->layers) {
      EXPECT_GE(layer.layer_scalar, 0.8f);
      EXPECT_LE(layer.layer_scalar, 1.2f);
      EXPECT_TRUE(layer.q_proj);
    }
  }
  EXPECT_GT(count, 0);
}

}  // namespace
}  // namespace carat
