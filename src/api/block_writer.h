#pragma once
// Answers that are lists of blocks, as those of the Responses and the Messages API: what the two share.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "api/generation.h"
#include "output/message_parser.h"

namespace carat {

/// A thought, a text or a call; the reply is a sequence of them in the order in which the model wrote it.
struct ReplyBlock {
  enum class Kind { kThought, kText, kCall };
  Kind kind = Kind::kText;
  int index = 0;     ///< of all blocks of the reply
  std::string name;  ///< of the function, for a call
  std::string text;  ///< so far; of a call: its arguments as JSON text
};

/// Why a block is over.
enum class BlockEnd {
  kFollowed,  ///< another one follows
  kLast,      ///< the reply is over
  kCut,       ///< the reply broke off in it
};

/// Cuts a reply of one sample into blocks and hands them to the route's own form. The same calls are made for streams
/// and for whole answers, so that both tell of the same blocks; only a stream's `out` is sent before finish().
class BlockWriter : public AnswerWriter {
 public:
  explicit BlockWriter(bool stream) : stream_(stream) {}

  bool streams() const final { return stream_; }
  void write_news(const Prompt& prompt, const Sample& sample, const SampleNews& news, std::string& out) final;
  void write_end(std::span<const Prompt> prompts, std::string& out) final;

 protected:
  /// Before the first block.
  virtual void begin(const Prompt& prompt, std::string& out) = 0;
  virtual void open_block(const ReplyBlock& block, std::string& out) = 0;
  /// `delta` is already part of the block's text.
  virtual void extend_block(const ReplyBlock& block, std::string_view delta, std::string& out) = 0;
  virtual void close_block(const ReplyBlock& block, BlockEnd end, std::string& out) = 0;
  /// After the last block: a stream's last events, or the whole body.
  virtual void finish(const Prompt& prompt, const Sample& sample, std::string& out) = 0;

  int num_blocks() const { return num_blocks_; }

 private:
  void take(std::span<const MessagePart> parts, std::string& out);
  void open(ReplyBlock::Kind kind, std::string name, std::string& out);
  void extend(std::string_view text, std::string& out);
  void close(BlockEnd end, std::string& out);

  const bool stream_;
  std::optional<ReplyBlock> block_;
  int num_blocks_ = 0;
};

/// A call's arguments as a JSON object; none if the reply broke off in them.
Json arguments_of(const ReplyBlock& call);

}  // namespace carat
