#pragma once
// A small tokenizer for tests, made in code, and the whole one where the shared folder has it.

#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/str.h"
#include "tokenizer/tokenizer.h"

namespace carat::testing {

/// The JSON of a tokenizer: <pad> <eos> <bos> <unk> as ids 0..3, byte pieces from 4 on, then `pieces`. `merges` are
/// pairs with a space between them. Tests change what they like before they dump it.
inline Json make_tokenizer_json(const std::vector<std::string>& pieces, const std::vector<std::string>& merges) {
  JsonObject vocab;
  const auto add = [&](std::string piece) { vocab.emplace_back(std::move(piece), Json(vocab.size())); };
  JsonArray added;
  for (const char* name : {"<pad>", "<eos>", "<bos>", "<unk>"}) {
    added.push_back(Json::object({{"id", vocab.size()}, {"content", name}, {"special", true}}));
    add(name);
  }
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    add(name);
  }
  for (const auto& piece : pieces) add(piece);
  JsonArray merge_list;
  for (const auto& merge : merges) {
    const auto parts = split(merge, ' ');
    merge_list.push_back(Json::array({parts[0], parts[1]}));
  }
  const auto replace = [](const char* from, const char* to) {
    return Json::object({{"type", "Replace"}, {"pattern", Json::object({{"String", from}})}, {"content", to}});
  };
  return Json::object(
      {{"added_tokens", std::move(added)},
       {"normalizer", replace(" ", "▁")},
       {"pre_tokenizer", nullptr},
       {"post_processor", nullptr},
       {"decoder", Json::object({{"type", "Sequence"},
                                 {"decoders", Json::array({replace("▁", " "), Json::object({{"type", "ByteFallback"}}),
                                                           Json::object({{"type", "Fuse"}})})}})},
       {"model", Json::object({{"type", "BPE"},
                               {"byte_fallback", true},
                               {"vocab", std::move(vocab)},
                               {"merges", std::move(merge_list)}})}});
}

/// The tokenizer.json of the shared folder beside the checkout, unpacked; nothing where that is absent.
inline std::optional<std::string> unpack_whole_tokenizer(const std::filesystem::path& source_dir) {
  const auto packed = source_dir / "../shared/data/tokenizer/tokenizer.json.xz";
  if (!std::filesystem::exists(packed)) return std::nullopt;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(str_cat("xz -dc '", packed.native(), "'").c_str(), "r"),
                                                   ::pclose);
  if (pipe == nullptr) return std::nullopt;
  std::string text;
  std::vector<char> block(1 << 20);
  while (const size_t got = std::fread(block.data(), 1, block.size(), pipe.get())) text.append(block.data(), got);
  if (text.empty()) return std::nullopt;
  return text;
}

}  // namespace carat::testing
