#pragma once
// For this folder's tests: a folder that goes away, hand-made safetensors, small models.

#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <cstring>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/str.h"
#include "config/members.h"
#include "tensor/bf16.h"
#include "weights/media_weights.h"
#include "weights/safetensors.h"
#include "weights/text_weights.h"

namespace carat::testing_support {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "carat_weights_XXXXXX").string();
    if (!mkdtemp(name.data())) ADD_FAILURE() << "no temporary folder";
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  void write(std::string_view name, std::string_view bytes) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  std::string read(std::string_view name) const {
    std::ifstream in(path_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }

 private:
  std::filesystem::path path_;
};

/// A safetensors file out of a header's text and the data behind it.
inline std::string safetensors(std::string_view header, std::string_view data = "") {
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  return str_cat(file, header, data);
}

/// The published member with everything small; E forms keep KV sharing, double width and per-layer embeddings.
inline MemberSpec small_spec(std::string_view name) {
  MemberSpec s = published_member(name);
  s.hidden_size = 32;
  s.intermediate_size = 48;
  s.num_layers = 2 * (s.sliding_per_full + 1);
  s.num_heads = 4;
  if (s.num_kv_heads > 1) s.num_kv_heads = 2;
  if (s.num_global_kv_heads > 0) s.num_global_kv_heads = 1;
  if (s.num_kv_shared_layers > 0) s.num_kv_shared_layers = s.sliding_per_full + 1;
  if (s.ple_size > 0) s.ple_size = 8;
  if (s.moe.num_experts > 0) s.moe = {.num_experts = 8, .top_k = 2, .intermediate_size = 16};
  s.sliding_window = 16;
  s.vocab_size = 512;
  s.head_dim = 16;
  s.global_head_dim = 32;
  return s;
}

/// E2B's or 12B's configuration with everything small, the conformer tower too.
inline ModelConfig small_hearing_config(std::string_view name) {
  ModelConfig config = make_model_config(small_spec(name));
  if (auto* conformer = std::get_if<ConformerConfig>(&config.audio.value())) {
    conformer->hidden_size = 48;
    conformer->num_layers = 2;
    conformer->num_heads = 3;
    conformer->conv_channels[0] = 8;
    conformer->conv_channels[1] = 4;
    conformer->output_size = 40;
  }
  return config;
}

inline ModelConfig small_seeing_config(std::string_view name) {
  ModelConfig config = make_model_config(small_spec(name));
  if (auto* tower = std::get_if<VisionTowerConfig>(&config.vision.value().encoder)) {
    tower->hidden_size = 48;
    tower->intermediate_size = 56;
    tower->num_layers = 2;
    tower->num_heads = 3;
    tower->position_rows = 210;
  } else {
    std::get<PatchEmbedderConfig>(config.vision->encoder).position_rows = 70;
  }
  return config;
}

/// An encoder's tensors as a file holds them; `scalars` keeps the bounds.
inline std::vector<NamedTensor> encoder_file(const std::vector<MediaTensor>& tensors, const MediaSlots& slots,
                                             std::deque<Bf16>& scalars) {
  std::vector<NamedTensor> out;
  for (const MediaTensor& t : tensors) {
    const MediaSlot& slot = slots.at(t.name);
    if (auto* const* view = std::get_if<ConstTensorView*>(&slot)) {
      out.push_back({"model." + t.name, **view});
    } else {
      scalars.emplace_back(*std::get<float*>(slot));
      out.push_back({"model." + t.name, ConstTensorView(&scalars.back(), DType::kBf16, {})});
    }
  }
  return out;
}

/// Same names, shapes and bytes.
inline void expect_equal_tensors(const std::vector<NamedTensor>& a, const std::vector<NamedTensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    ASSERT_TRUE(a[i].view && b[i].view) << a[i].name;
    EXPECT_TRUE(a[i].view.shape == b[i].view.shape) << a[i].name;
    EXPECT_EQ(std::memcmp(a[i].view.data, b[i].view.data, static_cast<size_t>(a[i].view.size_bytes())), 0) << a[i].name;
  }
}

}  // namespace carat::testing_support
