#include "server/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/str.h"

namespace carat {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

ParsedCommandLine parse(std::vector<std::string> args) { return parse_serve_command(args); }

ServerOptions parsed(std::vector<std::string> args) {
  auto result = parse(args);
  EXPECT_TRUE(result.options) << result.text;
  return result.options.value_or(ServerOptions{});
}

std::string error_of(std::vector<std::string> args) {
  const auto result = parse(args);
  EXPECT_FALSE(result.options);
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.text, StartsWith("usage: carat serve"));
  const size_t at = result.text.find("error: ");
  return at == std::string::npos ? "" : result.text.substr(at + 7, result.text.size() - at - 8);
}

TEST(Options, Defaults) {
  const auto o = parsed({});
  EXPECT_FALSE(o.model_path);
  EXPECT_EQ(o.host, "127.0.0.1");
  EXPECT_EQ(o.port, 30000);
  EXPECT_EQ(o.stream_interval, 1);
  EXPECT_EQ(o.max_prefill_tokens, 16384);
  EXPECT_EQ(o.watchdog_timeout_s, 300);
  EXPECT_TRUE(o.model_sampling_defaults);
  EXPECT_TRUE(o.warnings.empty());
  EXPECT_EQ(o.arguments.find("tp_size")->as_int(), 1);
  EXPECT_TRUE(check_supported(o));
}

TEST(Options, Forms) {
  EXPECT_EQ(parsed({"--port", "1"}).port, 1);
  EXPECT_EQ(parsed({"--port=2"}).port, 2);
  EXPECT_EQ(parsed({"--port", "1", "--port", "3"}).port, 3);
  EXPECT_EQ(parsed({"--default-priority-value", "-5"}).default_priority_value, -5);
  EXPECT_EQ(*parsed({"MODEL", "--port", "1"}).model_path, "MODEL");
  EXPECT_EQ(*parsed({"--port", "1", "MODEL"}).model_path, "MODEL");
  EXPECT_EQ(*parsed({"--model", "A", "--model-path=B"}).model_path, "B");
  EXPECT_EQ(*parsed({"--", "-odd-name"}).model_path, "-odd-name");
  EXPECT_THAT(parsed({"--cors-allow-origins", "http://a", "http://b", "--port", "1"}).cors_allow_origins,
              ElementsAre("http://a", "http://b"));
  EXPECT_THAT(parsed({"--bucket-time-to-first-token", "0.1", "1", "10"}).bucket_time_to_first_token,
              ElementsAre(0.1, 1.0, 10.0));
}

TEST(Options, UniquePrefixes) {
  EXPECT_EQ(parsed({"--tp", "2"}).tp_size, 2);
  EXPECT_EQ(parsed({"--tensor", "2"}).tp_size, 2);
  EXPECT_EQ(parsed({"--mem-fraction", "0.8"}).mem_fraction_static, 0.8);
  EXPECT_EQ(parsed({"--max-total-token", "100"}).max_total_tokens, 100);
  EXPECT_EQ(parsed({"--context-len=32k"}).context_length, 32000);
  EXPECT_THAT(error_of({"--max", "1"}), StartsWith("ambiguous option: --max could match --max-"));
  EXPECT_EQ(error_of({"--tp_size", "2"}), "unrecognized arguments: --tp_size");
  EXPECT_EQ(error_of({"--no-such-flag"}), "unrecognized arguments: --no-such-flag");
}

TEST(Options, Errors) {
  EXPECT_EQ(error_of({"--port"}), "argument --port: expected one argument");
  EXPECT_EQ(error_of({"--port", "--host", "x"}), "argument --port: expected one argument");
  EXPECT_EQ(error_of({"--cors-allow-origins"}), "argument --cors-allow-origins: expected at least one argument");
  EXPECT_EQ(error_of({"--port", "x"}), "argument --port: invalid int value: 'x'");
  EXPECT_EQ(error_of({"--port", "70000"}), "argument --port: must be at most 65535, got 70000");
  EXPECT_EQ(error_of({"--port", "-1"}), "argument --port: must be at least 0, got -1");
  EXPECT_EQ(error_of({"--mem-fraction-static", "x"}), "argument --mem-fraction-static: invalid float value: 'x'");
  EXPECT_EQ(error_of({"--mem-fraction-static", "1.0"}),
            "argument --mem-fraction-static: must be between 0 and 1, got 1");
  EXPECT_EQ(error_of({"--sampling-defaults", "x"}),
            "argument --sampling-defaults: invalid choice: 'x' (choose from 'model', 'openai')");
  EXPECT_EQ(error_of({"--dtype", "float16"}),
            "argument --dtype: 'float16' is not supported here (supported: 'auto', 'bfloat16')");
  EXPECT_EQ(error_of({"--enable-metrics=1"}), "argument --enable-metrics: ignored explicit argument '1'");
  EXPECT_EQ(error_of({"A", "B"}), "unrecognized arguments: B");
  EXPECT_THAT(error_of({"--preferred-sampling-params", "[1]"}), HasSubstr("must be a JSON object, got array"));
  EXPECT_THAT(error_of({"--preferred-sampling-params", "{"}), HasSubstr("invalid JSON"));
  EXPECT_THAT(error_of({"--served-model-name", "a:b"}), HasSubstr("must not contain ':'"));
  EXPECT_THAT(error_of({"--load-format", "scripted"}), HasSubstr("needs --script"));
  EXPECT_THAT(error_of({"--model-type", "diffusion"}), HasSubstr("not supported here"));
  EXPECT_THAT(error_of({"--chunked-prefill-size", "0"}), HasSubstr("must be -1 or at least 1"));
}

TEST(Options, HumanReadableIntegers) {
  EXPECT_EQ(parse_human_int("100"), 100);
  EXPECT_EQ(parse_human_int("32k"), 32000);
  EXPECT_EQ(parse_human_int("25.6k"), 25600);
  EXPECT_EQ(parse_human_int("32Ki"), 32768);
  EXPECT_EQ(parse_human_int("1M"), 1000000);
  EXPECT_EQ(parse_human_int("1Gi"), 1073741824);
  EXPECT_EQ(parse_human_int("0.5T"), 500000000000);
  for (const char* bad : {"32K", "k", "1.k", ".5k", "1e3", "12 k", "", "1kk", "1ki", "9999999T"})
    EXPECT_FALSE(parse_human_int(bad)) << bad;
  EXPECT_THAT(error_of({"--context-length", "32K"}), HasSubstr("invalid human_readable_int value: '32K'"));
}

TEST(Options, HelpAndExitStatus) {
  for (const char* flag : {"--help", "-h"}) {
    const auto help = parse({flag});
    EXPECT_FALSE(help.options);
    EXPECT_EQ(help.exit_status, 0);
    for (const Flag& row : flag_table())
      EXPECT_THAT(help.text, HasSubstr(std::string(row.names.substr(0, row.names.find(' '))))) << row.names;
  }
}

TEST(Options, MarksDecide) {
  EXPECT_THAT(parsed({"--page-size", "64"}).warnings, ElementsAre(HasSubstr("--page-size has no effect here")));
  EXPECT_THAT(parsed({"--trust-request-chat-template"}).warnings, ElementsAre(HasSubstr("not built yet")));
  EXPECT_TRUE(parsed({"--enable-multimodal"}).warnings.empty());
  EXPECT_TRUE(parsed({"--pp-size", "1", "--cpu-offload-gb", "0"}).warnings.empty());
  EXPECT_THAT(error_of({"--pp-size", "2"}), HasSubstr("2 is not supported"));
  EXPECT_THAT(error_of({"--enable-lora"}), HasSubstr("adapters are not built"));
  EXPECT_THAT(check_supported(parsed({"--tp", "2"})).error().message, HasSubstr("--tp-size 2"));
}

TEST(Options, Media) {
  const MediaOptions defaults = parsed({}).media;
  EXPECT_EQ(defaults.fetch.max_bytes, 64 << 20);
  EXPECT_FALSE(defaults.fetch.allow_private_addresses);
  EXPECT_TRUE(defaults.fetch.allowed_domains.empty());
  EXPECT_TRUE(defaults.fetch.allowed_local_path.empty());
  EXPECT_FALSE(defaults.max_images);
  EXPECT_GE(defaults.num_threads, 1);
  EXPECT_EQ(defaults.num_fetch_threads, 32);
  const MediaOptions given =
      parsed({"--allowed-media-domains", "A.org", "b.org", "--allow-private-media", "--allowed-local-media-path",
              "/media", "--media-url-max-file-size-mb", "3", "--mm-io-worker-num", "5", "--mm-processor-worker-num",
              "6", "--limit-mm-data-per-request", R"({"image": 4, "video": 0})"})
          .media;
  EXPECT_THAT(given.fetch.allowed_domains, ElementsAre("a.org", "b.org"));
  EXPECT_TRUE(given.fetch.allow_private_addresses);
  EXPECT_EQ(given.fetch.allowed_local_path, "/media");
  EXPECT_EQ(given.fetch.max_bytes, 3 << 20);
  EXPECT_EQ(given.limits.max_encoded_bytes, 3 << 20);
  EXPECT_EQ(given.num_fetch_threads, 5);
  EXPECT_EQ(given.num_threads, 6);
  EXPECT_EQ(given.max_images, 4);
  EXPECT_EQ(given.max_videos, 0);
  EXPECT_FALSE(given.max_audios);
  EXPECT_GT(parsed({"--media-url-max-file-size-mb", "0"}).media.fetch.max_bytes, int64_t{1} << 32);
  EXPECT_THAT(error_of({"--limit-mm-data-per-request", R"({"picture": 1})"}), HasSubstr("unknown kind 'picture'"));
  EXPECT_THAT(error_of({"--limit-mm-data-per-request", R"({"image": -1})"}), HasSubstr("between 0 and 1024, got -1"));
  EXPECT_THAT(error_of({"--limit-mm-data-per-request", R"({"image": "2"})"}), HasSubstr("got \"2\""));
}

TEST(Options, SecretsAreHidden) {
  const auto o = parsed({"--api-key", "k1", "--admin-api-key=k2"});
  EXPECT_EQ(*o.api_key, "k1");
  EXPECT_EQ(o.arguments.find("api_key")->as_string(), "***");
  EXPECT_EQ(o.arguments.find("admin_api_key")->as_string(), "***");
}

class ConfigFile {
 public:
  explicit ConfigFile(std::string_view text)
      : path_(std::filesystem::temp_directory_path() / str_cat("carat_options_", ++count_, "_", ::getpid(), ".yaml")) {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  static inline int count_ = 0;
  std::filesystem::path path_;
};

TEST(Options, ConfigFileBelowCommandLine) {
  const ConfigFile file(
      "model-path: folder\nport: 1\nhost: 0.0.0.0\nenable-metrics: true\ndisable-radix-cache: false\n"
      "cors-allow-origins: [http://a, http://b]\nmax_total_tokens: 2k\n"
      "preferred-sampling-params: {temperature: 0.5, top_k: 3}\nchat-template: null\n");
  const auto o = parsed({"--config", file.path(), "--port", "2"});
  EXPECT_EQ(*o.model_path, "folder");
  EXPECT_EQ(o.port, 2);
  EXPECT_EQ(o.host, "0.0.0.0");
  EXPECT_TRUE(o.enable_metrics);
  EXPECT_FALSE(o.disable_radix_cache);
  EXPECT_EQ(o.max_total_tokens, 2000);
  EXPECT_EQ(o.cors_allow_origins.size(), 2u);
  EXPECT_EQ(o.preferred_sampling_params.find("temperature")->as_double(), 0.5);
}

TEST(Options, ConfigFileErrors) {
  EXPECT_THAT(error_of({"--config", "/no/such/file.yaml"}), HasSubstr("can't open"));
  const auto with = [](std::string_view text) {
    const ConfigFile file(text);
    return error_of({"--config", file.path()});
  };
  EXPECT_THAT(with("bogus: 1\n"), HasSubstr("unknown flag 'bogus'"));
  EXPECT_THAT(with("port: [1, 2]\n"), HasSubstr("'port' takes one value"));
  EXPECT_THAT(with("enable-metrics: maybe\n"), HasSubstr("must be true or false"));
  EXPECT_THAT(with("port: x\n"), HasSubstr("invalid int value: 'x'"));
  EXPECT_THAT(with("a: [1\n"), HasSubstr(".yaml:"));
  EXPECT_THAT(with("- 1\n"), HasSubstr("must be a map"));
}

/// Everything that the cookbook page's generator can print (spec cli.md section 4.1).
struct Generator {
  struct Choice {
    std::string_view hardware, member;
    int tp;
    double fraction;
  };
  static std::vector<Choice> table() {
    std::vector<Choice> out;
    for (const auto member : {"E2B", "E4B", "12B", "31B", "26B-A4B"}) {
      const std::string_view m = member;
      out.push_back({"H200", m, m == "31B" ? 2 : 1, 0.85});
      out.push_back({"B200", m, 1, m == "26B-A4B" ? 0.75 : 0.9});
      out.push_back({"B300", m, 1, 0.9});
      if (m == "31B" || m == "26B-A4B") out.push_back({"MI300X", m, 1, 0.8});
    }
    return out;
  }
};

TEST(Options, AllOutputsOfTheGenerator) {
  int count = 0;
  for (const auto& choice : Generator::table())
    for (const bool qat : {false, true})
      for (const bool reasoning : {false, true})
        for (const bool tools : {false, true})
          for (const bool mtp : {false, true}) {
            const std::string path =
                str_cat("google/gemma-4-", choice.member, "-it", qat ? "-qat-q4_0-unquantized" : "");
            const int tp = mtp && choice.member == "26B-A4B" && choice.hardware != "MI300X" ? 2 : choice.tp;
            std::vector<std::string> args = {"--model-path", path};
            const auto add = [&](std::initializer_list<std::string> more) { args.insert(args.end(), more); };
            if (tp > 1) add({"--tp", str_cat(tp)});
            if (reasoning) add({"--reasoning-parser", "gemma4"});
            if (tools) add({"--tool-call-parser", "gemma4"});
            if (mtp)
              add({"--speculative-algorithm", "NEXTN", "--speculative-draft-model-path", path + "-assistant",
                   "--speculative-num-steps", "5", "--speculative-num-draft-tokens", "6", "--speculative-eagle-topk",
                   "1"});
            if (choice.hardware == "B300") add({"--attention-backend", "triton"});
            add({"--mem-fraction-static", str_cat(choice.fraction), "--host", "0.0.0.0", "--port", "30000"});
            const auto o = parsed(args);
            EXPECT_EQ(*o.model_path, path);
            EXPECT_EQ(o.tp_size, tp);
            EXPECT_EQ(o.reasoning_parser.has_value(), reasoning);
            EXPECT_EQ(o.tool_call_parser.has_value(), tools);
            EXPECT_EQ(o.speculative_algorithm.has_value(), mtp);
            EXPECT_EQ(o.mem_fraction_static, choice.fraction);
            EXPECT_EQ(o.host, "0.0.0.0");
            EXPECT_EQ(check_supported(o).has_value(), tp == 1 && !mtp);
            ++count;
          }
  EXPECT_EQ(count, 17 * 2 * 2 * 2 * 2);
}

/// The rows of the specification's flag tables: all names in the first cell, and the mark in the last.
struct SpecFlag {
  std::string name;
  char mark = 0;  ///< M must, S should, C could, A accept, R refuse
};
std::vector<SpecFlag> flags_of_the_specification(std::istream& in) {
  std::vector<SpecFlag> out;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("| `--")) continue;
    const size_t end = line.find_last_of('|'), last = line.find_last_of('|', end - 1);
    const char mark = line[line.find_first_not_of(' ', last + 1)];
    const std::string names = line.substr(0, line.find(" |", 2));
    for (size_t at = 0; (at = names.find("--", at)) != std::string::npos;) {
      const size_t stop = names.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-", at);
      const std::string name = names.substr(at, stop - at);
      if (!name.ends_with('-')) out.push_back({name, mark});  // else a family: `--hicache-*`
      at += name.size();
    }
  }
  return out;
}

const Flag* flag_with_name(std::string_view name) {
  for (const Flag& flag : flag_table())
    for (const auto candidate : split(flag.names, ' '))
      if (candidate == name) return &flag;
  return nullptr;
}

TEST(Options, EveryFlagOfTheSpecificationHasItsMark) {
  std::ifstream file(CARAT_SOURCE_DIR "/../shared/spec/cli.md");
  if (!file) GTEST_SKIP() << "the specification is not here";
  // What one device has no use for, and what is refused until it is built: docs/api.md tells users.
  const std::set<std::string> open = {"--quantization",
                                      "--load-balance-method",
                                      "--dist-init-addr",
                                      "--gpu-id-step",
                                      "--cuda-graph-max-bs-decode",
                                      "--cuda-graph-max-bs",
                                      "--cuda-graph-bs",
                                      "--cuda-graph-bs-decode",
                                      "--disable-cuda-graph-padding",
                                      "--cuda-graph-backend-prefill",
                                      "--constrained-json-whitespace-pattern"};
  const auto flags = flags_of_the_specification(file);
  EXPECT_GT(flags.size(), 200u);
  for (const auto& [name, mark] : flags) {
    const Flag* flag = flag_with_name(name);
    ASSERT_TRUE(flag) << name << " is unknown";
    const bool does = flag->mark == FlagMark::kDoes;
    if (open.contains(name)) continue;
    if (mark == 'M' || mark == 'S')
      EXPECT_TRUE(does || flag->mark == FlagMark::kLater) << name;
    else if (mark == 'A')
      EXPECT_TRUE(does || flag->mark == FlagMark::kAccepts) << name;
    else if (mark == 'R')
      EXPECT_EQ(flag->mark, FlagMark::kRefuses) << name;
    else
      EXPECT_EQ(mark, 'C') << name;
  }
}

TEST(Options, BucketsOfLengths) {
  EXPECT_TRUE(parsed({"--prompt-tokens-buckets", "default"}).prompt_tokens_buckets.empty());
  EXPECT_THAT(parsed({"--prompt-tokens-buckets", "custom", "10", "5", "10"}).prompt_tokens_buckets,
              ElementsAre(5.0, 10.0));
  EXPECT_THAT(parsed({"--generation-tokens-buckets", "tse", "10", "2", "4"}).generation_tokens_buckets,
              ElementsAre(6.0, 8.0, 10.0, 12.0, 14.0));
  for (const std::vector<std::string>& bad :
       {std::vector<std::string>{"x"}, {"custom"}, {"custom", "y"}, {"tse", "1", "1", "4"}, {"default", "1"}}) {
    std::vector<std::string> args = {"--prompt-tokens-buckets"};
    args.insert(args.end(), bad.begin(), bad.end());
    EXPECT_THAT(error_of(args), HasSubstr("argument --prompt-tokens-buckets: "));
  }
}

TEST(Options, GraphsOfDecodeSteps) {
  EXPECT_TRUE(parsed({}).decode_graphs);
  EXPECT_TRUE(parsed({"--cuda-graph-backend-decode", "full"}).decode_graphs);
  EXPECT_FALSE(parsed({"--cuda-graph-backend-decode", "disabled"}).decode_graphs);
  EXPECT_FALSE(parsed({"--disable-cuda-graph"}).decode_graphs);
}

TEST(Options, NamesAreUniqueAndDefaultsAreLegal) {
  std::vector<std::string> names;
  for (const Flag& flag : flag_table())
    for (const auto name : split(flag.names, ' ')) {
      EXPECT_TRUE(name.starts_with("--")) << name;
      names.emplace_back(name);
    }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

}  // namespace
}  // namespace carat
