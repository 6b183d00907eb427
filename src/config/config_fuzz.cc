// Any bytes as config.json, and behind a zero byte as generation_config.json: never a crash; what is accepted is
// consistent and survives the way back to JSON.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "config/model_config.h"
#include "config/model_size.h"

namespace carat {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t cut = input.find('\0');
  const auto config = parse_json(input.substr(0, cut));
  if (!config) return 0;
  Result<Json> generation = Error{};
  if (cut != std::string_view::npos) generation = parse_json(input.substr(cut + 1));
  const auto parsed = parse_model_config(*config, generation ? &*generation : nullptr);
  if (!parsed) {
    CARAT_CHECK(!parsed.error().message.empty(), "an error says something");
    return 0;
  }
  const TextConfig& text = parsed->text;
  CARAT_CHECK_EQ(text.layers.size(), static_cast<size_t>(text.num_layers));
  for (const LayerConfig& layer : text.layers) {
    const LayerConfig& source = text.layers[static_cast<size_t>(layer.kv_source)];
    CARAT_CHECK(source.kind == layer.kind && source.head_dim == layer.head_dim, "a source fits its reader");
    CARAT_CHECK_EQ(layer.num_heads % layer.num_kv_heads, 0);
  }
  CARAT_CHECK(model_size(*parsed).total() > 0 && kv_read_bytes(text, text.max_position_embeddings) > 0,
              "sizes do not overflow");
  const auto again = parse_model_config(to_config_json(*parsed, ConfigLayout::kPerLayer), nullptr);
  CARAT_CHECK(again.has_value(), again ? "" : again.error().message);
  CARAT_CHECK(again->text == text, "the way back loses nothing");
  return 0;
}

}  // namespace carat
