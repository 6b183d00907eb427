#pragma once
// For this folder's tests: a folder that goes away, hand-made safetensors, small models.

#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/str.h"
#include "config/members.h"
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

}  // namespace carat::testing_support
