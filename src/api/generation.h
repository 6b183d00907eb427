#pragma once
// One HTTP request's run through the engine: prompts and samples on the way, and the writers that put them into words.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/error_map.h"
#include "api/media_prompt.h"
#include "api/params.h"
#include "engine/request.h"
#include "output/message_parser.h"
#include "output/text_stream.h"
#include "tokenizer/tokenizer.h"

namespace carat {

/// One prompt as the engine is to continue it; made on a prep thread.
struct PreparedPrompt {
  std::string id;  ///< for abort and logs
  std::vector<TokenId> ids;
  std::vector<PlacedMedium> to_load;  ///< media whose placeholders are among the ids; empty once they are loaded
  std::vector<MediaSpan> media;       ///< those that are loaded
  std::vector<std::shared_ptr<const void>> counted_media;  ///< LoadedMedium::counted of those: until the request ends
  GenerationParams params;                                 ///< sampling.max_new_tokens is the effective limit
  int priority = 0;
  uint64_t cache_salt = 0;
  bool thinking = false;  ///< count reasoning tokens
  /// The reply is a message: it comes as parts, not as text.
  std::optional<MessageParserOptions> message;
};

/// What the engine is asked for; `prompt` keeps its ids. The caller adds the stream.
Request to_engine_request(const PreparedPrompt& prompt);

/// How a sample ended, as clients see it.
struct SampleEnd {
  FinishReason reason = FinishReason::kStop;
  std::optional<TokenId> matched_token;
  std::optional<std::string> matched_text;
};

/// One of a prompt's n continuations.
struct Sample {
  int index = 0;  ///< prompt * n + sample
  std::vector<TokenId> tokens;
  std::vector<PositionLogprobs> logprobs;  ///< one per token, if asked for
  std::string text;                        ///< so far; empty in streams and for messages
  std::vector<MessagePart> parts;          ///< of a message so far; empty in streams
  int num_calls = 0;                       ///< of a message: calls that have begun
  std::optional<SampleEnd> end;
  std::optional<int> reasoning_end;  ///< tokens up to and including the one that closed the thought
};

struct Prompt {
  PreparedPrompt prepared;
  std::vector<PositionLogprobs> prompt_logprobs;
  std::vector<Sample> samples;
  RequestStats stats;
  std::chrono::steady_clock::time_point received{};
  int reasoning_tokens(const Sample& sample) const;
};

/// What is new about a sample since its last chunk.
struct SampleNews {
  std::string_view text;
  size_t first_token = 0;  ///< tokens and logprobs from here on are new
  bool first_chunk = false;
  std::span<const MessagePart> parts = {};  ///< of a message, in place of text
};

/// Puts answers into one route's form. Lives on the connection's io thread.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;
  virtual bool streams() const = 0;
  virtual ErrorStyle error_style() const = 0;
  /// Streaming: each chunk repeats the text so far, so that a slow reader may be given fewer of them.
  virtual bool repeats() const { return false; }
  /// Streaming: appends the events of one sample's news (its `end` is set on the last).
  virtual void write_news(const Prompt& prompt, const Sample& sample, const SampleNews& news, std::string& out) {
    static_cast<void>(prompt), static_cast<void>(sample), static_cast<void>(news), static_cast<void>(out);
  }
  /// When every sample has ended. Streaming: the last events but for stream_end(). Otherwise the body.
  virtual void write_end(std::span<const Prompt> prompts, std::string& out) = 0;
  /// Streaming: what a stream that has begun tells of an error, but for stream_end().
  virtual void write_failure(const Error& error, std::string& out) { out += stream_error_event(error_style(), error); }
  virtual std::string_view stream_type() const { return "text/event-stream"; }
  /// What follows a stream's last event, however it ended.
  virtual std::string_view stream_end() const { return kDoneEvent; }
};

/// Settings and collaborators of writers.
struct WriterContext {
  const Tokenizer* tokenizer = nullptr;
  std::string weight_version = "default";
  bool cache_report = false;
  bool incremental_native = false;
};

/// SGLang's additions to an OpenAI answer, in its member `sglext` (spec api.md section 4.2).
struct SglextOptions {
  bool cached_tokens = false;
  bool input_ids = false, output_ids = false;
  bool framed_ids = false;  ///< in a stream the ids come as `event: sglext_ids`

  bool ids() const { return input_ids || output_ids; }
  bool any() const { return cached_tokens || ids(); }
};

/// Everything a request's run needs, made on a prep thread.
struct PreparedGeneration {
  std::vector<PreparedPrompt> prompts;  ///< none: the request asks for nothing and is answered at once
  std::unique_ptr<AnswerWriter> writer;
  int stream_interval = 1;
  bool count_metrics = true;
  std::chrono::steady_clock::time_point received{};
  /// Of /v1/responses: the run goes on without the client, who gets the response as it looks while it runs.
  std::optional<Json> background;
};

/// A sample's tokens on their way to text, or to the parts of a message: decoding, stop strings, the end token.
class SampleDecoder {
 public:
  /// `tokenizer` and `markers` outlive it.
  SampleDecoder(const Tokenizer& tokenizer, const MarkerIds& markers, const PreparedPrompt& prompt);

  struct Step {
    size_t num_tokens = 0;  ///< of the event's tokens that belong to the answer
    std::optional<std::string> matched_stop;
  };
  /// `end`: the event's finish, if it has one. Appends to `text`, or for a message to `parts`.
  Step push(std::span<const TokenId> tokens, const std::optional<Finish>& end, std::string& text,
            std::vector<MessagePart>& parts);
  int num_calls() const { return parser_ ? parser_->num_calls() : 0; }

 private:
  void add(TextStream::Delta delta, std::string& text, std::vector<MessagePart>& parts);

  const MarkerIds& markers_;
  TextStream stream_;
  std::optional<MessageParser> parser_;
  bool done_ = false;
};

}  // namespace carat
