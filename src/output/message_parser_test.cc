#include "output/message_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/str.h"
#include "tokenizer/testing.h"

namespace carat {

void PrintTo(const MessagePart& part, std::ostream* out) {
  static constexpr std::array<std::string_view, 4> kNames = {"reasoning", "content", "name", "arguments"};
  *out << kNames[static_cast<size_t>(part.kind)] << " " << part.call_idx << " " << ::testing::PrintToString(part.text);
}

namespace {

using Kind = MessagePart::Kind;
using Start = MessageParserOptions::Start;
using Parts = std::vector<MessagePart>;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::string marked(std::string_view text) {
  MarkerScanner scanner;
  std::string out;
  scanner.push(text, out);
  scanner.finish(out);
  return out;
}

MessagePart reasoning(std::string text) { return {Kind::kReasoning, 0, std::move(text)}; }
MessagePart content(std::string text) { return {Kind::kContent, 0, std::move(text)}; }
MessagePart name(int call_idx, std::string text) { return {Kind::kCallName, call_idx, std::move(text)}; }
MessagePart arguments(int call_idx, std::string text) { return {Kind::kCallArguments, call_idx, std::move(text)}; }

/// The message as the vectors have it; a call that was cut off has arguments "".
Json collected(const Parts& parts) {
  const Message message = collect_message(parts);
  Json calls = Json::array();
  for (const Message::Call& call : message.calls)
    calls.push_back(Json::object({{"name", call.name}, {"arguments", call.arguments.value_or("")}}));
  return Json::object(
      {{"reasoning_content", message.reasoning}, {"content", message.content}, {"tool_calls", std::move(calls)}});
}

Parts parse_pieces(const MessageParserOptions& options, const std::vector<std::string>& pieces, bool truncated) {
  MessageParser parser(options);
  Parts parts;
  for (const std::string& piece : pieces) parser.push(piece, parts);
  parser.finish(truncated, parts);
  return parts;
}

// ---- The shared vectors

struct Vector {
  std::string label;
  MessageParserOptions options;
  std::vector<std::string> chunks;
  bool truncated = false;
  Json wanted;
  Json events;  ///< per chunk, then of the end
};

Vector read_vector(const std::string& line) {
  const Json json = *parse_json(line, {256});
  Vector v;
  v.label = json.find("name")->as_string();
  for (const Json& chunk : json.find("chunks")->as_array()) v.chunks.push_back(chunk.as_string());
  v.truncated = json.find("stop")->as_string() == "length";
  v.wanted = *json.find("required");
  v.events = *json.find("required_events");
  if (json.find("thinking")->as_bool()) v.options.start = Start::kUndecided;
  if (json.find("open_channel")->as_bool()) v.options.start = Start::kThought;
  const Json& tools = *json.find("tools");
  if (tools.is_null()) return v;
  v.options.parse_calls = true;
  ToolSchemas schemas;
  for (const Json& tool : tools.as_array()) {
    const Json* parameters = tool.find("parameters");
    schemas[tool.find("name")->as_string()] = parameters ? *parameters : Json();
  }
  v.options.tools = std::make_shared<const ToolSchemas>(std::move(schemas));
  return v;
}

std::vector<Vector> read_vectors() {
  std::ifstream file(std::filesystem::path(CARAT_SOURCE_DIR) / "../shared/spec/vectors/vectors-parsers.jsonl");
  std::vector<Vector> vectors;
  for (std::string line; std::getline(file, line);) vectors.push_back(read_vector(line));
  return vectors;
}

std::string whole_text(const Vector& v) {
  std::string text;
  for (const std::string& chunk : v.chunks) text += chunk;
  return text;
}

Json event_json(const MessagePart& part) {
  switch (part.kind) {
    case Kind::kReasoning:
      return Json::array({"R", part.text});
    case Kind::kContent:
      return Json::array({"C", part.text});
    case Kind::kCallName:
      return Json::array({"N", part.call_idx, part.text});
    case Kind::kCallArguments:
      return Json::array({"A", part.call_idx, part.text});
  }
  return nullptr;
}

Json events_json(const Parts& parts) {
  Json out = Json::array();
  for (const MessagePart& part : parts) out.push_back(event_json(part));
  return out;
}

class Vectors : public ::testing::Test {
 protected:
  void SetUp() override {
    if (vectors.empty()) GTEST_SKIP() << "the shared vectors are not beside this checkout";
    ASSERT_EQ(vectors.size(), 88u);
  }
  const std::vector<Vector> vectors = read_vectors();
};

TEST_F(Vectors, TellWhatIsCertainAfterEachChunk) {
  for (const Vector& v : vectors) {
    SCOPED_TRACE(v.label);
    MarkerScanner scanner;
    MessageParser parser(v.options);
    Json told = Json::array();
    Parts all;
    const auto push = [&](const std::string& piece) {
      Parts parts;
      parser.push(piece, parts);
      return parts;
    };
    for (const std::string& chunk : v.chunks) {
      std::string piece;
      scanner.push(chunk, piece);
      told.push_back(events_json(push(piece)));
    }
    std::string piece;
    scanner.finish(piece);
    Parts parts = push(piece);
    parser.finish(v.truncated, parts);
    told.push_back(events_json(parts));
    EXPECT_EQ(told.dump(), v.events.dump());
  }
}

TEST_F(Vectors, GiveTheSamePartsHoweverTheyAreCut) {
  std::mt19937 random(1);
  for (const Vector& v : vectors) {
    SCOPED_TRACE(v.label);
    const std::string text = marked(whole_text(v));
    const Parts whole = parse_message(v.options, text, v.truncated);
    EXPECT_EQ(collected(whole).dump(), v.wanted.dump());
    std::vector<std::string> bytes;
    for (const char c : text) bytes.emplace_back(1, c);
    EXPECT_EQ(parse_pieces(v.options, bytes, v.truncated), whole);
    for (size_t cut = 0; cut <= text.size(); ++cut)
      EXPECT_EQ(parse_pieces(v.options, {text.substr(0, cut), text.substr(cut)}, v.truncated), whole);
    for (int i = 0; i < 50; ++i) {
      std::vector<std::string> pieces(1);
      for (const char c : text) {
        if (random() % 4 == 0) pieces.emplace_back();
        pieces.back() += c;
      }
      EXPECT_EQ(parse_pieces(v.options, pieces, v.truncated), whole);
    }
  }
}

TEST_F(Vectors, MarkersAreFoundInTextCutAnywhere) {
  for (const Vector& v : vectors) {
    SCOPED_TRACE(v.label);
    const std::string text = whole_text(v);
    MarkerScanner scanner;
    std::string by_byte;
    for (const char c : text) scanner.push(std::string_view(&c, 1), by_byte);
    scanner.finish(by_byte);
    EXPECT_EQ(by_byte, marked(text));
    EXPECT_EQ(spelled(by_byte), text);
  }
}

TEST_F(Vectors, AreReadFromTheTokensOfTheRealVocabulary) {
  const auto json = carat::testing::unpack_whole_tokenizer(CARAT_SOURCE_DIR);
  if (!json) GTEST_SKIP() << "the whole tokenizer is not beside this checkout";
  const auto tokenizer = std::move(*Tokenizer::parse(*json, ""));
  const MarkerIds markers(*tokenizer);
  for (const Vector& v : vectors) {
    SCOPED_TRACE(v.label);
    const auto tokens = tokenizer->encode(whole_text(v));
    for (const size_t step : {size_t{1}, size_t{2}, size_t{5}, tokens.size()}) {
      TextStream stream(*tokenizer, {.markers = markers.all()});
      MessageParser parser(v.options);
      Parts parts;
      const auto add = [&](const TextStream::Delta& delta) {
        std::string piece;
        markers.append_marked(piece, delta);
        parser.push(piece, parts);
      };
      for (size_t at = 0; at < tokens.size(); at += step)
        add(stream.push(std::span(tokens).subspan(at, std::min(step, tokens.size() - at))));
      add(stream.finish());
      parser.finish(v.truncated, parts);
      EXPECT_EQ(collected(parts).dump(), v.wanted.dump()) << "in steps of " << step;
    }
  }
}

// ---- Our own cases

MessageParserOptions native(Start start = Start::kContent) {
  MessageParserOptions options;
  options.parse_calls = true;
  options.start = start;
  return options;
}

Parts parse(const MessageParserOptions& options, std::string_view text, bool truncated = false) {
  return parse_message(options, marked(text), truncated);
}

TEST(MessageParser, TellsThoughtTextAndCallsInTheirOrder) {
  EXPECT_THAT(parse(native(Start::kUndecided),
                    "<|channel>thought\nHm.<channel|>I look.<|tool_call>call:f{a:1}<tool_call|><|tool_call>call:g{}"
                    "<tool_call|>\n<|channel>thought\nWell.<channel|>Done"),
              ElementsAre(reasoning("Hm."), content("I look."), name(0, "f"), arguments(0, R"({"a": 1})"), name(1, "g"),
                          arguments(1, "{}"), reasoning("Well."), content("\nDone")));
}

TEST(MessageParser, KeepsThoughtsInTheTextUnlessTheyAreToBeSeparated) {
  MessageParserOptions options = native(Start::kUndecided);
  options.separate_reasoning = false;
  EXPECT_THAT(parse(options, "<|channel>thought\nHm.<channel|>Yes<|tool_call>call:f{}<tool_call|>"),
              ElementsAre(content("<|channel>thought\nHm.<channel|>Yes"), name(0, "f"), arguments(0, "{}")));
}

TEST(MessageParser, HoldsAThoughtBackUntilItEndsIfAsked) {
  MessageParserOptions options = native();
  options.stream_reasoning = false;
  MessageParser parser(options);
  Parts parts;
  parser.push(marked("<|channel>thought\nOne "), parts);
  parser.push("two", parts);
  EXPECT_THAT(parts, IsEmpty());
  parser.push(marked("<channel|>"), parts);
  EXPECT_THAT(parts, ElementsAre(reasoning("One two")));
  parser.push(marked("<|channel>thought\nThree"), parts);
  parser.finish(true, parts);
  EXPECT_THAT(parts, ElementsAre(reasoning("One twoThree")));
}

TEST(MessageParser, ACallThatWasCutOffStaysWithoutArguments) {
  const auto cut = "<|tool_call>call:f{a:<|\"|>x";
  EXPECT_THAT(parse(native(), cut, true), ElementsAre(name(0, "f")));
  EXPECT_THAT(parse(native(), cut, false), ElementsAre(name(0, "f"), arguments(0, R"({"a": "x"})")));
}

TEST(MessageParser, SpelledMarkersAreTextWhereTokensAreKnown) {
  EXPECT_THAT(parse_message(native(), "<|tool_call>call:f{}<tool_call|>", false),
              ElementsAre(content("<|tool_call>call:f{}<tool_call|>")));
}

// ---- Arguments

std::string read_arguments(std::string_view body, const char* schema = "null") {
  MessageParserOptions options = native();
  options.tools = std::make_shared<const ToolSchemas>(ToolSchemas{{"f", *parse_json(schema)}});
  const Message message = collect_message(parse(options, str_cat("<|tool_call>call:f{", body, "}<tool_call|>")));
  return message.calls.size() == 1 && message.content.empty() ? message.calls[0].arguments.value_or("none") : "no call";
}

TEST(ToolArguments, ScalarsAreReadAsPythonReadsThem) {
  EXPECT_EQ(
      read_arguments("a:true,b:null,c:-5,d:2.50,e:1e5,f:007,g:+3,h:.5,i:5.,j:1_000,k:-0,l:1E-5"),
      R"({"a": true, "b": null, "c": -5, "d": 2.5, "e": 100000.0, "f": 7, "g": 3, "h": 0.5, "i": 5.0, "j": 1000, )"
      R"("k": 0, "l": 1e-05})");
  EXPECT_EQ(read_arguments("a:0x1F,b:nan,c:1.0e999,d:1__0,e:--1,f:1e,g:True"),
            R"({"a": "0x1F", "b": "nan", "c": "1.0e999", "d": "1__0", "e": "--1", "f": "1e", "g": "True"})");
  EXPECT_EQ(read_arguments("a:123456789012345678901234567890,b:1e-400"),
            R"({"a": 123456789012345678901234567890, "b": 0.0})");
  EXPECT_EQ(read_arguments("a:" + std::string(4301, '9')), R"({"a": ")" + std::string(4301, '9') + "\"}");
}

TEST(ToolArguments, BareValuesOfTextPropertiesStayText) {
  constexpr auto kSchema =
      R"({"properties":{"s":{"type":"string"},"o":{"properties":{"s":{"type":"string"}}},"l":{"items":{"type":"string"}},)"
      R"("u":{"type":["string","null"]}}})";
  EXPECT_EQ(read_arguments("s:1,o:{s:true,t:2},l:[3,[4]],u:5", kSchema),
            R"({"s": "1", "o": {"s": "true", "t": 2}, "l": ["3", [4]], "u": 5})");
}

TEST(ToolArguments, JsonAndPythonLiteralsAreDecoded) {
  EXPECT_EQ(read_arguments(R"(a:"x\n\u00e9\ud83d\ude00\"",b:'it\'s',c:"a,b}")"),
            R"({"a": "x\né😀\"", "b": "it's", "c": "a,b}"})");
  EXPECT_EQ(read_arguments(R"(a:"\q",b:"x"y,c:"\ud800")"), R"({"a": "\"\\q\"", "b": "\"x\"y", "c": ")"
                                                           "\xEF\xBF\xBD"
                                                           R"("})");
}

TEST(ToolArguments, EqualKeysKeepTheFirstPlaceAndTheLastValue) {
  EXPECT_EQ(read_arguments("a:1,b:2,a:{c:3,c:4}"), R"({"a": {"c": 4}, "b": 2})");
}

TEST(ToolArguments, ForgottenQuotesAreFound) {
  EXPECT_EQ(read_arguments("q:Paris, France<|\"|>,n:5"), R"({"q": "Paris, France", "n": 5})");
  EXPECT_EQ(read_arguments("t:<|\"|>code }],path:<|\"|>f.txt<|\"|>"), R"({"t": "code }]", "path": "f.txt"})");
  EXPECT_EQ(read_arguments("t:<|\"|>say <|\"|>hi<|\"|> now<|\"|>"), R"({"t": "say \"hi\" now"})");
}

TEST(ToolArguments, WhatFollowsMayShowAnEarlierValueInAnotherLight) {
  EXPECT_EQ(read_arguments("o:{a:foo,b:{c:1},d:2<|\"|>}"), R"({"o": {"a": "foo,b:{c:1},d:2"}})");
  EXPECT_EQ(read_arguments("o:{'a:{x:1},y':2}"), R"({"o": {"a:{x:1},y": 2}})");
}

TEST(ToolArguments, NestingIsBounded) {
  const auto nested = [](size_t depth) { return "a:" + std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(read_arguments(nested(ToolArgumentReader::kMaxDepth - 1)),
            "{\"a\": " + std::string(ToolArgumentReader::kMaxDepth - 1, '[') +
                std::string(ToolArgumentReader::kMaxDepth - 1, ']') + "}");
  EXPECT_EQ(read_arguments(nested(ToolArgumentReader::kMaxDepth)), "{}");
  EXPECT_EQ(read_arguments(nested(1000000)), "{}");
}

/// The seconds that a stream of `text`, cut into pieces, takes.
double seconds_to_parse(std::string_view text) {
  const std::string input = marked(text);
  const auto start = std::chrono::steady_clock::now();
  MessageParser parser(native());
  Parts parts;
  for (size_t at = 0; at < input.size(); at += 7) parser.push(std::string_view(input).substr(at, 7), parts);
  parser.finish(false, parts);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(MessageParser, TakesLinearTime) {
  // Each of these made a reader that begins anew, or searches to the end for what is not there, quadratic.
  const auto repeat = [](std::string_view text, size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += text;
    return out;
  };
  const std::string_view q = "<|\"|>";
  const std::vector<std::pair<std::string, std::string>> shapes = {
      {str_cat("<|tool_call>call:f{a:", q), "}"},
      {"<|tool_call>call:f{a:", "{x:1}"},
      {"<|tool_call>call:f{", "a:foo,o:{b:1},"},
      {"<|tool_call>call:f{", "'a:\"b,o:{c:1},"},
      {"<|tool_call>call:f{a:[", "\"x'}"},
      {"<|tool_call>call:f{a:[", "{"},
      {str_cat("<|tool_call>call:f{a:", q), str_cat(q, " ")},
      {"<|tool_call>call:f{a:[", str_cat("b ", q, "}")},
      {"<|tool_call>call:f{a:[[", "\\\"}, "},
      {"<|tool_call>call:f(", "{a=1)"},
      {"<|tool_call>call:", "f "},
      {"<|tool_call>call:f{", "k:1,"},
      {"", "<|tool_call>call:f{}<tool_call|>"},
      {"", "<|channel>"},
      {"<|tool_call>call:f{a:1}<tool_call|>", " "},
      {"<|tool_call>call:f{a:[[", "<tool_call|>}"}};
  for (const auto& [head, body] : shapes) {
    SCOPED_TRACE(str_cat(head, " ", body));
    const double small = seconds_to_parse(head + repeat(body, 64 << 10));
    const double large = seconds_to_parse(head + repeat(body, 1 << 20));
    EXPECT_LT(large, 16 * 6 * small + 0.2);  // a quadratic one takes 256 times as long
    EXPECT_LT(large, 10);
  }
}

}  // namespace
}  // namespace carat
