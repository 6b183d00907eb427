#include "api/block_writer.h"

namespace carat {

void BlockWriter::write_news(const Prompt& prompt, const Sample&, const SampleNews& news, std::string& out) {
  if (news.first_chunk) begin(prompt, out);
  take(news.parts, out);
}

void BlockWriter::write_end(std::span<const Prompt> prompts, std::string& out) {
  const Prompt& prompt = prompts.front();
  const Sample& sample = prompt.samples.front();
  if (!stream_) {
    std::string unsent;
    begin(prompt, unsent);
    take(sample.parts, unsent);
  }
  close(sample.end->reason == FinishReason::kStop ? BlockEnd::kLast : BlockEnd::kCut, out);
  finish(prompt, sample, out);
}

void BlockWriter::take(std::span<const MessagePart> parts, std::string& out) {
  using Kind = ReplyBlock::Kind;
  for (const MessagePart& part : parts) {
    switch (part.kind) {
      case MessagePart::Kind::kReasoning:
      case MessagePart::Kind::kContent: {
        const Kind kind = part.kind == MessagePart::Kind::kContent ? Kind::kText : Kind::kThought;
        if (!block_ || block_->kind != kind) open(kind, {}, out);
        extend(part.text, out);
        break;
      }
      case MessagePart::Kind::kCallName:
        open(Kind::kCall, part.text, out);
        break;
      case MessagePart::Kind::kCallArguments:
        extend(part.text, out);  // of the call that is open
        break;
    }
  }
}

void BlockWriter::open(ReplyBlock::Kind kind, std::string name, std::string& out) {
  close(BlockEnd::kFollowed, out);
  block_ = ReplyBlock{kind, num_blocks_++, std::move(name), {}};
  open_block(*block_, out);
}

void BlockWriter::extend(std::string_view text, std::string& out) {
  block_->text += text;
  extend_block(*block_, text, out);
}

void BlockWriter::close(BlockEnd end, std::string& out) {
  if (block_) close_block(*block_, end, out);
  block_.reset();
}

Json arguments_of(const ReplyBlock& call) {
  auto arguments = parse_json(call.text);
  return arguments && arguments->is_object() ? std::move(*arguments) : Json();
}

}  // namespace carat
