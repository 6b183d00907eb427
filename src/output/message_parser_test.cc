#include "output/message_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "base/str.h"

namespace carat {

void PrintTo(const MessagePart& part, std::ostream* out) {
  static constexpr std::array<std::string_view, 4> kNames = {"reasoning", "content", "name", "arguments"};
  *out << kNames[static_cast<size_t>(part.kind)] << " " << part.call_idx << " " << testing::PrintToString(part.text);
}

namespace {

using Kind = MessagePart::Kind;
using Calls = MessageParserOptions::Calls;
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

/// What a client's view of a message is: each kind put together.
struct Message {
  std::string reasoning, content;
  std::vector<std::pair<std::string, std::string>> calls;
  bool operator==(const Message&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Message& message) {
  out << "{R " << message.reasoning << " | C " << message.content;
  for (const auto& [called, args] : message.calls) out << " | " << called << " " << args;
  return out << "}";
}

Message collect(const Parts& parts) {
  Message message;
  for (const MessagePart& part : parts) {
    switch (part.kind) {
      case Kind::kReasoning:
        message.reasoning += part.text;
        break;
      case Kind::kContent:
        message.content += part.text;
        break;
      case Kind::kCallName:
        EXPECT_EQ(part.call_idx, static_cast<int>(message.calls.size()));
        message.calls.emplace_back(part.text, "");
        break;
      case Kind::kCallArguments:
        message.calls.at(static_cast<size_t>(part.call_idx)).second = part.text;
        break;
    }
  }
  return message;
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
  Message wanted;
  Json events;  ///< per chunk, then of the end
};

Message wanted_message(const Json& json) {
  Message message{json.find("reasoning_content")->as_string(), json.find("content")->as_string(), {}};
  for (const Json& call : json.find("tool_calls")->as_array())
    message.calls.emplace_back(call.find("name")->as_string(), call.find("arguments")->as_string());
  return message;
}

Vector read_vector(const std::string& line) {
  const Json json = *parse_json(line, {256});
  Vector v;
  v.label = json.find("name")->as_string();
  for (const Json& chunk : json.find("chunks")->as_array()) v.chunks.push_back(chunk.as_string());
  v.truncated = json.find("stop")->as_string() == "length";
  v.wanted = wanted_message(*json.find("required"));
  v.events = *json.find("required_events");
  if (json.find("thinking")->as_bool()) v.options.start = Start::kUndecided;
  if (json.find("open_channel")->as_bool()) v.options.start = Start::kThought;
  const Json& tools = *json.find("tools");
  if (tools.is_null()) return v;
  v.options.calls = Calls::kNative;
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

class Vectors : public testing::Test {
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
    EXPECT_EQ(collect(whole), v.wanted);
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

// ---- Our own cases

MessageParserOptions native(Start start = Start::kContent) {
  MessageParserOptions options;
  options.calls = Calls::kNative;
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

MessageParserOptions required(bool stream) {
  MessageParserOptions options;
  options.calls = Calls::kRequired;
  options.stream_required = stream;
  options.start = Start::kUndecided;
  options.tools = std::make_shared<const ToolSchemas>(ToolSchemas{{"f", {}}, {"g", {}}});
  return options;
}

void expect_required(std::string_view text, const Parts& wanted) {
  SCOPED_TRACE(text);
  const std::string input = marked(text);
  EXPECT_EQ(parse_message(required(false), input, false), wanted);
  for (size_t cut = 0; cut <= input.size(); ++cut)
    EXPECT_EQ(parse_pieces(required(true), {input.substr(0, cut), input.substr(cut)}, false), wanted);
}

TEST(RequiredCalls, AreReadFromAList) {
  expect_required(R"([{"name": "f", "parameters": {"a":[1,2.50],"b":"}\"é"}},)"
                  "\n"
                  R"({"name":"g","parameters":{}}])",
                  {name(0, "f"), arguments(0, R"({"a": [1, 2.5], "b": "}\"é"})"), name(1, "g"), arguments(1, "{}")});
}

TEST(RequiredCalls, FollowAThought) {
  expect_required("<|channel>thought\nf it is<channel|>[{\"name\": \"f\", \"parameters\": {}}]",
                  {reasoning("f it is"), name(0, "f"), arguments(0, "{}")});
}

TEST(RequiredCalls, OneObjectIsAListOfOne) {
  expect_required(R"({"parameters": {"x": null}, "name": "g"})", {name(0, "g"), arguments(0, R"({"x": null})")});
}

TEST(RequiredCalls, OfUnknownFunctionsAreLeftOut) {
  expect_required(R"([{"name": "h", "parameters": {}}, {"name": "f", "parameters": {"name": "g"}}])",
                  {name(0, "f"), arguments(0, R"({"name": "g"})")});
}

TEST(RequiredCalls, WhatIsNoListIsContent) {
  for (const std::string_view text :
       {"Sorry, no.", "[1, 2]", R"([{"name": 5}])", R"([{"name": "h"}])", "{\"nam", "[{}", ""})
    expect_required(text, text.empty() ? Parts{} : Parts{content(std::string(text))});
}

TEST(RequiredCalls, NamesAreToldAsSoonAsTheyAreComplete) {
  MessageParser parser(required(true));
  Parts parts;
  parser.push(R"([{"name": "f")", parts);
  EXPECT_THAT(parts, ElementsAre(name(0, "f")));
  parser.push(R"(, "parameters": {"a": 1)", parts);
  parser.finish(true, parts);
  EXPECT_THAT(parts, ElementsAre(name(0, "f")));
}

TEST(RequiredCalls, CutOffBeforeTheirEndAreContentUnlessStreamed) {
  const std::string text = R"([{"name": "f", "parameters": {"a": 1}}, {"na)";
  EXPECT_THAT(parse_message(required(false), text, true), ElementsAre(content(text)));
  EXPECT_THAT(parse_message(required(true), text, true), ElementsAre(name(0, "f"), arguments(0, R"({"a": 1})")));
}

}  // namespace
}  // namespace carat
