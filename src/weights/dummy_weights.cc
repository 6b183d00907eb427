// Seeded random weights. Laws: the embedding is small and the final norm large, so that the input token does not win
// the tied head; layer 0 adds about unit RMS to the residual stream and later layers less, so that bf16 noise is not
// amplified from layer to layer; attention scores have a standard deviation of 1.4 and logits one of 4.5 before the
// soft cap. Control tokens have small embedding rows, so that greedy decoding rarely ends by itself.
//
// Values are drawn by quantile: 12 bits of a counter-based generator choose one of 4096 equally likely values of the
// tensor's law, rounded to bf16. A chunk of any tensor can be drawn alone, so the order and number of threads do not
// matter; and a look-up of 12 bits from a table of 8 KB runs at the speed at which memory can be touched first.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string_view>
#include <thread>

#include "base/str.h"
#include "base/worker_pool.h"
#include "tensor/bf16.h"
#include "weights/host_memory.h"
#include "weights/text_weights.h"

namespace carat {
namespace {

constexpr size_t kQuantiles = 4096;
using Table = std::array<Bf16, kQuantiles>;

struct Law {
  enum class Kind { kNormal, kUniform } kind;
  double a, b;  // mean and standard deviation, or ends
};

Law normal(double deviation) { return {Law::Kind::kNormal, 0, deviation}; }
/// A multiplier around `mean`.
Law gain(double mean) { return {Law::Kind::kNormal, mean, 0.25 * mean}; }
Law uniform(double low, double high) { return {Law::Kind::kUniform, low, high}; }

constexpr double kLogitDeviation = 4.5, kScoreDeviation = 1.4, kRouterDeviation = 3.0, kQuiet = 0.2;

/// RMS of the scaled embedding rows.
double embedding_rms(const TextConfig& c) { return 0.6 / std::sqrt(c.hidden_size); }

Law law_of(const TextTensor& t, const TextConfig& c) {
  const std::string_view role = t.role;
  const bool first = t.layer == 0;
  const auto is = [&](std::string_view name) { return role == name; };
  const double fan_in = static_cast<double>(t.shape[t.shape.rank() - 1]);
  if (is("embed_tokens.weight")) return normal(embedding_rms(c) / std::sqrt(c.hidden_size));
  if (is("norm.weight")) return gain(kLogitDeviation / embedding_rms(c));
  if (is("embed_tokens_per_layer.weight")) return normal(1 / std::sqrt(c.ple_size));
  if (is("per_layer_model_projection.weight")) return normal(1);  // the model divides by sqrt(H)
  if (is("post_attention_layernorm.weight")) return gain(first ? 0.6 : 0.3);
  if (is("post_feedforward_layernorm.weight")) return gain(first ? 1.0 : 0.4);
  if (is("post_per_layer_input_norm.weight")) return gain(0.4);
  if (is("post_feedforward_layernorm_2.weight")) return gain(0.5);  // the experts' share beside the dense MLP
  if (is("layer_scalar")) return uniform(0.85, 1.1);
  if (is("self_attn.q_norm.weight") || is("self_attn.k_norm.weight"))
    return gain(std::sqrt(kScoreDeviation / std::sqrt(fan_in)));  // scores are q.k without 1/sqrt(D)
  if (is("router.proj.weight")) return normal(kRouterDeviation);  // the model divides by sqrt(H)
  if (is("router.per_expert_scale")) return uniform(0.5, 1.5);
  if (is("mlp.gate_proj.weight") || is("mlp.up_proj.weight") || is("experts.gate_up_proj"))
    return normal(1.4 / std::sqrt(fan_in));
  if (t.shape.rank() == 1) return gain(1);  // the other norms and router.scale
  return normal(1 / std::sqrt(fan_in));     // the other projections
}

/// The standard normal's quantiles at (i + 1/2) / kQuantiles.
const std::array<double, kQuantiles>& normal_quantiles() {
  static const auto table = [] {
    std::array<double, kQuantiles> out;
    for (size_t i = 0; i < kQuantiles / 2; ++i) {
      const double p = (static_cast<double>(i) + 0.5) / kQuantiles;
      double low = -6, high = 0;
      for (int step = 0; step < 60; ++step) {
        const double middle = (low + high) / 2;
        (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
      }
      out[i] = low;
      out[kQuantiles - 1 - i] = -low;
    }
    return out;
  }();
  return table;
}

Table make_table(const Law& law, double scale = 1) {
  Table table;
  for (size_t i = 0; i < kQuantiles; ++i) {
    const double u = (static_cast<double>(i) + 0.5) / kQuantiles;
    const double x =
        law.kind == Law::Kind::kNormal ? law.a + law.b * normal_quantiles()[i] : law.a + (law.b - law.a) * u;
    table[i] = Bf16(static_cast<float>(x * scale));
  }
  return table;
}

/// Frozen, unlike base/hash.h: stored expectations depend on it. Source: Steele, Lea, Flood 2014, "Fast splittable
/// pseudorandom number generators", the finaliser of SplitMix64.
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t stream_key(uint64_t seed, std::string_view name) {
  uint64_t key = mix(seed + 0x9e3779b97f4a7c15u);
  for (const char c : name) key = mix(key ^ static_cast<unsigned char>(c));
  return key;
}

/// Random bits for values 4 * block to 4 * block + 3, 16 each.
uint64_t block_bits(uint64_t key, int64_t block) {
  return mix(key + 0x9e3779b97f4a7c15u * static_cast<uint64_t>(block));
}

/// out[i] for i in [begin, end) as values i of the stream; begin is a multiple of 4.
void draw(const Table& table, uint64_t key, int64_t begin, int64_t end, Bf16* out) {
  int64_t i = begin;
  for (; i + 4 <= end; i += 4) {
    const uint64_t bits = block_bits(key, i / 4);
    for (int j = 0; j < 4; ++j) out[i + j] = table[(bits >> (16 * j)) & (kQuantiles - 1)];
  }
  for (; i < end; ++i) out[i] = table[(block_bits(key, i / 4) >> (16 * (i % 4))) & (kQuantiles - 1)];
}

/// Rows [first, last] of the vocabulary that hold control tokens: where the end tokens lie and before (these
/// vocabularies begin with them), and from the first media token on.
std::set<TokenId> quiet_tokens(const ModelConfig& config) {
  const GenerationConfig& g = config.generation;
  std::set<TokenId> quiet(g.suppress_token_ids.begin(), g.suppress_token_ids.end());
  quiet.insert(g.pad_token_id);
  if (g.bos_token_id) quiet.insert(*g.bos_token_id);
  const MediaTokenIds& m = config.media;
  TokenId first_media = config.text.vocab_size;
  for (const auto& id : {m.image, m.video, m.audio, m.boi, m.eoi, m.boa, m.eoa})
    if (id) first_media = std::min(first_media, *id);
  const TokenId last_end = g.eos_token_ids.empty() ? -1 : g.eos_token_ids.back();
  // A vocabulary arranged in another way: only the tokens themselves.
  if (last_end >= config.text.vocab_size / 2 || first_media < config.text.vocab_size / 2) {
    quiet.insert(g.eos_token_ids.begin(), g.eos_token_ids.end());
    return quiet;
  }
  for (TokenId id = 0; id <= last_end; ++id) quiet.insert(id);
  for (TokenId id = first_media; id < config.text.vocab_size; ++id) quiet.insert(id);
  return quiet;
}

struct Stream {
  uint64_t key;
  Law law;
  Bf16* data;
  int64_t count;
};

/// Pieces of at most kChunk values over all streams, so that threads stay busy to the end.
constexpr int64_t kChunk = 1 << 20;
struct Piece {
  size_t stream;
  int64_t begin, end;
};

void fill(const std::vector<Stream>& streams) {
  std::vector<Table> tables;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < streams.size(); ++i) {
    tables.push_back(make_table(streams[i].law));
    for (int64_t at = 0; at < streams[i].count; at += kChunk)
      pieces.push_back({i, at, std::min(at + kChunk, streams[i].count)});
  }
  WorkerPool pool(static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1u, 64u)));
  pool.parallel_for(static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const Piece& p = pieces[static_cast<size_t>(i)];
      draw(tables[p.stream], streams[p.stream].key, p.begin, p.end, streams[p.stream].data);
    }
  });
}

void quieten(const ModelConfig& config, const Stream& embedding) {
  const Table table = make_table(embedding.law, kQuiet);
  const int64_t width = config.text.hidden_size;
  for (const TokenId id : quiet_tokens(config))
    for (int64_t i = id * width; i < (id + 1) * width; ++i)
      embedding.data[i] = table[(block_bits(embedding.key, i / 4) >> (16 * (i % 4))) & (kQuantiles - 1)];
}

/// Tensors begin at multiples of a cache line.
int64_t padded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

Result<std::shared_ptr<const TextWeights>> make_dummy_text_weights(const ModelConfig& config, uint64_t seed) {
  const auto tensors = text_tensors(config.text);
  int64_t needed = 0;
  for (const TextTensor& t : tensors)
    if (t.used()) needed += padded(t.size_bytes());
  const auto available = available_memory_bytes();
  if (available && needed > *available)
    return Error{Errc::kOverloaded,
                 str_cat("seeded weights of this model (", config.variant, ") need ", needed, " bytes of memory (",
                         format_bytes(needed), "), available are ", *available, " (", format_bytes(*available), ")")};
  CARAT_TRY(Buffer memory, Buffer::allocate(needed));
  auto owner = std::make_shared<const Buffer>(std::move(memory));
  auto weights = std::make_shared<TextWeights>();
  weights->layers.resize(static_cast<size_t>(config.text.num_layers));
  weights->owner = owner;

  std::vector<Stream> streams;
  std::byte* at = owner->data();
  for (const TextTensor& t : tensors) {
    if (!t.used()) continue;
    auto* data = reinterpret_cast<Bf16*>(at);
    streams.push_back({stream_key(seed, t.name), law_of(t, config.text), data, t.shape.num_elements()});
    if (ConstTensorView* view = find_text_view(*weights, t)) *view = ConstTensorView(data, DType::kBf16, t.shape);
    weights->size_bytes += t.size_bytes();
    at += padded(t.size_bytes());
  }
  fill(streams);
  quieten(config, streams[0]);  // embed_tokens comes first
  size_t stream = 0;
  for (const TextTensor& t : tensors) {
    if (!t.used()) continue;
    if (t.role == "layer_scalar")
      weights->layers[static_cast<size_t>(*t.layer)].layer_scalar = static_cast<float>(*streams[stream].data);
    ++stream;
  }
  return std::shared_ptr<const TextWeights>(std::move(weights));
}

}  // namespace carat
