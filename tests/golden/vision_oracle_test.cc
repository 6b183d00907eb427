// Pictures through all of our own steps against Transformers: the bytes of its processor, its towers' layers, its soft
// tokens. Needs what oracle_test.cc needs.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>

#include "base/str.h"
#include "base/worker_pool.h"
#include "golden_file.h"
#include "golden_media.h"
#include "model/vision/vision_model.h"
#include "tensor/bf16.h"

namespace carat {
namespace {

using testing::Difference;
using testing::EncoderInputs;
using testing::golden_frames;
using testing::golden_images;
using testing::GoldenFile;

struct PromptName {
  const char *file, *name;
};
constexpr PromptName kPrompts[] = {{"media", "image"}, {"media", "images"}, {"media", "mixed"}, {"video", "video"}};

struct Picture {
  std::string patches, positions;  // in the file
  std::shared_ptr<const EncoderInput> input;
};

class VisionOracleTest : public ::testing::TestWithParam<std::tuple<const char*, ops::Backend>> {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("CARAT_ORACLE_DIR");
    if (!folder) GTEST_SKIP() << "CARAT_ORACLE_DIR is not set: no comparison with Transformers' tensors";
    const std::filesystem::path checkpoint = str_cat(folder, "/ck/", member());
    config_ = load_model_config(checkpoint).value();
    weights_ = load_vision_weights(checkpoint, config_).value();
    for (const char* file : {"media", "video"})
      golden_.emplace(file, str_cat(folder, "/golden/", member(), "-", file, ".safetensors"));
  }
  const char* member() const { return std::get<0>(GetParam()); }
  ops::Backend backend() const { return std::get<1>(GetParam()); }
  const GoldenFile& file(const PromptName& prompt) const { return golden_.at(prompt.file); }
  bool has(const PromptName& prompt) const {
    // The truth would take long for the video's 32 frames.
    if (backend() == ops::Backend::kRef && std::string_view(prompt.file) == "video") return false;
    return file(prompt).has(str_cat(prompt.name, "/input_ids"));
  }

  std::vector<Picture> pictures(const PromptName& prompt) const {
    std::vector<Picture> out;
    const auto add = [&](const char* kind, const EncoderInputs& inputs) {
      for (size_t i = 0; i < inputs.size(); ++i) {
        const std::string name = str_cat(prompt.name, "/", kind, ".", i);
        out.push_back({name + ".patches", name + ".positions", inputs[i]});
      }
    };
    add("image", golden_images(file(prompt), prompt.name, config_));
    add("video.frame", golden_frames(file(prompt), prompt.name, config_));
    return out;
  }

  ModelConfig config_;
  std::shared_ptr<const VisionWeights> weights_;
  std::map<std::string, GoldenFile, std::less<>> golden_;
};

TEST_P(VisionOracleTest, ThePixelsAreTheProcessors) {
  if (backend() == ops::Backend::kRef) GTEST_SKIP() << "no backend takes part";
  int count = 0;
  for (const PromptName& prompt : kPrompts) {
    if (!has(prompt)) continue;
    for (const Picture& p : pictures(prompt)) {
      const auto patches = file(prompt).floats(p.patches);
      ASSERT_EQ(patches.size(), p.input->pixels.size());
      const bool image = p.input->kind == EncoderInput::Kind::kImage;
      for (size_t i = 0; i < patches.size(); ++i) {
        const float byte = p.input->pixels[i];
        ASSERT_EQ(patches[i], image ? byte * static_cast<float>(1.0 / 255) : byte / 255) << p.patches << " " << i;
      }
      const auto positions = file(prompt).ints(p.positions);  // x, y
      for (size_t i = 0; i < positions.size(); ++i) {
        const int patch = static_cast<int>(i / 2), width = p.input->grid_width;
        ASSERT_EQ(positions[i], i % 2 == 0 ? patch % width : patch / width) << p.positions << " " << i;
      }
      ++count;
    }
  }
  EXPECT_EQ(count, (config_.audio ? 4 : 3) + 32);
}

TEST_P(VisionOracleTest, LayersAndSoftTokens) {
  WorkerPool pool(2);
  ops::Context ctx{backend(), &pool};
  const auto model = VisionModel::create(config_, weights_, config_.vision->max_soft_tokens()).value();
  const int64_t width = config_.text.hidden_size;
  std::map<std::string, Difference> by_name;
  for (const PromptName& prompt : kPrompts) {
    if (!has(prompt)) continue;
    const std::string bf16 = str_cat(prompt.name, "/bf16/"), f32 = str_cat(prompt.name, "/f32/");
    const auto compare = [&](const std::string& name, size_t first, std::span<const Bf16> values) {
      const auto want = file(prompt).floats(bf16 + name), exact = file(prompt).floats(f32 + name);
      Difference here, noise;
      for (size_t i = 0; i < values.size(); ++i) {
        here.add(static_cast<float>(values[i]), want.at(first + i));
        noise.add(want[first + i], exact.at(first + i));
      }
      by_name[name].add(here);
      // What bf16 costs the reference. Sums in another order cost it two thirds of that (docs/numerics.md).
      EXPECT_LE(here.relative_rms(), noise.relative_rms()) << prompt.name << " " << name;
    };
    const auto all = pictures(prompt);
    const int64_t padded = file(prompt).shape(bf16 + "embed_vision")[0];
    int64_t total = 0, row = 0;
    for (const Picture& p : all) total += p.input->num_tokens;
    for (const Picture& p : all) {
      const bool first = &p == &all.front();  // the reference's layers are stored of the first picture alone
      model->set_observer([&](std::string_view name, int layer, ConstTensorView value) {
        if (first && name == "out")
          compare(str_cat("vision.", layer, ".out"), 0,
                  {static_cast<const Bf16*>(value.data), static_cast<size_t>(value.shape.num_elements())});
      });
      std::vector<Bf16> soft(static_cast<size_t>(p.input->num_tokens * width));
      const EncoderInput* const input = p.input.get();
      model->encode(ctx, {&input, 1}, {soft.data(), DType::kBf16, {p.input->num_tokens, width}});
      compare("embed_vision", static_cast<size_t>(row * width), soft);
      row += padded == total ? p.input->num_tokens : padded / std::ssize(all);
    }
    EXPECT_EQ(row, padded);
  }
  for (const auto& [name, d] : by_name) {
    std::cout << "  " << member() << (backend() == ops::Backend::kRef ? " ref " : " cpu ") << name << ": "
              << d.to_string() << "\n";
  }
}

std::string case_name(const ::testing::TestParamInfo<std::tuple<const char*, ops::Backend>>& info) {
  std::string name = str_cat(std::get<0>(info.param), std::get<1>(info.param) == ops::Backend::kRef ? "_ref" : "_cpu");
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Members, VisionOracleTest,
                         ::testing::Combine(::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                                            ::testing::Values(ops::Backend::kRef, ops::Backend::kCpu)),
                         case_name);

}  // namespace
}  // namespace carat
