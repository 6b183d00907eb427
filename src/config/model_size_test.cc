#include "config/model_size.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "config/media_tensors.h"
#include "config/members.h"
#include "config/text_tensors.h"

namespace carat {
namespace {

ModelConfig member(std::string_view name) { return make_model_config(published_member(name)); }

// The figures of checkpoints.md sections 4 to 7, column by column.
struct Figures {
  std::string_view name;
  ModelSize size;
  int64_t text, total, decoded_token;
  std::array<int64_t, 2> kv_per_layer, kv_layers;  // sliding, full
  int64_t growth;
  std::array<int64_t, 4> stored;  // at 1024, 8192, 32768, 131072
  std::array<int64_t, 2> read;    // at 8192, 131072
};

const std::array<Figures, 5> kFigures = {{
    {"E2B",
     {.embedding = 805'306'368,
      .ple_table = 4'697'620'480,
      .ple_projection = 27'525'632,
      .ple_layers = 55'050'240,
      .attention = 556'793'856,
      .mlp = 3'114'270'720,
      .norms = 571'462,
      .unused_kv = 37'761'024,
      .vision = 334'730'112,
      .vision_projection = 2'359'296,
      .audio = 609'650'176,
      .audio_projection = 4'718'592},
     9'257'138'758,
     10'246'357'958,
     4'559'539'270,
     {1024, 2048},
     {12, 3},
     6'144,
     {12'582'912, 56'623'104, 207'618'048, 811'597'824},
     {132'120'576, 1'893'728'256}},
    {"E4B",
     {.embedding = 1'342'177'280,
      .ple_table = 5'637'144'576,
      .ple_projection = 55'050'752,
      .ple_layers = 110'100'480,
      .attention = 1'174'405'120,
      .mlp = 6'606'028'800,
      .norms = 1'119'828,
      .unused_kv = 110'111'232,
      .vision = 334'730'112,
      .vision_projection = 3'932'160,
      .audio = 609'650'176,
      .audio_projection = 7'864'320},
     14'926'026'836,
     15'992'314'836,
     9'288'908'884,
     {2048, 4096},
     {20, 4},
     16'384,
     {37'748'736, 155'189'248, 557'842'432, 2'168'455'168},
     {271'581'184, 3'794'796'544}},
    {"12B",
     {.embedding = 2'013'265'920,
      .attention = 4'812'963'840,
      .mlp = 16'986'931'200,
      .norms = 1'539'680,
      .vision = 70'353'408,
      .vision_projection = 29'491'200,
      .audio_projection = 4'915'200},
     23'814'700'640,
     23'919'460'448,
     23'814'708'320,
     {8192, 2048},
     {40, 8},
     16'384,
     {352'321'536, 469'762'048, 872'415'232, 2'483'027'968},
     {469'762'048, 2'483'027'968}},
    {"26B-A4B",
     {.embedding = 1'476'395'008,
      .attention = 2'220'359'680,
      .mlp = 1'070'530'560,
      .router = 21'803'520,
      .experts = 45'675'970'560,
      .norms = 1'224'252,
      .vision = 1'139'100'768,
      .vision_projection = 6'488'064},
     50'466'283'580,
     51'611'872'412,
     7'645'066'812,
     {8192, 4096},
     {25, 5},
     20'480,
     {230'686'720, 377'487'360, 880'803'840, 2'894'069'760},
     {377'487'360, 2'894'069'760}},
    {"31B",
     {.embedding = 2'818'572'288,
      .attention = 16'955'473'920,
      .mlp = 41'617'981'440,
      .norms = 2'663'032,
      .vision = 1'139'100'768,
      .vision_projection = 12'386'304},
     61'394'690'680,
     62'546'177'752,
     61'394'701'432,
     {16384, 8192},
     {50, 10},
     81'920,
     {922'746'880, 1'509'949'440, 3'523'215'360, 11'576'279'040},
     {1'509'949'440, 11'576'279'040}},
}};

class MemberFigures : public testing::TestWithParam<Figures> {};
INSTANTIATE_TEST_SUITE_P(Members, MemberFigures, testing::ValuesIn(kFigures),
                         [](const auto& i) { return "m" + std::string(i.param.name.substr(0, 3)); });

TEST_P(MemberFigures, ParameterBytesAreTheSpecs) {
  const Figures& f = GetParam();
  const ModelConfig config = member(f.name);
  const ModelSize size = model_size(config);
  EXPECT_EQ(size.embedding, f.size.embedding);
  EXPECT_EQ(size.ple_table, f.size.ple_table);
  EXPECT_EQ(size.ple_projection, f.size.ple_projection);
  EXPECT_EQ(size.ple_layers, f.size.ple_layers);
  EXPECT_EQ(size.attention, f.size.attention);
  EXPECT_EQ(size.mlp, f.size.mlp);
  EXPECT_EQ(size.router, f.size.router);
  EXPECT_EQ(size.experts, f.size.experts);
  EXPECT_EQ(size.norms, f.size.norms);
  EXPECT_EQ(size.unused_kv, f.size.unused_kv);
  EXPECT_EQ(size.vision, f.size.vision);
  EXPECT_EQ(size.vision_projection, f.size.vision_projection);
  EXPECT_EQ(size.audio, f.size.audio);
  EXPECT_EQ(size.audio_projection, f.size.audio_projection);
  EXPECT_EQ(size.text(), f.text);
  EXPECT_EQ(size.total(), f.total);
  EXPECT_EQ(bytes_per_decoded_token(config.text), f.decoded_token);
}

TEST_P(MemberFigures, KvBytesAreTheSpecs) {
  const Figures& f = GetParam();
  const TextConfig text = member(f.name).text;
  EXPECT_EQ(kv_bytes_per_token(text, AttentionKind::kSliding), f.kv_per_layer[0] * f.kv_layers[0]);
  EXPECT_EQ(kv_bytes_per_token(text, AttentionKind::kFull), f.kv_per_layer[1] * f.kv_layers[1]);
  EXPECT_EQ(kv_stored_bytes(text, 10001) - kv_stored_bytes(text, 10000), f.growth);
  constexpr std::array<int64_t, 4> kLengths = {1024, 8192, 32768, 131072};
  for (size_t i = 0; i < kLengths.size(); ++i) EXPECT_EQ(kv_stored_bytes(text, kLengths[i]), f.stored[i]);
  EXPECT_EQ(kv_read_bytes(text, 8192), f.read[0]);
  EXPECT_EQ(kv_read_bytes(text, 131072), f.read[1]);
  EXPECT_EQ(kv_stored_bytes(text, 0), 0);
  EXPECT_EQ(kv_stored_bytes(text, 1), f.kv_per_layer[0] * f.kv_layers[0] + f.kv_per_layer[1] * f.kv_layers[1]);
}

TEST(TextTensors, CountsMatchTheFiles) {
  // Totals of section 4 less the towers' tensors: 12B has 10, 26B and 31B 27 * 13 + 2 + 2 + 1.
  EXPECT_EQ(text_tensors(member("12B").text).size(), 677u - 11u);
  EXPECT_EQ(text_tensors(member("31B").text).size(), 1188u - 356u);
  EXPECT_EQ(text_tensors(member("26B-A4B").text).size(), 1013u - 356u);
  const auto tensors = text_tensors(member("E2B").text);
  EXPECT_EQ(tensors.front().name, "embed_tokens.weight");
  EXPECT_EQ(tensors.back().name, "layers.34.layer_scalar");
  EXPECT_EQ(tensors.back().role, "layer_scalar");
  EXPECT_EQ(tensors.back().layer, 34);
}

TEST(AudioTensors, CountsMatchTheFiles) {
  // 12 layers with 10 linears, each with 4 bounds, and 12 other tensors; 7 outside; the projection.
  const auto tensors = audio_tensors(*member("E2B").audio, 1536);
  EXPECT_EQ(tensors.size(), 12u * (10 * 5 + 12) + 7 + 1);
  EXPECT_EQ(std::ranges::count_if(tensors, [](const MediaTensor& t) { return t.shape.rank() == 0; }), 480);
  int64_t parameters = 0;
  for (const MediaTensor& t : tensors) parameters += t.projection ? 0 : t.shape.num_elements();
  EXPECT_EQ(parameters, 304'825'088);
  EXPECT_EQ(audio_tensors(*member("12B").audio, 3840).size(), 1u);
}

TEST(VisionTensors, CountsMatchTheFiles) {
  // Per layer 7 linears with 4 bounds each or none, 4 norms, 2 of heads; 2 of the embedder; the projection.
  const auto small = vision_tensors(*member("E2B").vision, 1536), large = vision_tensors(*member("31B").vision, 5376);
  EXPECT_EQ(small.size(), 16u * (7 * 5 + 6) + 2 + 1);
  EXPECT_EQ(large.size(), 27u * (7 + 6) + 2 + 2 + 1);
  EXPECT_EQ(vision_tensors(*member("12B").vision, 3840).size(), 10u);
  // Sizes of vision.md section 8.
  const auto parameters = [](const std::vector<MediaTensor>& tensors, bool projection) {
    int64_t count = 0;
    for (const MediaTensor& t : tensors) count += t.projection == projection ? t.shape.num_elements() : 0;
    return count;
  };
  EXPECT_EQ(parameters(small, false), 167'365'056);
  EXPECT_EQ(parameters(large, false), 569'550'384);
  EXPECT_EQ(parameters(vision_tensors(*member("12B").vision, 3840), false), 35'176'704);
  EXPECT_EQ(parameters(vision_tensors(*member("12B").vision, 3840), true), 14'745'600);
}

TEST(MediaTensors, WithTextTheyAreTheWholeFile) {
  const std::pair<const char*, size_t> files[] = {
      {"E2B", 2011}, {"E4B", 2130}, {"12B", 677}, {"26B-A4B", 1013}, {"31B", 1188}};
  for (const auto& [name, count] : files) {
    const ModelConfig config = member(name);
    const int64_t hidden = config.text.hidden_size;
    const size_t audio = config.audio ? audio_tensors(*config.audio, hidden).size() : 0;
    EXPECT_EQ(text_tensors(config.text).size() + vision_tensors(*config.vision, hidden).size() + audio, count) << name;
  }
}

}  // namespace
}  // namespace carat
