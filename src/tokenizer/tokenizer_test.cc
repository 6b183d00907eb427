#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "base/utf8.h"
#include "tokenizer/testing.h"

namespace carat {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<TokenId>;

std::unique_ptr<Tokenizer> parsed(const Json& json, std::string_view config = "") {
  auto tokenizer = Tokenizer::parse(json.dump(), config);
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

Json small_json() {
  return testing::make_tokenizer_json(
      {"▁",  "a",  "b",    "c",     "h",      "e",  "l",       "o",    "\n", "<",  "é",  "▁▁",
       "he", "ll", "hell", "hello", "▁hello", "lo", "<|turn>", "\n\n", "ab", "bc", "abc"},
      {"l l", "h e", "he ll", "hell o", "▁ hello", "l o", "▁ ▁", "a b", "b c", "ab c", "a bc"});
}
std::unique_ptr<Tokenizer> small() {
  Json json = small_json();
  for (const char* token : {"<|turn>", "\n", "\n\n"})
    json.find("added_tokens")
        ->push_back(Json::object({{"id", json.find("model")->find("vocab")->find(token)->as_int()},
                                  {"content", token},
                                  {"special", token[0] == '<'}}));
  return parsed(json);
}
/// The pieces of `text`, with '|' between them.
std::string pieces(const Tokenizer& tokenizer, std::string_view text, bool special = false) {
  std::string out;
  for (TokenId id : tokenizer.encode(text, special))
    str_detail::append(out.empty() ? out : out += '|', tokenizer.piece(id));
  return out;
}

TEST(Tokenizer, Merges) {
  const auto t = small();
  EXPECT_EQ(pieces(*t, ""), "");
  EXPECT_EQ(pieces(*t, "hello"), "hello");
  EXPECT_EQ(pieces(*t, " hello"), "▁hello");
  EXPECT_EQ(pieces(*t, "  hello"), "▁|▁hello");  // "▁ hello" is the better merge
  EXPECT_EQ(pieces(*t, "   "), "▁▁|▁");
  EXPECT_EQ(pieces(*t, "helo"), "he|lo");
  EXPECT_EQ(pieces(*t, "abcabc"), "abc|abc");
  EXPECT_EQ(pieces(*t, "lll"), "ll|l");       // the leftmost of equals
  EXPECT_EQ(pieces(*t, "▁hello"), "▁hello");  // the mark itself reads as a space
}

TEST(Tokenizer, FallsBackToBytes) {
  const auto t = small();
  EXPECT_EQ(pieces(*t, "é"), "é");
  EXPECT_EQ(pieces(*t, "x"), "<0x78>");
  EXPECT_EQ(pieces(*t, "a€b"), "a|<0xE2>|<0x82>|<0xAC>|b");
  EXPECT_EQ(pieces(*t, "😀"), "<0xF0>|<0x9F>|<0x98>|<0x80>");
  EXPECT_EQ(pieces(*t, "a\xE2\x82"), "a|<0xEF>|<0xBF>|<0xBD>");
  EXPECT_EQ(pieces(*t, std::string_view("\0", 1)), "<0x00>");
  EXPECT_EQ(pieces(*t, "<0x41>"), "<|<0x30>|<0x78>|<0x34>|<0x31>|<0x3E>");  // text that looks like a byte piece is text
}

TEST(Tokenizer, AddedTokensInRunningText) {
  const auto t = small();
  EXPECT_EQ(pieces(*t, "a<bos>b"), "a|<bos>|b");
  EXPECT_EQ(pieces(*t, "<bos><|turn>hello\n\n\nhello<eos>"), "<bos>|<|turn>|hello|\n\n|\n|hello|<eos>");
  EXPECT_EQ(pieces(*t, "<bo<bos>"), "<|b|o|<bos>");
  EXPECT_EQ(pieces(*t, "<bos"), "<|b|o|<0x73>");
  EXPECT_EQ(pieces(*t, " <bos> hello"), "▁|<bos>|▁hello");
}

TEST(Tokenizer, AddedTokenFlags) {
  Json json = small_json();
  const auto add = [&](const char* content, int id, std::vector<const char*> flags) {
    Json token = Json::object({{"id", id}, {"content", content}});
    for (const char* flag : flags) token.set(flag, true);
    json.find("added_tokens")->push_back(std::move(token));
  };
  add("<L>", 400, {"lstrip"});
  add("<R>", 401, {"rstrip"});
  add("<LR>", 402, {"lstrip", "rstrip"});
  add("WORD", 403, {"single_word"});
  add("N n", 404, {"normalized"});
  const auto t = parsed(json);
  EXPECT_EQ(t->vocab_size(), 405);
  EXPECT_EQ(pieces(*t, "a \t<L> b"), "a|<L>|▁|b");
  EXPECT_EQ(pieces(*t, "a <R>\u3000\n b"), "a|▁|<R>|b");
  EXPECT_EQ(pieces(*t, " <LR> <LR> <L> "), "<LR>|<LR>|<L>|▁");
  EXPECT_EQ(pieces(*t, "a WORD b"), "a|▁|WORD|▁|b");
  EXPECT_EQ(pieces(*t, "WORD"), "WORD");
  EXPECT_EQ(pieces(*t, "aWORD").find("WORD"), std::string::npos);
  EXPECT_EQ(pieces(*t, "WORDé").find("WORD"), std::string::npos);
  EXPECT_EQ(pieces(*t, "<WORD>"), "<|WORD|<0x3E>");
  EXPECT_EQ(pieces(*t, "aN nb"), "a|N n|b");
  EXPECT_EQ(pieces(*t, "aN▁nb"), "a|N n|b");  // normalised, both are the same
  EXPECT_EQ(t->find("N n"), 404);
  EXPECT_EQ(t->piece(399), "");
  EXPECT_EQ(t->decode(Ids{402, 399, 403}, false), "<LR>WORD");
}

TEST(Tokenizer, LooksUpPieces) {
  const auto t = small();
  EXPECT_EQ(t->find("<bos>"), 2);
  EXPECT_EQ(t->find("<0x41>"), 4 + 0x41);
  EXPECT_EQ(t->piece(*t->find("▁hello")), "▁hello");
  EXPECT_EQ(t->token_bytes(*t->find("▁hello")), " hello");
  EXPECT_EQ(t->token_bytes(*t->find("<0xE2>")), "\xE2");
  for (const char* absent : {"", " hello", "hel", "<0x4a>", "<bos", "xyz that is longer than any piece"})
    EXPECT_EQ(t->find(absent), std::nullopt);
  for (TokenId id : {-1, 100000, 1 << 30}) {
    EXPECT_EQ(t->piece(id), "");
    EXPECT_EQ(t->token_bytes(id), "");
    EXPECT_FALSE(t->is_special(id));
  }
  EXPECT_TRUE(t->is_special(2));
  EXPECT_FALSE(t->is_special(*t->find("\n")));
  for (TokenId id = 0; id < t->vocab_size(); ++id) EXPECT_EQ(t->find(t->piece(id)), id);
}

TEST(Tokenizer, Decodes) {
  const auto t = small();
  const auto byte = [](int b) { return 4 + b; };
  const TokenId hello = *t->find("▁hello"), a = *t->find("a");
  EXPECT_EQ(t->decode(Ids{2, hello, hello, 1}, true), " hello hello");
  EXPECT_EQ(t->decode(Ids{2, hello, 1}, false), "<bos> hello<eos>");
  EXPECT_EQ(t->decode(Ids{a, byte(0xE2), byte(0x82), byte(0xAC), a}, false), "a€a");
  EXPECT_EQ(t->decode(Ids{a, byte(0xE2), byte(0x82), a}, false), "a\uFFFD\uFFFDa");
  EXPECT_EQ(t->decode(Ids{byte('x'), byte(0xFF)}, false), "\uFFFD\uFFFD");  // all of the row, as `tokenizers`
  EXPECT_EQ(t->decode(Ids{byte(0xC3), 2, byte(0xA9)}, true), "é");
  EXPECT_EQ(t->decode(Ids{byte(0xC3), 2, byte(0xA9)}, false), "\uFFFD<bos>\uFFFD");
  EXPECT_EQ(t->decode(Ids{-5, 1 << 25, a}, false), "a");
}

TEST(Tokenizer, StreamsWholeCharacters) {
  const auto t = small();
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    Ids ids;
    for (size_t n = random() % 30; n > 0; --n)
      ids.push_back(static_cast<TokenId>(random() % 3 == 0 ? random() % 4
                                                           : random() % static_cast<unsigned>(t->vocab_size() + 3)));
    if (round % 2)
      for (char c : std::string("😀é€")) ids.push_back(4 + static_cast<unsigned char>(c));
    for (const bool skip : {false, true}) {
      StreamDecoder decoder(*t, skip);
      std::string text;
      for (size_t i = 0; i < ids.size(); ++i) {
        decoder.push(ids[i], text);
        ASSERT_TRUE(is_valid_utf8(text));
        // At every cut: what has come so far and what is held back are the whole of the text.
        StreamDecoder cut = decoder;
        std::string ended = text;
        cut.finish(ended);
        ASSERT_EQ(ended, t->decode(std::span(ids).first(i + 1), skip));
      }
      decoder.finish(text);
      ASSERT_EQ(text, t->decode(ids, skip));
    }
  }
}

TEST(Tokenizer, BosAndRoles) {
  Json json = small_json();
  EXPECT_FALSE(parsed(json)->adds_bos());
  EXPECT_EQ(parsed(json)->bos(), 2);
  EXPECT_EQ(parsed(json)->eos(), 1);
  const auto base = parsed(
      json,
      R"({"add_bos_token": true, "image_token": {"content": "abc"}, "nowhere_token": "zzz", "extra_special_tokens": {"x_token": "he"}})");
  EXPECT_TRUE(base->adds_bos());
  EXPECT_EQ(pieces(*base, "hello", true), "<bos>|hello");
  EXPECT_EQ(pieces(*base, "hello", false), "hello");
  EXPECT_EQ(base->special("image_token"), base->find("abc"));
  EXPECT_EQ(base->special("x_token"), base->find("he"));
  EXPECT_EQ(base->special("nowhere_token"), std::nullopt);
  EXPECT_EQ(pieces(*parsed(json, R"({"add_eos_token": true})"), "a", true), "a|<eos>");
  json.set(
      "post_processor",
      *parse_json(
          R"({"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<bos>","type_id":0}},{"Sequence":{"id":"A"}}],
      "special_tokens":{"<bos>":{"id":"<bos>","ids":[2],"tokens":["<bos>"]}}})"));
  EXPECT_TRUE(parsed(json)->adds_bos());
  EXPECT_EQ(pieces(*parsed(json), "a", true), "<bos>|a");
  EXPECT_FALSE(parsed(json, R"({"add_bos_token": false})")->adds_bos());
}

TEST(Tokenizer, ChatTemplate) {
  EXPECT_EQ(parsed(small_json())->chat_template(), "");
  EXPECT_EQ(parsed(small_json(), R"({"chat_template": "{{ x }}"})")->chat_template(), "{{ x }}");
  EXPECT_EQ(
      parsed(small_json(), R"({"chat_template": [{"name":"rag","template":"r"},{"name":"default","template":"d"}]})")
          ->chat_template(),
      "d");
}

TEST(Tokenizer, OlderFileForms) {
  Json json = small_json();
  JsonArray merges;
  for (const Json& merge : json.find("model")->find("merges")->as_array())
    merges.emplace_back(str_cat(merge.as_array()[0].as_string(), " ", merge.as_array()[1].as_string()));
  json.find("model")->set("merges", Json(std::move(merges)));
  json.set("pre_tokenizer",
           *parse_json(R"({"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious","invert":false})"));
  EXPECT_EQ(pieces(*parsed(json), "hello hello"), "hello|▁hello");
}

TEST(Tokenizer, RefusesWhatItDoesNotDo) {
  const auto refusal = [](const std::function<void(Json&)>& change, std::string_view config = "") {
    Json json = small_json();
    change(json);
    const auto tokenizer = Tokenizer::parse(json.dump(), config);
    return tokenizer ? std::string("accepted")
                     : str_cat(to_string(tokenizer.error().code), ": ", tokenizer.error().message);
  };
  const auto set = [](const char* field, Json value) { return [=](Json& json) { json.set(field, value); }; };
  const auto set_model = [](const char* field, Json value) {
    return [=](Json& json) { json.find("model")->set(field, value); };
  };
  const Json step = Json::object({{"type", "NFC"}});
  EXPECT_THAT(refusal(set("normalizer", nullptr)), HasSubstr("unsupported: tokenizer.json: normalizer"));
  EXPECT_THAT(refusal(set("normalizer", step)), HasSubstr("unsupported: tokenizer.json: normalizer"));
  EXPECT_THAT(refusal(set("pre_tokenizer", step)), HasSubstr("unsupported: tokenizer.json: pre_tokenizer"));
  EXPECT_THAT(refusal(set("decoder", step)), HasSubstr("unsupported: tokenizer.json: decoder"));
  EXPECT_THAT(refusal(set("post_processor", step)), HasSubstr("unsupported: tokenizer.json: post_processor"));
  EXPECT_THAT(refusal(set_model("type", "Unigram")), HasSubstr("unsupported: tokenizer.json: model.type"));
  EXPECT_THAT(refusal(set_model("byte_fallback", false)), HasSubstr("model.byte_fallback"));
  EXPECT_THAT(refusal(set_model("dropout", 0.1)), HasSubstr("model.dropout"));
  EXPECT_THAT(refusal(set_model("ignore_merges", true)), HasSubstr("model.ignore_merges"));
  EXPECT_THAT(refusal(set_model("continuing_subword_prefix", "##")), HasSubstr("model.continuing_subword_prefix"));
  EXPECT_THAT(refusal([](Json& json) { json.find("model")->find("vocab")->erase("<0x41>"); }),
              HasSubstr("no piece for byte 65"));
  EXPECT_THAT(refusal(set_model("vocab", Json::object())), HasSubstr("model.vocab"));
  EXPECT_THAT(refusal(set_model("vocab", nullptr)), HasSubstr("model.vocab"));
  EXPECT_THAT(refusal(set_model("vocab", Json::object({{"a", 1}, {"b", 1}}))),
              HasSubstr("corrupt file: tokenizer.json: model.vocab: piece \"b\" (id 1): another piece"));
  EXPECT_THAT(refusal(set_model("vocab", Json::object({{"a", -1}}))), HasSubstr("the id must be in"));
  EXPECT_THAT(refusal(set_model("vocab", Json::object({{"a", "x"}}))), HasSubstr("no integer"));
  EXPECT_THAT(refusal(set_model("vocab", Json::object({{"", 1}}))), HasSubstr("must not be empty"));
  EXPECT_THAT(refusal(set_model("merges", Json::array({Json::array({"a"})}))), HasSubstr("two strings"));
  EXPECT_THAT(refusal(set_model("merges", Json::array({"a b c"}))), HasSubstr("two strings"));
  EXPECT_THAT(refusal(set_model("merges", Json::array({"zz a"}))),
              HasSubstr("merge 0 (\"zz\", \"a\"): its first part"));
  EXPECT_THAT(refusal(set_model("merges", Json::array({"a zz"}))), HasSubstr("its second part"));
  EXPECT_THAT(refusal(set_model("merges", Json::array({"a a"}))), HasSubstr("the whole"));
  EXPECT_THAT(refusal([](Json& json) {
                json.find("added_tokens")->push_back(Json::object({{"id", 7}, {"content", "<bos>"}}));
              }),
              HasSubstr("has id 7, but 2"));
  EXPECT_THAT(refusal([](Json& json) {
                json.find("added_tokens")->push_back(Json::object({{"id", 7}, {"content", "new"}}));
              }),
              HasSubstr("another piece has this id"));
  EXPECT_THAT(refusal([](Json& json) { json.find("added_tokens")->push_back(Json(1)); }), HasSubstr("added_tokens"));
  EXPECT_THAT(refusal([](Json&) {}, "{"), HasSubstr("corrupt file: tokenizer_config.json"));
  EXPECT_THAT(refusal([](Json&) {}, "[]"), HasSubstr("tokenizer_config.json: document: is no object"));
  EXPECT_EQ(Tokenizer::parse("{", "").error().code, Errc::kCorruptFile);
  EXPECT_EQ(refusal([](Json&) {}), "accepted");
}

TEST(Tokenizer, LoadsAFolder) {
  const auto folder = std::filesystem::temp_directory_path() / str_cat("carat_tokenizer_", ::getpid());
  std::filesystem::create_directories(folder);
  EXPECT_EQ(Tokenizer::load(folder).error().code, Errc::kNotFound);
  std::ofstream(folder / "tokenizer.json") << small_json().dump();
  EXPECT_FALSE((*Tokenizer::load(folder))->adds_bos());
  std::ofstream(folder / "tokenizer_config.json") << R"({"add_bos_token": true})";
  EXPECT_TRUE((*Tokenizer::load(folder))->adds_bos());
  std::ofstream(folder / "tokenizer_config.json") << "nonsense";
  EXPECT_THAT(Tokenizer::load(folder).error().message, HasSubstr(folder.native()));
  std::filesystem::remove_all(folder);
}

/// BPE by its definition, without cuts, tables or heaps.
std::vector<std::string> naive_bpe(std::string_view text,
                                   const std::map<std::pair<std::string, std::string>, size_t>& ranks) {
  std::vector<std::string> parts;
  for (; !text.empty(); text.remove_prefix(static_cast<size_t>(decode_utf8(text).length)))
    parts.emplace_back(text.substr(0, static_cast<size_t>(decode_utf8(text).length)));
  while (true) {
    size_t best = parts.size(), best_rank = ranks.size();
    for (size_t i = 0; i + 1 < parts.size(); ++i)
      if (const auto found = ranks.find({parts[i], parts[i + 1]}); found != ranks.end() && found->second < best_rank)
        best = i, best_rank = found->second;
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Tokenizer, RandomVocabulariesAgainstTheDefinition) {
  std::mt19937 random(20260714);
  const auto pick = [&](const std::vector<std::string>& from) { return from[random() % from.size()]; };
  for (int round = 0; round < 60; ++round) {
    const std::vector<std::string> alphabet = {"▁", "a", "b", "é", "字", "😀"};
    std::vector<std::string> vocab = alphabet;
    std::vector<std::string> merges;
    std::map<std::pair<std::string, std::string>, size_t> ranks;
    for (size_t n = 1 + random() % 60; n > 0; --n) {
      const std::string left = pick(vocab), right = pick(vocab), merge = left + " " + right;
      if (merge.size() > 20 || std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      if (std::find(vocab.begin(), vocab.end(), left + right) == vocab.end()) vocab.push_back(left + right);
      merges.push_back(merge);
    }
    std::shuffle(merges.begin(), merges.end(), random);  // ranks in no relation to lengths
    for (size_t rank = 0; rank < merges.size(); ++rank) {
      const auto parts = split(merges[rank], ' ');
      ranks[{std::string(parts[0]), std::string(parts[1])}] = rank;
    }
    const auto tokenizer = parsed(testing::make_tokenizer_json(vocab, merges));
    for (int i = 0; i < 60; ++i) {
      std::string text;
      const size_t letters = 1 + random() % alphabet.size();
      for (size_t n = random() % (i < 50 ? 40 : 400); n > 0; --n) text += alphabet[random() % letters];
      std::vector<std::string> got;
      for (TokenId id : tokenizer->encode(text)) got.emplace_back(tokenizer->piece(id));
      ASSERT_EQ(got, naive_bpe(text, ranks)) << text;
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(text), false), [&] {
        std::string spaces;
        for (size_t at = 0; at < text.size();) {
          const bool mark = text.compare(at, 3, "▁") == 0;
          spaces += mark ? ' ' : text[at];
          at += mark ? 3 : 1;
        }
        return spaces;
      }());
    }
  }
}

TEST(Tokenizer, LongChunksInNearLinearTime) {
  std::vector<std::string> vocab = {"▁", "a"}, merges;
  for (size_t length = 2; length <= 32; ++length) {
    vocab.push_back(std::string(length, 'a'));
    for (size_t left = 1; left < length; ++left)
      merges.push_back(std::string(left, 'a') + " " + std::string(length - left, 'a'));
  }
  const auto tokenizer = parsed(testing::make_tokenizer_json(vocab, merges));
  const auto start = std::chrono::steady_clock::now();
  const Ids ids = tokenizer->encode(std::string(1 << 20, 'a'));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));  // quadratic: hours
  EXPECT_EQ(tokenizer->decode(ids, false).size(), size_t{1} << 20);
}

TEST(Tokenizer, ManyThreads) {
  const auto tokenizer = small();
  const std::string text = "hello hello abc\n\nhe€llo <bos> abcabc";
  const Ids expected = small()->encode(text);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round) ASSERT_EQ(tokenizer->encode(text), expected);
    });
  for (auto& thread : threads) thread.join();
}

// ---- The whole vocabulary of the shared folder

class WholeTokenizer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto json = testing::unpack_whole_tokenizer(CARAT_SOURCE_DIR);
    if (!json) return;
    auto loaded = Tokenizer::parse(*json, R"({"add_bos_token": true})");
    ASSERT_TRUE(loaded) << loaded.error().message;
    tokenizer = std::move(*loaded);
  }
  static void TearDownTestSuite() { tokenizer.reset(); }
  void SetUp() override {
    if (!tokenizer) GTEST_SKIP() << "no shared/data/tokenizer/tokenizer.json.xz beside the checkout, or no xz";
  }
  static inline std::unique_ptr<Tokenizer> tokenizer;
};

TEST_F(WholeTokenizer, KnownIds) {
  EXPECT_EQ(tokenizer->vocab_size(), 262144);
  EXPECT_EQ(tokenizer->find("<|turn>"), 105);
  EXPECT_EQ(tokenizer->find("<turn|>"), 106);
  EXPECT_EQ(tokenizer->find("<|video|>"), 258884);
  EXPECT_THAT(tokenizer->encode("<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"),
              ElementsAre(106, 107, 105, 4368, 107, 100, 45518, 107, 101));
  EXPECT_THAT(tokenizer->encode("user", true), ElementsAre(2, 2364));
}

TEST_F(WholeTokenizer, EveryPieceIsFoundAndDecodes) {
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    ASSERT_FALSE(tokenizer->piece(id).empty());
    ASSERT_EQ(tokenizer->find(tokenizer->piece(id)), id);
  }
}

Ids expand_ids(const Json& short_ids) {
  Ids ids;
  for (const Json& item : short_ids.as_array())
    if (item.is_array())
      ids.insert(ids.end(), static_cast<size_t>(item.as_array()[1].as_int()),
                 static_cast<TokenId>(item.as_array()[0].as_int()));
    else
      ids.push_back(static_cast<TokenId>(item.as_int()));
  return ids;
}
std::string expand_text(const Json& row) {
  std::string out;
  if (const Json* hex = row.find("hex")) {
    for (size_t i = 0; i < hex->as_string().size(); i += 2)
      out += static_cast<char>(std::stoi(hex->as_string().substr(i, 2), nullptr, 16));
  } else if (const Json& text = *row.find("text"); text.is_array()) {
    for (int64_t i = 0; i < text.as_array()[1].as_int(); ++i) out += text.as_array()[0].as_string();
  } else {
    out = text.as_string();
  }
  return out;
}

TEST_F(WholeTokenizer, GoldenTexts) {
  std::ifstream file(CARAT_SOURCE_DIR "/tests/golden/tokenizer.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));  // what it was made with
  int count = 0;
  for (; std::getline(file, line); ++count) {
    const auto row = parse_json(line);
    ASSERT_TRUE(row);
    const std::string text = expand_text(*row);
    const Ids ids = expand_ids(*row->find("ids"));
    ASSERT_EQ(tokenizer->encode(text), ids) << line;
    const Json* decoded = row->find("decoded");
    ASSERT_EQ(tokenizer->decode(ids, false), decoded ? decoded->as_string() : to_valid_utf8(text)) << line;
    if (const Json* clean = row->find("without_special")) {
      ASSERT_EQ(tokenizer->decode(ids, true), clean->as_string()) << line;
    }
  }
  EXPECT_GT(count, 900);
}

TEST_F(WholeTokenizer, HostileTextsInNearLinearTime) {
  for (const char* unit : {"a", " ", "\n", "\t", "ab", "<", "▁", "😀", "0", "=", "\u0301", "<|turn", "字", "ha", "aA"}) {
    std::string text;
    while (text.size() < (1 << 20)) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const Ids ids = tokenizer->encode(text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20)) << unit;
    EXPECT_FALSE(ids.empty());
  }
}

}  // namespace
}  // namespace carat
