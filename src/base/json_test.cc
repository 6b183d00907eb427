#include "base/json.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "base/str.h"

namespace carat {
namespace {

using testing::HasSubstr;

Json parsed(std::string_view text) {
  auto result = parse_json(text);
  EXPECT_TRUE(result) << text << ": " << (result ? "" : result.error().message);
  return result ? *result : Json("refused");
}
std::string refused(std::string_view text, const JsonLimits& limits = {}) {
  auto result = parse_json(text, limits);
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, Errc::kInvalidArgument);
  return result.error().message;
}
std::string number(double value) {
  std::string out;
  append_json_double(out, value);
  return out;
}
std::string json_text(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(Json, RoundTripKeepsOrderAndKinds) {
  for (const char* text :
       {"null", "true", "false", "0", "-1", "9223372036854775807", "-9223372036854775808", "1.0", "[]", "{}", "\"\"",
        R"({"b":1,"a":[1,2.5,"x",null,{"c":{}}],"":false})", "[[[]],[]]", "123456789012345678901234567890",
        "-18446744073709551616", "[18446744073709551615,9223372036854775808]", R"({"n":99999999999999999999,"m":1})"})
    EXPECT_EQ(parsed(text).dump(), text);
  EXPECT_EQ(parsed(" [ 1 , 2 ]\n").dump(), "[1,2]");
  EXPECT_EQ(parsed(R"({"a":[1,{}],"b":[]})").dump_spaced(), R"({"a": [1, {}], "b": []})");
  EXPECT_EQ(parsed("-0").dump(), "0");
  EXPECT_EQ(parsed("-0.0").dump(), "-0.0");
  EXPECT_EQ(parsed("1E2").dump(), "100.0");
  EXPECT_NE(parsed("1"), parsed("1.0"));
}

TEST(Json, IntegersOfAnySize) {
  EXPECT_TRUE(parsed("9223372036854775807").is_int());
  EXPECT_EQ(parsed("9223372036854775808").kind(), Json::Kind::kBigInt);
  EXPECT_DOUBLE_EQ(parsed("123456789012345678901234567890").as_double(), 123456789012345678901234567890.0);
  EXPECT_EQ(parsed(std::string(400, '9')).as_double(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(parsed("-" + std::string(400, '9')).as_double(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(parsed(std::string(4300, '9')).dump().size(), 4300u);
  EXPECT_THAT(refused(std::string(4301, '9')), HasSubstr("4301 digits"));
  EXPECT_THAT(refused("[01234567890123456789012]"), HasSubstr("byte 1"));
}

TEST(Json, NumberText) {
  const std::pair<double, const char*> cases[] = {{0.0, "0.0"},
                                                  {-0.0, "-0.0"},
                                                  {1.0, "1.0"},
                                                  {0.1, "0.1"},
                                                  {100.0, "100.0"},
                                                  {1e-4, "0.0001"},
                                                  {1e-5, "1e-05"},
                                                  {1e-7, "1e-07"},
                                                  {1.5e-7, "1.5e-07"},
                                                  {1e15, "1000000000000000.0"},
                                                  {1e16, "1e+16"},
                                                  {1e20, "1e+20"},
                                                  {1.25e100, "1.25e+100"},
                                                  {123456.789, "123456.789"},
                                                  {-2.5, "-2.5"},
                                                  {1.0 / 3.0, "0.3333333333333333"},
                                                  {12345678901234567.0, "1.2345678901234568e+16"},
                                                  {9007199254740993.0, "9007199254740992.0"},
                                                  {5e-324, "5e-324"},
                                                  {std::numeric_limits<double>::max(), "1.7976931348623157e+308"},
                                                  {0.00012345, "0.00012345"},
                                                  {9.999e15, "9999000000000000.0"},
                                                  {std::numeric_limits<double>::infinity(), "null"},
                                                  {std::nan(""), "null"}};
  for (const auto& [value, text] : cases) EXPECT_EQ(number(value), text);
}

TEST(Json, StringText) {
  EXPECT_EQ(json_text(""), "\"\"");
  EXPECT_EQ(json_text("plain text, longer than a word"), "\"plain text, longer than a word\"");
  EXPECT_EQ(json_text("\"\\/\b\f\n\r\t"), R"("\"\\/\b\f\n\r\t")");
  EXPECT_EQ(json_text(std::string_view("\0\x01\x0f\x10\x1f\x7f", 6)), "\"\\u0000\\u0001\\u000f\\u0010\\u001f\x7f\"");
  EXPECT_EQ(json_text("żółw 🐢 \xFF\xE2\x82 end"), "\"żółw 🐢 \uFFFD\uFFFD end\"");
  EXPECT_EQ(json_text("\xF0\x9F"), "\"\uFFFD\"");
  for (int c = 0; c < 256; ++c)  // at each place of a word
    for (int at = 0; at < 17; ++at) {
      std::string text(17, 'x');
      text[static_cast<size_t>(at)] = static_cast<char>(c);
      const Json back = parsed(json_text(text));
      if (c < 0x80)
        EXPECT_EQ(back.as_string(), text);
      else
        EXPECT_THAT(back.as_string(), HasSubstr("\uFFFD"));
    }
}

TEST(Json, ReadsEscapes) {
  EXPECT_EQ(parsed(R"("\u00e9\ud83d\udc22\n\/")").as_string(), "é🐢\n/");
  EXPECT_EQ(parsed(R"({"a\u0062":1})").find("ab")->as_int(), 1);
  EXPECT_EQ(parsed(R"("a\u0000b")").as_string(), std::string("a\0b", 3));
}

TEST(Json, RepeatedKeyKeepsFirstPlaceAndLastValue) {
  EXPECT_EQ(parsed(R"({"a":1,"b":2,"a":3,"c":4,"a":5,"b":[6]})").dump(), R"({"a":5,"b":[6],"c":4})");
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"k" + std::to_string(i % 100000) + "\":" + std::to_string(i) + ",";
  text.back() = '}';
  const Json value = parsed(text);
  ASSERT_EQ(value.size(), 100000u);
  EXPECT_EQ(value.as_object()[7].first, "k7");
  EXPECT_EQ(value.as_object()[7].second.as_int(), 100007);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           " ",
                           "[",
                           "]",
                           "{",
                           "}",
                           "[1",
                           "[1,",
                           "[1,]",
                           "[,1]",
                           "[1 2]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{\"a\" 1}",
                           "{,}",
                           "{a:1}",
                           "{1:2}",
                           "nul",
                           "nulll",
                           "truee",
                           "tru",
                           "falsey",
                           "NaN",
                           "Infinity",
                           "-Infinity",
                           "-",
                           "+1",
                           "01",
                           "-01",
                           "1.",
                           ".5",
                           "1e",
                           "1e+",
                           "0x10",
                           "1_000",
                           "'a'",
                           "\"a",
                           "\"a\\\"",
                           "\"\\x\"",
                           "\"\\u12\"",
                           "\"\\u12g4\"",
                           "\"\\ud800\"",
                           "\"\\ud800\\u0041\"",
                           "\"\n\"",
                           "\"\t\"",
                           "1 2",
                           "1,2",
                           "[] []",
                           "{}{}",
                           "1][2",
                           "[1],[2]",
                           "]",
                           "[1]]",
                           "{}}",
                           "\xEF\xBB\xBF{}",
                           "\"\xFF\"",
                           "\"\xED\xA0\x80\"",
                           "1e400",
                           "// c\n1",
                           "[1}",
                           "{\"a\":1]",
                           ",",
                           ":",
                           "{\"a\":1:2}",
                           "[\"a\":1]",
                           "\"a\" \"b\"",
                           "[1,,2]",
                           "{\"a\":1,,\"b\":2}",
                           "12345678901234567890x",
                           "123456789012345678901e",
                           "123456789012345678901 2",
                           "{\"a\":nul}",
                           "[tru]",
                           "[truefalse]",
                           "[\"a\"\"b\"]",
                           "[1\"a\"]",
                           "[{}{}]",
                           "{\"a\":[}"})
    EXPECT_NE(refused(text), "accepted") << text;
}

TEST(Json, ErrorsSayWhatAndWhere) {
  EXPECT_THAT(refused("{\"a\": 1,\n \"b\": nope}"), HasSubstr("line 2, column 7 (byte 15)"));
  EXPECT_THAT(refused("[\"ab\xFF\"]"), HasSubstr("not valid UTF-8 at line 1, column 5 (byte 4)"));
  EXPECT_THAT(refused(""), HasSubstr("empty"));
  EXPECT_THAT(refused("[1] x"), HasSubstr("byte 4"));
  EXPECT_THAT(refused("\"abc"), HasSubstr("not closed"));
}

TEST(Json, DepthLimit) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(parsed(nested(128)).dump(), nested(128));
  EXPECT_THAT(refused(nested(129)), HasSubstr("deeper than 128"));
  EXPECT_THAT(refused(nested(100000)), HasSubstr("deeper than 128"));
  EXPECT_THAT(refused("[[1]]", {.max_depth = 1}), HasSubstr("deeper than 1 "));
  EXPECT_THAT(refused("[{\"a\":1}]", {.max_depth = 1}), HasSubstr("deeper than 1 "));
  EXPECT_EQ(refused("[1]", {.max_depth = 1}), "accepted");
  EXPECT_EQ(refused("1", {.max_depth = 0}), "accepted");
  std::string objects;
  constexpr int kDeep = 500;  // a build with AddressSanitizer has 10 KB of frames a level
  for (int i = 0; i < kDeep; ++i) objects += "{\"a\":";
  EXPECT_EQ(refused(objects + "1" + std::string(kDeep, '}'), {.max_depth = kDeep}), "accepted");
}

TEST(Json, SinksTakeElements) {
  std::string seen;
  const auto note = [&](std::string_view key, Json value) -> Result<void> {
    seen += str_cat(key, "=", value.dump(), ";");
    return {};
  };
  const JsonSink sinks[] = {{".m.vocab", note}, {".m.list", note}};
  const auto rest = parse_json(
      R"({"vocab":[1],"m":{"vocab":{"a":1,"b":{"vocab":2},"a":3},"list":[[1,[2]],"x"],"k":[{"vocab":4}]},"l":[{"m":{"list":[5]}}]})",
      sinks);
  ASSERT_TRUE(rest);
  EXPECT_EQ(seen, R"(a=1;b={"vocab":2};a=3;=[1,[2]];="x";)");
  EXPECT_EQ(rest->dump(), R"({"vocab":[1],"m":{"vocab":{},"list":[],"k":[{"vocab":4}]},"l":[{"m":{"list":[5]}}]})");
  const JsonSink picky[] = {{".a", [](std::string_view, Json) -> Result<void> {
                               return Error{Errc::kCorruptFile, "no such thing"};
                             }}};
  EXPECT_EQ(parse_json(R"({"a":[1]})", picky).error().message, "no such thing");
  EXPECT_TRUE(parse_json(R"({"a":[]})", picky));
}

TEST(Json, EditsValues) {
  Json value;
  value.set("a", 1).truthy();
  value.set("b", Json::array({1, "x", nullptr, true, 2.5}));
  value.set("a", "again");
  EXPECT_EQ(value.dump(), R"({"a":"again","b":[1,"x",null,true,2.5]})");
  value.find("b")->push_back(Json::object({{"k", 1}}));
  value.erase("a");
  EXPECT_EQ(value.dump(), R"({"b":[1,"x",null,true,2.5,{"k":1}]})");
  EXPECT_EQ(value.find("missing"), nullptr);
  EXPECT_EQ(Json(5).find("a"), nullptr);
  Json list;
  list.push_back(1);
  EXPECT_EQ(list.dump(), "[1]");
  EXPECT_EQ(Json(std::numeric_limits<uint64_t>::max()).dump(), "18446744073709551615");
  EXPECT_DEATH(Json("x").as_int(), "wanted integer, found string");
}

TEST(Json, TruthAndKindNames) {
  for (const char* text : {"null", "false", "0", "0.0", "-0.0", "\"\"", "[]", "{}"})
    EXPECT_FALSE(parsed(text).truthy()) << text;
  for (const char* text : {"true", "1", "0.5", "\"0\"", "[0]", "{\"a\":null}", "99999999999999999999"})
    EXPECT_TRUE(parsed(text).truthy());
  EXPECT_EQ(parsed("99999999999999999999").kind_name(), "integer");
  EXPECT_EQ(parsed("1.5").kind_name(), "number");
  EXPECT_EQ(parsed("[]").kind_name(), "array");
}

}  // namespace
}  // namespace carat
