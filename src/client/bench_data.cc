#include "client/bench_data.h"

#include <algorithm>

#include "base/json.h"
#include "base/mapped_file.h"
#include "base/str.h"
#include "client/json_scan.h"
#include "tokenizer/tokenizer.h"

namespace carat {
namespace {

struct Lengths {
  std::vector<int64_t> input, output;
};

Lengths draw_lengths(const BenchDataOptions& options, const Tokenizer& tokenizer, NumpyRandom& numpy) {
  Lengths out;
  out.input = random_lengths(numpy, options.random_input_len, options.random_range_ratio, options.num_prompts);
  out.output = random_lengths(numpy, options.random_output_len, options.random_range_ratio, options.num_prompts);
  // The server's tokenizer adds its special tokens to a text.
  if (!options.tokenize_prompt && tokenizer.adds_bos())
    for (auto& n : out.input) n = std::max<int64_t>(1, n - 1);
  return out;
}

BenchRequest make_request(const BenchDataOptions& options, const Tokenizer& tokenizer, std::vector<TokenId> ids,
                          const Lengths& lengths, size_t i) {
  BenchRequest request;
  request.prompt_len = static_cast<int>(lengths.input[i]);
  request.output_len = static_cast<int>(lengths.output[i]);
  if (options.tokenize_prompt)
    request.prompt_ids = std::move(ids);
  else
    request.prompt = tokenizer.decode(ids, false);
  return request;
}

/// The first two turns of a conversation, still escaped.
struct Turns {
  std::string_view first, second;
};

/// Of the conversations that have at least two.
std::vector<Turns> first_turns(std::string_view file) {
  std::vector<Turns> out;
  scan_json(file, [&](std::string_view, std::string_view entry) {
    auto turns = find_json(entry, "conversations");
    if (turns.empty()) turns = find_json(entry, "conversation");
    int count = 0;
    Turns found;
    if (turns.starts_with('['))
      scan_json(turns, [&](std::string_view, std::string_view turn) {
        (count == 0 ? found.first : found.second) = turn;
        return ++count < 2;
      });
    if (count >= 2) out.push_back({find_json(found.first, "value"), find_json(found.second, "value")});
    return true;
  });
  return out;
}

/// A ShareGPT file's conversations, shuffled as Python would; `file` outlives them.
Result<std::vector<Turns>> shuffled_turns(const BenchDataOptions& options, const MappedFile& file) {
  auto turns = first_turns(file.text());
  if (turns.empty())
    return Error{Errc::kCorruptFile, str_cat(options.dataset_path, ": no conversation of two turns in it")};
  PythonRandom(static_cast<uint64_t>(options.seed)).shuffle(turns);
  return turns;
}

Result<std::string> turn_text(const BenchDataOptions& options, std::string_view raw) {
  auto text = parse_json(raw);
  if (text && text->is_string()) return text->as_string();
  return Error{Errc::kCorruptFile,
               str_cat(options.dataset_path, ": the value of a turn is no text: ", raw.substr(0, 80))};
}

Result<MappedFile> open_sharegpt(const BenchDataOptions& options) {
  if (!options.dataset_path.empty()) return MappedFile::open(options.dataset_path);
  return Error{
      Errc::kNotFound,
      str_cat("the data set '", options.dataset_name,
              "' takes its texts from a ShareGPT file, e.g. ShareGPT_V3_unfiltered_cleaned_split.json "
              "of anon8231489123/ShareGPT_Vicuna_unfiltered: name it with --dataset-path, or use --dataset-name "
              "random-ids, which needs none")};
}

// The ids, repeated or cut to `length`.
std::vector<TokenId> fit(const std::vector<TokenId>& ids, int64_t length) {
  std::vector<TokenId> out(static_cast<size_t>(length));
  for (size_t i = 0; i < out.size(); ++i) out[i] = ids[i % ids.size()];
  return out;
}

Result<std::vector<BenchRequest>> load_random(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                              NumpyRandom& numpy) {
  const auto lengths = draw_lengths(options, tokenizer, numpy);
  CARAT_TRY(const auto file, open_sharegpt(options));
  CARAT_TRY(const auto turns, shuffled_turns(options, file));
  std::vector<BenchRequest> out;
  for (const Turns& turn : turns) {
    if (out.size() == static_cast<size_t>(options.num_prompts)) break;
    CARAT_TRY(const auto text, turn_text(options, turn.first));
    const auto ids = tokenizer.encode(text, true);
    if (ids.empty()) continue;
    const size_t i = out.size();
    out.push_back(make_request(options, tokenizer, fit(ids, lengths.input[i]), lengths, i));
  }
  return out;
}

/// The conversations themselves: the first turn is asked for as many tokens as the second has.
Result<std::vector<BenchRequest>> load_sharegpt(const BenchDataOptions& options, const Tokenizer& tokenizer) {
  constexpr int kShortest = 2;
  CARAT_TRY(const auto file, open_sharegpt(options));
  CARAT_TRY(const auto turns, shuffled_turns(options, file));
  std::vector<BenchRequest> out;
  for (const Turns& turn : turns) {
    if (out.size() == static_cast<size_t>(options.num_prompts)) break;
    CARAT_TRY(auto prompt, turn_text(options, turn.first));
    CARAT_TRY(const auto answer, turn_text(options, turn.second));
    BenchRequest request;
    request.prompt_len = static_cast<int>(tokenizer.encode(prompt, true).size());
    request.output_len = options.sharegpt_output_len.value_or(static_cast<int>(tokenizer.encode(answer, true).size()));
    if (request.prompt_len < kShortest || request.output_len < kShortest) continue;
    if (options.sharegpt_context_len && request.prompt_len + request.output_len > *options.sharegpt_context_len)
      continue;
    request.prompt = std::move(prompt);
    out.push_back(std::move(request));
  }
  if (out.empty()) return Error{Errc::kCorruptFile, str_cat(options.dataset_path, ": no conversation fits")};
  return out;
}

std::vector<BenchRequest> make_random_ids(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                          NumpyRandom& numpy) {
  const auto lengths = draw_lengths(options, tokenizer, numpy);
  const int64_t vocab = tokenizer.vocab_size();
  const auto offsets = numpy.randint(0, vocab, options.num_prompts);
  std::vector<BenchRequest> out;
  for (size_t i = 0; i < offsets.size(); ++i) {
    std::vector<TokenId> ids(static_cast<size_t>(lengths.input[i]));
    for (size_t j = 0; j < ids.size(); ++j)
      ids[j] = static_cast<TokenId>((offsets[i] + static_cast<int64_t>(i + j)) % vocab);
    out.push_back(make_request(options, tokenizer, std::move(ids), lengths, i));
  }
  return out;
}

}  // namespace

std::vector<int64_t> random_lengths(NumpyRandom& random, int full_len, double range_ratio, int num) {
  if (full_len <= 0) return std::vector<int64_t>(static_cast<size_t>(num), 0);
  const auto low = std::max<int64_t>(static_cast<int64_t>(full_len * range_ratio), 1);
  return random.randint(low, full_len + 1, num);
}

Result<std::vector<BenchRequest>> load_bench_requests(const BenchDataOptions& options, const Tokenizer& tokenizer,
                                                      NumpyRandom& numpy) {
  if (options.dataset_name == "random") return load_random(options, tokenizer, numpy);
  if (options.dataset_name == "random-ids") return make_random_ids(options, tokenizer, numpy);
  if (options.dataset_name == "sharegpt") return load_sharegpt(options, tokenizer);
  if (options.dataset_name == "image") return make_image_requests(options, tokenizer, numpy);
  return Error{Errc::kInvalidArgument, str_cat("unknown data set '", options.dataset_name,
                                               "': known are random, random-ids, sharegpt and image")};
}

}  // namespace carat
