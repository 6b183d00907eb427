// Requests into types, errors into bodies, answers into text: what needs no server.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "api/access.h"
#include "api/chat_request.h"
#include "api/chat_writer.h"
#include "api/completion_request.h"
#include "api/error_map.h"
#include "api/json_testing.h"
#include "api/native_request.h"
#include "api/native_writer.h"
#include "api/prepare.h"
#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr int kVocab = 1000;

GenerationParams with_limit(std::optional<int64_t> limit) {
  GenerationParams params;
  params.max_new_tokens = limit;
  return params;
}

// ---- fields

TEST(JsonFields, KindsAndNull) {
  const Json body = json(R"({"i": 3, "f": 2.0, "x": 2.5, "b": true, "s": "t", "n": null, "l": ["a"], "o": {}})");
  JsonFields fields(body, "p");
  EXPECT_EQ(fields.integer("i"), 3);
  EXPECT_EQ(fields.integer("f"), 2);
  EXPECT_EQ(fields.number("i"), 3.0);
  EXPECT_EQ(fields.boolean("b"), true);
  EXPECT_EQ(fields.text("s"), "t");
  EXPECT_FALSE(fields.integer("n"));
  EXPECT_THAT(*fields.texts("l"), ElementsAre("a"));
  EXPECT_THAT(*fields.texts("s"), ElementsAre("t"));
  EXPECT_TRUE(fields.status());
  EXPECT_FALSE(fields.integer("x"));
  EXPECT_FALSE(fields.text("i"));  // the first error stays
  EXPECT_EQ(message(fields.status()), "p.x: Input should be an integer of 64 bits, got 2.5");
}

TEST(JsonFields, WrongKinds) {
  const auto error = [](std::string_view text, auto read) {
    const Json body = json(text);
    JsonFields fields(body, "");
    read(fields);
    return message(fields.status());
  };
  EXPECT_EQ(error("[]", [](auto&) {}), "body: Input should be an object, got array");
  EXPECT_EQ(error(R"({"a": 1})", [](auto& f) { f.boolean("a"); }), "a: Input should be a valid boolean, got integer");
  EXPECT_EQ(error(R"({"a": true})", [](auto& f) { f.integer("a"); }),
            "a: Input should be a valid integer, got boolean");
  EXPECT_EQ(error(R"({"a": "1"})", [](auto& f) { f.number("a"); }), "a: Input should be a valid number, got string");
  EXPECT_EQ(error(R"({"a": 7})", [](auto& f) { f.integer("a", 0, 5); }), "a: Input should be between 0 and 5, got 7");
  EXPECT_EQ(error(R"({"a": [1, "x"]})", [](auto& f) { f.ids("a"); }), "a.1: Input should be a token id, got string");
  EXPECT_THAT(error(R"({"a": [99999999999]})", [](auto& f) { f.ids("a"); }), HasSubstr("token id, got 99999999999"));
  EXPECT_THAT(error(R"({"a": 1e300})", [](auto& f) { f.integer("a"); }), HasSubstr("integer of 64 bits, got 1e+300"));
}

// ---- requests

TEST(ChatRequest, LimitsOfTokens) {
  const auto limit = [](std::string_view body) {
    return parse_chat_request(json(body), with_limit(std::nullopt), {})->params.max_new_tokens;
  };
  EXPECT_EQ(limit("{}"), std::nullopt);
  EXPECT_EQ(limit(R"({"max_tokens": 5})"), 5);
  EXPECT_EQ(limit(R"({"max_tokens": 5, "max_completion_tokens": 7})"), 7);
  EXPECT_EQ(limit(R"({"max_tokens": 5, "max_completion_tokens": 0})"), 5);
  EXPECT_EQ(limit(R"({"max_tokens": 0})"), std::nullopt);
}

TEST(ChatRequest, ClientOverModelOverDefault) {
  GenerationConfig generation;
  generation.temperature = 0.7;
  generation.top_p = 0.9;
  generation.top_k = 64;
  GenerationParams defaults = with_limit(std::nullopt);
  defaults.sampling = chat_sampling_defaults(generation, true);
  const auto request =
      parse_chat_request(json(R"({"temperature": 0.2, "top_p": null, "seed": 5, "min_tokens": 2})"), defaults, {});
  EXPECT_FLOAT_EQ(request->params.sampling.temperature, 0.2f);
  EXPECT_FLOAT_EQ(request->params.sampling.top_p, 0.9f);
  EXPECT_EQ(request->params.sampling.top_k, 64);
  EXPECT_EQ(request->params.sampling.seed, 5);
  EXPECT_EQ(request->params.sampling.min_new_tokens, 2);
  EXPECT_EQ(chat_sampling_defaults(generation, false).top_k, -1);
}

TEST(ChatRequest, SpecialTokens) {
  const auto text = [](std::string_view body) {
    return parse_chat_request(json(body), with_limit(1), {100, 101})->params.text;
  };
  EXPECT_TRUE(text("{}").skip_special_tokens);
  EXPECT_THAT(text("{}").markers, ElementsAre(100, 101));
  EXPECT_FALSE(text(R"({"skip_special_tokens": false})").skip_special_tokens);
  EXPECT_FALSE(text(R"({"ignore_eos": true})").skip_special_tokens);
}

TEST(ChatRequest, Checks) {
  const auto error = [](std::string_view text, std::optional<int> context = std::nullopt) {
    const Json body = json(text);
    const auto request = parse_chat_request(body, with_limit(std::nullopt), {});
    return request ? message(check_chat_request(body, *request, kVocab, context)) : "schema: " + message(request);
  };
  EXPECT_EQ(error("{}"), "");
  EXPECT_EQ(error(R"({"max_tokens": 11})", 10),
            "max_completion_tokens is too large: 11.This model supports at most 10 completion tokens.");
  EXPECT_EQ(
      error(R"({"return_meta_info": true, "stream": true})"),
      "return_meta_info is not supported with streaming. Please set stream=false when using return_meta_info=true.");
  EXPECT_EQ(error(R"({"lora_path": "x"})"), "lora_path is not supported by this server.");
  EXPECT_EQ(error(R"({"lora_path": null, "return_hidden_states": false})"), "");
  EXPECT_THAT(error(R"({"top_logprobs": 1000})"), StartsWith("schema: top_logprobs"));
  EXPECT_THAT(error(R"({"logit_bias": {"x": 1}})"), HasSubstr("keys must be token ids"));
  EXPECT_EQ(error(R"({"logit_bias": {"5": 1.5}})"), "");
  EXPECT_NE(error(R"({"logit_bias": {"1000": 1}})"), "");
}

TEST(Limits, AtBelowAndAbove) {
  const auto stops = [](size_t n) {
    GenerationParams params;
    for (size_t i = 0; i < n; ++i) params.text.stop.push_back(str_cat("s", i));
    return message(check_params(params, kVocab));
  };
  EXPECT_EQ(stops(TextOptions::kMaxStops - 1), "");
  EXPECT_EQ(stops(TextOptions::kMaxStops), "");
  EXPECT_EQ(stops(TextOptions::kMaxStops + 1), "at most 32 stop strings are allowed, got 33");
  const auto with = [](auto change) {
    GenerationParams params;
    change(params);
    return message(check_params(params, kVocab));
  };
  EXPECT_EQ(with([](auto& p) { p.n = kMaxSamplesPerPrompt; }), "");
  EXPECT_THAT(with([](auto& p) { p.n = kMaxSamplesPerPrompt + 1; }), StartsWith("n must be between 1 and 256"));
  EXPECT_THAT(with([](auto& p) { p.n = 0; }), StartsWith("n must be between 1 and 256"));
  EXPECT_THAT(with([](auto& p) { p.logprobs.num_top = kMaxTopLogprobs + 1; }), HasSubstr("top logprobs"));
  EXPECT_EQ(with([](auto& p) { p.max_new_tokens = -1; }), "max_new_tokens must be at least 0, got -1.");
  EXPECT_EQ(with([](auto& p) { p.max_new_tokens = 0; }), "");
  EXPECT_THAT(with([](auto& p) { p.sampling.top_p = 1.5f; }), HasSubstr("top_p must be in (0, 1], got 1.5"));
  EXPECT_THAT(with([](auto& p) { p.logprobs.token_ids = {kVocab}; }), HasSubstr("out-of-vocabulary token id 1000"));
}

TEST(CompletionRequest, Prompts) {
  const auto parse = [](std::string_view body) { return parse_completion_request(json(body), with_limit(16)); };
  EXPECT_EQ(std::get<std::string>(parse(R"({"prompt": "a"})")->prompts[0]), "a");
  EXPECT_EQ(parse(R"({"prompt": ["a", "b"]})")->prompts.size(), 2u);
  EXPECT_THAT(std::get<std::vector<TokenId>>(parse(R"({"prompt": [1, 2]})")->prompts[0]), ElementsAre(1, 2));
  EXPECT_EQ(parse(R"({"prompt": [[1], [2, 3]]})")->prompts.size(), 2u);
  EXPECT_EQ(parse(R"({"prompt": "a"})")->params.max_new_tokens, 16);
  EXPECT_EQ(message(parse("{}")), "prompt: Field required");
  for (const char* bad : {R"({"prompt": 5})", R"({"prompt": [1, "a"]})", R"({"prompt": [true]})", R"({"prompt": {}})"})
    EXPECT_THAT(message(parse(bad)), StartsWith("prompt")) << bad;
  const auto check = [&](std::string_view text) {
    const Json body = json(text);
    return message(check_completion_request(body, *parse(text), kVocab));
  };
  EXPECT_EQ(check(R"({"prompt": []})"), "Prompt cannot be empty");
  EXPECT_EQ(check(R"({"prompt": ["a", ""]})"), "Prompt cannot be empty");
  EXPECT_EQ(check(R"({"prompt": "a", "max_tokens": 0})"), "max_tokens must be positive");
  const auto echoed = parse(R"({"prompt": "a", "logprobs": 0, "echo": true})");
  EXPECT_TRUE(echoed->params.logprobs.enabled);
  EXPECT_EQ(echoed->params.logprobs.prompt_start, 0);
}

TEST(NativeRequest, BatchesAndLists) {
  const auto parse = [](std::string_view body) { return parse_native_request(json(body), with_limit(128)); };
  EXPECT_FALSE(parse(R"({"text": "a"})")->batch);
  EXPECT_TRUE(parse(R"({"text": ["a"]})")->batch);
  EXPECT_FALSE(parse(R"({"input_ids": [1, 2]})")->batch);
  EXPECT_TRUE(parse(R"({"input_ids": [[1, 2]]})")->batch);
  const auto mixed = parse(R"({"text": ["a", "b"], "sampling_params": [{"max_new_tokens": 3}, {"temperature": 0}],
                              "return_logprob": [true, false], "top_logprobs_num": [2, 0], "rid": "r",
                              "token_ids_logprob": [[1], [2]]})");
  ASSERT_TRUE(mixed) << message(mixed);
  EXPECT_EQ(mixed->items[0].params.max_new_tokens, 3);
  EXPECT_EQ(mixed->items[1].params.max_new_tokens, 128);
  EXPECT_EQ(mixed->items[0].params.logprobs.num_top, 2);
  EXPECT_THAT(mixed->items[0].params.logprobs.token_ids, ElementsAre(1));
  EXPECT_FALSE(mixed->items[1].params.logprobs.enabled);
  EXPECT_EQ(*mixed->items[1].identity.rid, "r_1");
  EXPECT_THAT(message(parse(R"({"text": "a", "sampling_params": {"bogus": 1}})")),
              StartsWith("unknown field `bogus`, expected one of `max_new_tokens`, "));
  EXPECT_TRUE(parse(R"({"text": "a", "bogus": 1})"));
  EXPECT_NE(message(parse(R"({"text": ["a", "b"], "sampling_params": [{}]})")), "");
  EXPECT_NE(message(parse(R"({"text": ["a", "b"], "rid": ["x"]})")), "");
  EXPECT_NE(message(parse("{}")), "");
}

TEST(NativeRequest, Media) {
  const auto media = [](std::string_view fields) {
    const auto request = parse_native_request(json(str_cat("{", fields, "}")), with_limit(128));
    if (!request) return request.error().message;
    std::string out;
    for (const NativeItem& item : request->items) {
      if (&item != &request->items.front()) out += " | ";
      for (const MediaPart& part : item.media)
        out += str_cat(out.empty() || out.ends_with(' ') ? "" : " ", to_string(part.kind), ":", *part.source);
    }
    return out;
  };
  EXPECT_EQ(media(R"("text": "t", "image_data": "a")"), "image:a");
  EXPECT_EQ(media(R"("text": "t", "image_data": {"url": "a", "detail": "low"})"), "image:a");
  EXPECT_EQ(media(R"("input_ids": [1], "image_data": ["a", null, "b"], "audio_data": "s", "video_data": ["v"])"),
            "image:a image:b audio:s video:v");
  EXPECT_EQ(media(R"("text": "t", "image_data": [["a", "b"]])"), "image:a image:b");
  for (const char* none : {"null", "\"\"", "[]"}) EXPECT_EQ(media(str_cat(R"("text": "t", "image_data": )", none)), "");
  EXPECT_EQ(media(R"("text": ["t", "u"], "image_data": ["a", "b"])"), "image:a | image:b");
  EXPECT_EQ(media(R"("text": ["t", "u"], "image_data": [["a", "b"], null])"), "image:a image:b | ");
  EXPECT_EQ(media(R"("text": ["t", "u"], "image_data": "a")"), "image:a | image:a");
  EXPECT_EQ(media(R"("text": ["t", "u"], "image_data": ["a"])"), "image_data: a list must have one entry per prompt");
  EXPECT_THAT(media(R"("text": "t", "audio_data": 5)"), StartsWith("audio_data: Input should be a URL"));
  EXPECT_THAT(media(R"("text": "t", "video_data": [{"uri": "a"}])"), HasSubstr("object without a url"));
  const auto native = vertex_to_native(json(R"({"instances": [{"text": "t", "image_data": "a"}, {"text": "u"}]})"));
  ASSERT_TRUE(native);
  EXPECT_EQ(native->find("image_data")->dump(), R"(["a",null])");
}

TEST(Usage, CountsSoftTokensByKind) {
  const auto span = [](EncoderInput::Kind kind, int tokens) {
    auto input = std::make_shared<EncoderInput>();
    input->kind = kind;
    input->num_tokens = tokens;
    return MediaSpan{0, input};
  };
  Prompt prompt;
  prompt.prepared.ids.assign(30, 1);
  prompt.samples.resize(1);
  const auto usage = [&] {
    std::string out;
    append_usage(out, usage_of(std::span(&prompt, 1)), false);
    return out;
  };
  EXPECT_THAT(usage(), HasSubstr(R"("prompt_tokens_details":null)"));
  using Kind = EncoderInput::Kind;
  prompt.prepared.media = {span(Kind::kImage, 4), span(Kind::kImage, 5), span(Kind::kVideoFrame, 7)};
  EXPECT_THAT(usage(), HasSubstr(R"("prompt_tokens_details":{"cached_tokens":0,"image_tokens":9,"video_tokens":7})"));
  prompt.prepared.media = {span(Kind::kAudio, 6)};
  EXPECT_THAT(usage(), HasSubstr(R"({"cached_tokens":0,"audio_tokens":6})"));
}

TEST(FitToContext, MediaAreNotCut) {
  PreparedPrompt prompt;
  prompt.ids.assign(200, 1);
  for (const int begin : {10, 60, 95, 120}) {
    auto input = std::make_shared<EncoderInput>();
    input->num_tokens = 20;
    prompt.media.push_back({begin, input});
  }
  ASSERT_TRUE(fit_to_context(prompt, 100, 1 << 20, true));
  EXPECT_EQ(prompt.ids.size(), 95u);
  EXPECT_EQ(prompt.media.size(), 2u);
}

TEST(FitToContext, Limits) {
  const auto fit = [](int given, std::optional<int64_t> wanted, bool truncate = false, int pool = 1 << 20) {
    PreparedPrompt prompt;
    prompt.ids.assign(static_cast<size_t>(given), 1);
    prompt.params.max_new_tokens = wanted;
    const auto ok = fit_to_context(prompt, 100, pool, truncate);
    return ok ? str_cat(prompt.ids.size(), "+", prompt.params.sampling.max_new_tokens) : ok.error().message;
  };
  EXPECT_EQ(fit(10, std::nullopt), "10+88");
  EXPECT_EQ(fit(10, 5), "10+5");
  EXPECT_EQ(fit(10, 0), "10+0");
  EXPECT_EQ(fit(10, 90), "10+88");
  EXPECT_EQ(fit(99, 1), "99+1");
  EXPECT_EQ(fit(10, std::nullopt, false, 50), "10+39");
  EXPECT_EQ(fit(100, 1), "The input (100 tokens) is longer than the model's context length (100 tokens).");
  EXPECT_THAT(fit(10, 91), HasSubstr("a total of 101 tokens: 10 tokens from the input messages and 91 tokens"));
  EXPECT_EQ(fit(200, 5, true), "99+1");
  EXPECT_EQ(fit(10, 500, true), "10+88");
}

// ---- errors

TEST(ErrorMap, EveryCodeHasAStatus) {
  EXPECT_EQ(http_status(Errc::kInvalidArgument), 400);
  EXPECT_EQ(http_status(Errc::kUnsupported), 400);
  EXPECT_EQ(http_status(Errc::kNotFound), 404);
  EXPECT_EQ(http_status(Errc::kTooLarge), 413);
  EXPECT_EQ(http_status(Errc::kOverloaded), 503);
  EXPECT_EQ(http_status(Errc::kUnavailable), 503);
  EXPECT_EQ(http_status(Errc::kCancelled), 499);
  for (const Errc code : {Errc::kCorruptFile, Errc::kIo, Errc::kInternal}) EXPECT_EQ(http_status(code), 500);
}

TEST(ErrorMap, Shapes) {
  const Error bad{Errc::kInvalidArgument, "m \"q\""};
  EXPECT_EQ(schema_error(ErrorStyle::kOpenAi, bad).body,
            R"({"object":"error","message":"m \"q\"","type":"Bad Request","param":null,"code":400})");
  EXPECT_EQ(request_error(ErrorStyle::kOpenAi, bad).body,
            R"({"object":"error","message":"m \"q\"","type":"BadRequest","param":null,"code":400})");
  EXPECT_EQ(request_error(ErrorStyle::kOpenAi, {Errc::kOverloaded, "full"}).body,
            R"({"object":"error","message":"full","type":"503","param":null,"code":503})");
  EXPECT_EQ(
      request_error(ErrorStyle::kOpenAi, {Errc::kInternal, "x"}).body,
      R"({"object":"error","message":"Internal server error: x","type":"InternalServerError","param":null,"code":500})");
  EXPECT_EQ(request_error(ErrorStyle::kResponses, bad).body,
            R"({"error":{"message":"m \"q\"","type":"invalid_request_error","param":null,"code":400}})");
  EXPECT_EQ(request_error(ErrorStyle::kResponses, {Errc::kOverloaded, "full"}).body,
            R"({"error":{"message":"full","type":"503","param":null,"code":503}})");
  EXPECT_EQ(request_error(ErrorStyle::kAnthropic, bad).body,
            R"({"type":"error","error":{"type":"invalid_request_error","message":"m \"q\""}})");
  EXPECT_THAT(request_error(ErrorStyle::kAnthropic, {Errc::kTooLarge, "x"}).body, HasSubstr("request_too_large"));
  EXPECT_THAT(request_error(ErrorStyle::kAnthropic, {Errc::kNotFound, "x"}).body, HasSubstr("not_found_error"));
  EXPECT_THAT(request_error(ErrorStyle::kAnthropic, {Errc::kOverloaded, "x"}).body, HasSubstr("overloaded_error"));
  EXPECT_THAT(request_error(ErrorStyle::kAnthropic, {Errc::kInternal, "x"}).body, HasSubstr("api_error"));
  EXPECT_EQ(
      stream_error_event(ErrorStyle::kAnthropic, {Errc::kOverloaded, "full"}),
      "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"full\"}}\n\n");
  EXPECT_EQ(request_error(ErrorStyle::kNative, bad).body, R"({"error":{"message":"m \"q\""}})");
  EXPECT_EQ(schema_error(ErrorStyle::kNative, bad).body, R"({"error":"m \"q\""})");
  EXPECT_EQ(stream_error_event(ErrorStyle::kNative, bad),
            "data: {\"error\":{\"message\":\"m \\\"q\\\"\",\"type\":\"invalid_request_error\",\"code\":400,"
            "\"retryable\":false}}\n\n");
  EXPECT_THAT(stream_error_event(ErrorStyle::kOpenAi, bad), StartsWith("data: {\"error\":{\"object\":\"error\","));
  EXPECT_EQ(unknown_model("x").status, 404);
}

// ---- access

HttpRequest request_with(std::vector<HttpHeader> headers, std::string path = "/v1/models") {
  HttpRequest request;
  request.method = "GET";
  request.path = std::move(path);
  request.headers = std::move(headers);
  return request;
}

TEST(Access, Keys) {
  EXPECT_TRUE(equal_constant_time("abc", "abc"));
  for (const char* wrong : {"", "ab", "abcd", "abd", "abcabc"})
    EXPECT_FALSE(equal_constant_time(wrong, "abc")) << wrong;
  const AccessRules rules{"key", "admin", {}};
  EXPECT_TRUE(rules.key_opens(request_with({{"authorization", "bEARER key"}}), false));
  EXPECT_FALSE(rules.key_opens(request_with({}), false));
  EXPECT_FALSE(rules.key_opens(request_with({{"Authorization", "key"}}), false));
  EXPECT_FALSE(rules.key_opens(request_with({{"Authorization", "Bearer key"}}), true));
  EXPECT_TRUE(rules.key_opens(request_with({{"Authorization", "Bearer admin"}}), true));
  EXPECT_TRUE(rules.key_opens(request_with({{"X-Api-Key", "key"}}), false));
  EXPECT_FALSE(rules.key_opens(request_with({{"X-Api-Key", "admin"}}), false));
  EXPECT_TRUE(rules.key_opens(request_with({{"X-Api-Key", "wrong"}, {"Authorization", "Bearer key"}}), false));
  EXPECT_TRUE(rules.key_opens(request_with({}, "/health_generate"), false));
  EXPECT_TRUE(AccessRules({"key", std::nullopt, {}}).key_opens(request_with({{"Authorization", "Bearer key"}}), true));
}

TEST(Access, Origins) {
  const AccessRules closed{};
  EXPECT_TRUE(closed.origin_may_call(request_with({})));
  EXPECT_TRUE(closed.origin_may_call(request_with({{"Origin", "http://a:1"}, {"Host", "a:1"}})));
  EXPECT_FALSE(closed.origin_may_call(request_with({{"Origin", "http://evil"}, {"Host", "a:1"}})));
  EXPECT_FALSE(closed.origin_may_call(request_with({{"Origin", "null"}, {"Host", "a:1"}})));
  EXPECT_TRUE(closed.cors_headers(request_with({{"Origin", "http://evil"}})).empty());
  const AccessRules open{std::nullopt, std::nullopt, {"*"}};
  EXPECT_TRUE(open.origin_may_call(request_with({{"Origin", "http://evil"}, {"Host", "a:1"}})));
  EXPECT_EQ(open.cors_headers(request_with({{"Origin", "http://b"}})).front().value, "http://b");
}

// ---- writers

Prompt one_prompt() {
  Prompt prompt;
  prompt.prepared.id = "rid";
  prompt.prepared.ids = {1, 2, 3};
  Sample& sample = prompt.samples.emplace_back();
  sample.tokens = {5, 6};
  sample.text = "hi";
  sample.end = SampleEnd{FinishReason::kStop, 106, std::nullopt};
  return prompt;
}

TEST(Writers, ChunksAreJson) {
  const Prompt prompt = one_prompt();
  const std::vector<MessagePart> parts = {{MessagePart::Kind::kContent, 0, "x"}};
  for (const bool usage : {false, true}) {
    const auto writer =
        make_chat_writer({nullptr, "default", true, false}, {"i", "m", {true, usage, usage}, false, false});
    std::string out;
    writer->write_news(prompt, prompt.samples[0], {"", 0, true, parts}, out);
    writer->write_end(std::span(&prompt, 1), out);
    int events = 0;
    for (size_t at = 0; at < out.size();) {
      const size_t end = out.find("\n\n", at);
      ASSERT_NE(end, std::string::npos);
      EXPECT_TRUE(parse_json(std::string_view(out).substr(at + 6, end - at - 6)));
      at = end + 2;
      ++events;
    }
    EXPECT_EQ(events, usage ? 4 : 3);
  }
}

TEST(Writers, NativeStreamRepeatsTheTextSoFar) {
  const auto writer = make_native_writer({}, {true, false, false, {}});
  Prompt prompt = one_prompt();
  Sample& sample = prompt.samples[0];
  sample.end.reset();
  sample.tokens = {5};
  std::string out;
  writer->write_news(prompt, sample, {"a\"", 0, true}, out);
  EXPECT_THAT(out, StartsWith(R"(data: {"text":"a\"","output_ids":[5],)"));
  out.clear();
  sample.tokens = {5, 6, 7};
  writer->write_news(prompt, sample, {"", 1, false}, out);
  EXPECT_THAT(out, StartsWith(R"(data: {"text":"a\"","output_ids":[5,6,7],)"));
  out.clear();
  sample.tokens.push_back(8);
  writer->write_news(prompt, sample, {"b", 3, false}, out);
  EXPECT_THAT(out, StartsWith(R"(data: {"text":"a\"b","output_ids":[5,6,7,8],)"));
}

TEST(Writers, NativeStreamOfDeltas) {
  WriterContext context;
  context.incremental_native = true;
  const auto writer = make_native_writer(context, {true, true, false, {}});
  Prompt prompt = one_prompt();
  std::string out;
  writer->write_news(prompt, prompt.samples[0], {"b", 1, false}, out);
  EXPECT_THAT(out, StartsWith(R"(data: {"text":"b","output_ids":[6],)"));
  EXPECT_THAT(out, HasSubstr(R"(,"index":0})"));
}

TEST(Writers, NumbersThatJsonCannotHold) {
  std::string out;
  append_logprob(out, -INFINITY);
  EXPECT_EQ(out, "-9999.0");
}

TEST(RequestId, LooksLikeUuid4) {
  const std::string id = new_request_id();
  EXPECT_EQ(id.size(), 32u);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_EQ(id[12], '4');
  EXPECT_NE(id, new_request_id());
}

}  // namespace
}  // namespace carat
