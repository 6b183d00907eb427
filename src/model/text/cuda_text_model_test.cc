// The CUDA decoder's tensors, layer by layer, against the host's on miniatures of all five members: names the first
// operation that differs.
#include "model/text/cuda_text_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>

#include "base/str.h"
#include "model/media_encoder_testing.h"
#include "model/text/cuda_testing.h"
#include "model/text/text_model_testing.h"
#include "tensor/bf16.h"
#include "tensor/cuda/device.h"
#include "tensor/cuda/gpu_info.h"

namespace carat {
namespace {

class CudaTextModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void compare(const std::vector<MediaSpan>& media);
};

TEST_P(CudaTextModelTest, LayersMatchTheHosts) { compare({}); }

TEST_P(CudaTextModelTest, LayersOfPromptsWithMediaMatchTheHosts) {
  compare({{5, testing::fake_input(1, 40)},
           {45, testing::fake_input(2, 1, EncoderInput::Kind::kVideoFrame)},
           {50, testing::fake_input(3, 12, EncoderInput::Kind::kAudio)},
           {63, testing::fake_input(4, 27)}});
}

void CudaTextModelTest::compare(const std::vector<MediaSpan>& media) {
  const auto gpus = list_gpus();
  if (!gpus || gpus->empty()) GTEST_SKIP() << "no GPU on this machine";
  ASSERT_TRUE(cuda::use_device(0));
  const char* root = std::getenv("CARAT_TEST_ROOT");
  auto config = load_model_config(str_cat(root ? root : CARAT_SOURCE_DIR, "/tests/golden/", GetParam()));
  ASSERT_TRUE(config) << config.error().message;
  const auto weights = testing::calm_weights(*config, 1);
  constexpr int kTokens = 90, kPages = 2;
  std::vector<TokenId> tokens;
  std::mt19937 random(5);
  for (int i = 0; i < kTokens; ++i)
    tokens.push_back(static_cast<TokenId>(random() % 300));  // below the placeholders, which the caller maps
  const auto items = testing::soft_items(media, config->text);
  std::vector<int32_t> soft_rows(kTokens, -1), last_keys(kTokens);
  std::iota(last_keys.begin(), last_keys.end(), 0);
  std::vector<Bf16> soft_values;
  for (const testing::SoftItem& item : items) {
    std::fill_n(tokens.begin() + item.begin, item.num_tokens, 0);
    const auto width = static_cast<size_t>(config->text.hidden_size);
    std::iota(soft_rows.begin() + item.begin, soft_rows.begin() + item.end(),
              static_cast<int32_t>(soft_values.size() / width));
    soft_values.insert(soft_values.end(), item.values.begin(), item.values.end());
    if (item.block) std::fill(last_keys.begin() + item.begin, last_keys.begin() + item.end(), item.end() - 1);
  }

  std::map<std::string, std::vector<Bf16>> host;
  testing::TextModelDriver::Options o;
  o.max_logit_rows = 128;
  testing::TextModelDriver driver(*config, weights, o);
  driver.model().set_observer([&](std::string_view name, int layer, ConstTensorView v) {
    auto& out = host[str_cat(name, " ", layer)];
    for (int64_t r = 0; r < v.num_rows(); ++r) {
      const auto* row = static_cast<const Bf16*>(v.data) + r * v.row_stride;
      out.insert(out.end(), row, row + v.last_dim());
    }
  });
  driver.set_media(0, items);
  driver.step({{0, tokens, true}});

  const auto limits = cuda::device_limits().value();
  auto stream = cuda::Stream::create().value();
  auto model = CudaTextModel::create(
                   config->text, CudaTextWeights::upload(config->text, *weights, PleTable::kDevice, nullptr).value(),
                   128, 128, limits.num_sms)
                   .value();
  const auto workspace = cuda::DeviceBuffer::allocate(cuda::workspace_bytes(limits.num_sms)).value();
  stream.fill(workspace.data(), 0, workspace.size());
  CudaKvPool pools[2];
  std::vector<cuda::DeviceBuffer> memory;
  const auto upload = [&](const void* data, int64_t bytes) {
    memory.push_back(cuda::DeviceBuffer::allocate(bytes).value());
    stream.copy_to_device(memory.back().data(), data, bytes);
    stream.synchronize();
    return memory.back().data();
  };
  for (int kind = 0; kind < 2; ++kind) {
    CudaKvPool& pool = pools[kind];
    pool.page_bytes = model->page_bytes(static_cast<AttentionKind>(kind));
    memory.push_back(cuda::DeviceBuffer::allocate(kPages * pool.page_bytes).value());
    pool.data = memory.back().data();
    const int32_t table[kPages] = {1, 0};
    pool.table = static_cast<const int32_t*>(upload(table, sizeof table));
    pool.table_stride = pool.ring = kPages;
  }
  std::vector<int32_t> positions, slots(kTokens, 0);
  for (int i = 0; i < kTokens; ++i) positions.push_back(i);
  CudaStep step;
  step.all.num_rows = kTokens;
  step.all.ids = static_cast<const int32_t*>(upload(tokens.data(), 4 * kTokens));
  step.all.positions = static_cast<const int32_t*>(upload(positions.data(), 4 * kTokens));
  step.all.slots = static_cast<const int32_t*>(upload(slots.data(), 4 * kTokens));
  if (!items.empty()) {
    step.all.soft = {upload(soft_values.data(), static_cast<int64_t>(2 * soft_values.size())),
                     static_cast<const int32_t*>(upload(soft_rows.data(), 4 * kTokens))};
    step.all.last_keys = static_cast<const int32_t*>(upload(last_keys.data(), 4 * kTokens));
  }
  step.logit_rows = step.all.positions;
  step.num_logits = kTokens;
  for (int kind = 0; kind < 2; ++kind) {
    std::vector<cuda::AttentionTile> tiles;
    const int per = model->prefill_tile_tokens(static_cast<AttentionKind>(kind));
    for (int at = 0; at < kTokens; at += per) tiles.push_back({0, at, std::min(per, kTokens - at), at});
    step.all.num_prefill_tiles[kind] = static_cast<int>(tiles.size());
    step.all.prefill_tiles[kind] = static_cast<const cuda::AttentionTile*>(
        upload(tiles.data(), static_cast<int64_t>(tiles.size() * sizeof(cuda::AttentionTile))));
  }
  cuda::Launch launch;
  launch.stream = stream.handle();
  launch.num_sms = limits.num_sms;
  launch.workspace = workspace.data();
  int failures = 0;
  model->set_observer([&](const char* name, int layer, const void* data, int rows, int columns) {
    const auto& want = host[str_cat(name, " ", layer)];
    if (failures >= 4) return;
    std::vector<Bf16> got(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    stream.copy_to_host(got.data(), data, static_cast<int64_t>(2 * got.size()));
    stream.synchronize();
    ASSERT_EQ(got.size(), want.size()) << name << " " << layer;
    double error = 0, size = 0, worst = 0;
    size_t at = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      const double g = static_cast<float>(got[i]), w = static_cast<float>(want[i]);
      error += (g - w) * (g - w);
      size += w * w;
      if (!(std::abs(g - w) <= worst)) worst = std::abs(g - w), at = i;
    }
    const double relative = std::sqrt(error / size);
    // Each layer may add a bf16 rounding's worth of noise, which random weights carry on.
    const bool bad = !(relative < 0.01 + 0.01 * (layer + 1));
    failures += bad;
    EXPECT_FALSE(bad) << GetParam() << " " << name << " of layer " << layer << ": relative error " << relative
                      << ", worst at row " << at / static_cast<size_t>(columns) << " column "
                      << at % static_cast<size_t>(columns) << ": " << static_cast<float>(got[at]) << ", host "
                      << static_cast<float>(want[at]);
  });
  model->forward(launch, step, pools[1], pools[0]);
  stream.synchronize();
  EXPECT_FALSE(cuda::device_failure()) << cuda::device_failure()->message;
}

INSTANTIATE_TEST_SUITE_P(Members, CudaTextModelTest, ::testing::Values("e2b", "e4b", "12b", "26b-a4b", "31b"),
                         [](const auto& param) {
                           std::string name = param.param;
                           for (char& c : name)
                             if (c == '-') c = '_';
                           return name;
                         });

}  // namespace
}  // namespace carat
