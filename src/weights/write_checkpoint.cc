#include <deque>
#include <fstream>

#include "base/str.h"
#include "tensor/bf16.h"
#include "weights/safetensors.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

constexpr std::string_view kTextOfMultimodal = "model.language_model.", kTextOnly = "model.";

Result<void> write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text << "\n";
  out.close();
  if (!out) return Error{Errc::kIo, str_cat(path.string(), ": cannot be written")};
  return {};
}

std::string digits5(size_t number) {
  const std::string digits = std::to_string(number);
  return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

using Shard = std::vector<NamedTensor>;

std::vector<Shard> cut_into_shards(std::vector<NamedTensor> tensors, int64_t shard_bytes) {
  std::vector<Shard> shards(1);
  int64_t used = 0;
  for (NamedTensor& tensor : tensors) {
    const int64_t bytes = tensor.view.size_bytes();
    if (used + bytes > shard_bytes && !shards.back().empty()) {
      shards.emplace_back();
      used = 0;
    }
    used += bytes;
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

Result<void> write_shards(const std::filesystem::path& folder, const std::vector<Shard>& shards) {
  if (shards.size() == 1) return write_safetensors(folder / "model.safetensors", shards[0]);
  Json map = Json::object();
  int64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = str_cat("model-", digits5(i + 1), "-of-", digits5(shards.size()), ".safetensors");
    CARAT_TRY_VOID(write_safetensors(folder / name, shards[i]));
    for (const NamedTensor& tensor : shards[i]) {
      map.as_object().emplace_back(tensor.name, name);
      total += tensor.view.size_bytes();
    }
  }
  const Json index =
      Json::object({{"metadata", Json::object({{"total_size", total}})}, {"weight_map", std::move(map)}});
  return write_text(folder / "model.safetensors.index.json", index.dump());
}

}  // namespace

Result<void> write_checkpoint(const std::filesystem::path& folder, const ModelConfig& config,
                              const TextWeights& weights, int64_t shard_bytes, ConfigLayout layout) {
  std::error_code ec;
  std::filesystem::create_directories(folder, ec);
  if (ec) return Error{Errc::kIo, str_cat(folder.string(), ": cannot be made: ", ec.message())};
  ModelConfig written = config;
  written.vision.reset();  // no weights for them
  written.audio.reset();
  CARAT_TRY_VOID(write_text(folder / "config.json", to_config_json(written, layout).dump()));
  CARAT_TRY_VOID(write_text(folder / "generation_config.json", to_generation_json(config.generation).dump()));

  const std::string_view prefix = config.model_type.ends_with("_text") ? kTextOnly : kTextOfMultimodal;
  std::deque<Bf16> scalars;  // views need addresses that stay
  std::vector<NamedTensor> tensors;
  for (const TextTensor& t : text_tensors(config.text)) {
    if (!t.used()) continue;
    if (const ConstTensorView* view = find_text_view(weights, t)) {
      tensors.push_back({str_cat(prefix, t.name), *view});
      continue;
    }
    scalars.emplace_back(weights.layers[static_cast<size_t>(*t.layer)].layer_scalar);
    tensors.push_back({str_cat(prefix, t.name), ConstTensorView(&scalars.back(), DType::kBf16, {1})});
  }
  return write_shards(folder, cut_into_shards(std::move(tensors), shard_bytes));
}

}  // namespace carat
