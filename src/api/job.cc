#include "api/job.h"

#include <algorithm>

#include "api/writer_parts.h"
#include "base/str.h"

namespace carat {
namespace {

/// Chunks that repeat the text so far would grow as the square of its length before a slow reader.
constexpr int64_t kMaxRepeatedBacklog = 256 << 10;

SampleEnd end_of(const SampleDecoder::Step& step, const std::optional<Finish>& finish) {
  if (step.matched_stop) return {FinishReason::kStop, std::nullopt, step.matched_stop};
  return {finish->reason, finish->matched_token, std::nullopt};
}

HttpResponse stream_head(std::string_view type, std::string body) {
  return {200, std::string(type), std::move(body), {{"Cache-Control", "no-cache"}}};
}

}  // namespace

void IoWaker::wake(std::vector<std::shared_ptr<RequestStream>> streams) {
  server_.post(io_index_, [streams = std::move(streams)] {
    for (const auto& stream : streams) static_cast<const ListenedStream&>(*stream).notify();
  });
}

GenerationJob::GenerationJob(const JobContext& context, StreamWaker& waker, std::shared_ptr<HttpReply> reply)
    : context_(context), waker_(waker), reply_(std::move(reply)) {}

void GenerationJob::start(PreparedGeneration prepared) {
  writer_ = std::move(prepared.writer);
  stream_interval_ = prepared.stream_interval;
  received_ = prepared.received;
  count_ = context_.metrics && prepared.count_metrics;
  if (disconnected_) return close();
  for (PreparedPrompt& ready : prepared.prompts) {
    Prompt prompt;
    PromptRun run;
    for (int i = 0; i < ready.params.n; ++i) {
      Sample& sample = prompt.samples.emplace_back();
      sample.index = static_cast<int>(num_open_++);
      run.samples.push_back({SampleDecoder(*context_.tokenizer, *context_.markers, ready),
                             {},
                             {},
                             0,
                             false,
                             {received_, received_, received_}});
    }
    prompt.received = received_;
    prompt.prepared = std::move(ready);
    prompts_.push_back(std::move(prompt));
    runs_.push_back(std::move(run));
  }
  if (prompts_.empty()) return finish();  // the request asks for nothing
  for (size_t i = 0; i < prompts_.size() && !done_; ++i) submit(i);
}

void GenerationJob::refuse(const Refusal& refusal) {
  if (disconnected_) return close();
  const ErrorReply answer =
      refusal.schema ? schema_error(refusal.style, refusal.error) : request_error(refusal.style, refusal.error);
  if (refusal.native_stream && !refusal.schema) {
    reply_->begin_stream(
        stream_head("text/event-stream", str_cat(stream_error_event(refusal.style, refusal.error), kDoneEvent)));
    reply_->end();
  } else {
    reply_->send({answer.status, "application/json", answer.body, {}});
  }
  close();
}

void GenerationJob::submit(size_t prompt_idx) {
  auto stream = std::make_shared<ListenedStream>(&waker_, shared_from_this(), prompt_idx);
  runs_[prompt_idx].stream = stream;
  Request request = to_engine_request(prompts_[prompt_idx].prepared);
  request.stream = std::move(stream);
  if (const auto accepted = context_.engine->submit(std::move(request)); !accepted) fail(accepted.error());
}

void GenerationJob::on_disconnect() {
  disconnected_ = true;
  if (done_ || !writer_) return;  // done, or still being prepared: start() will see it
  count(true);
  close();
}

void GenerationJob::on_news(size_t prompt_idx) {
  if (done_) return;
  const auto stream = runs_[prompt_idx].stream;
  auto events = stream->drain();
  prompts_[prompt_idx].stats = stream->stats();
  for (SampleEvent& event : events)
    if (!handle(prompt_idx, event)) return;
  if (num_open_ == 0) return finish();
  send_pending();
}

/// False if the request has failed.
bool GenerationJob::handle(size_t prompt_idx, SampleEvent& event) {
  Prompt& prompt = prompts_[prompt_idx];
  Sample& sample = prompt.samples[static_cast<size_t>(event.sample)];
  SampleRun& run = runs_[prompt_idx].samples[static_cast<size_t>(event.sample)];
  if (sample.end) return true;  // what the engine had under way when a stop string ended the sample
  if (event.finish && event.finish->error) {
    fail(*event.finish->error);
    return false;
  }
  if (!event.prompt_logprobs.empty()) prompt.prompt_logprobs = std::move(event.prompt_logprobs);
  const bool streams = writer_->streams();
  const auto step = run.decoder.push(event.tokens, event.finish, streams ? run.pending_text : sample.text,
                                     streams ? run.pending_parts : sample.parts);
  sample.num_calls = run.decoder.num_calls();
  const size_t before = sample.tokens.size();
  sample.tokens.insert(sample.tokens.end(), event.tokens.begin(),
                       event.tokens.begin() + static_cast<ptrdiff_t>(step.num_tokens));
  event.logprobs.resize(std::min(event.logprobs.size(), step.num_tokens));
  std::move(event.logprobs.begin(), event.logprobs.end(), std::back_inserter(sample.logprobs));
  if (const auto close = context_.markers->id(Marker::kChannelClose);
      prompt.prepared.thinking && !sample.reasoning_end && close) {
    const auto closed = std::find(sample.tokens.begin() + static_cast<ptrdiff_t>(before), sample.tokens.end(), *close);
    if (closed != sample.tokens.end()) sample.reasoning_end = static_cast<int>(closed - sample.tokens.begin()) + 1;
  }
  observe_tokens(run, step.num_tokens);
  if (step.matched_stop || event.finish) {
    if (!event.finish) runs_[prompt_idx].stream->cancel_sample(event.sample);
    sample.end = end_of(step, event.finish);
    run.times.ended = std::chrono::steady_clock::now();
    --num_open_;
  }
  if (streams) emit(prompt, sample, run);
  return true;
}

void GenerationJob::observe_tokens(SampleRun& run, size_t num_tokens) {
  if (num_tokens == 0) return;
  const auto now = std::chrono::steady_clock::now();
  const double gap_s = std::chrono::duration<double>(now - run.times.last_token).count();
  const bool first = run.times.last_token == received_;
  run.times.last_token = now;
  if (first) run.times.first_token = now;
  if (count_) context_.metrics->count_tokens(first, gap_s, num_tokens);
}

void GenerationJob::emit(Prompt& prompt, Sample& sample, SampleRun& run) {
  const bool due = !run.chunk_sent || sample.end ||
                   sample.tokens.size() - run.first_pending >= static_cast<size_t>(stream_interval_);
  if (!due) return;
  if (writer_->repeats() && head_sent_ && !sample.end && reply_->backlog() > kMaxRepeatedBacklog) return;
  writer_->write_news(prompt, sample, {run.pending_text, run.first_pending, !run.chunk_sent, run.pending_parts}, out_);
  run.pending_text.clear();
  run.pending_parts.clear();
  run.first_pending = sample.tokens.size();
  run.chunk_sent = true;
}

void GenerationJob::send_pending() {
  if (out_.empty()) return;
  if (head_sent_)
    reply_->write(out_);
  else
    reply_->begin_stream(stream_head(writer_->stream_type(), std::move(out_)));
  head_sent_ = true;
  out_.clear();
}

void GenerationJob::finish() {
  writer_->write_end(prompts_, out_);
  if (writer_->streams()) {
    out_ += writer_->stream_end();
    send_pending();
    reply_->end();
  } else {
    reply_->send({200, "application/json", std::move(out_), {}});
  }
  count(false);
  close();
}

void GenerationJob::fail(const Error& error) {
  const ErrorStyle style = writer_->error_style();
  const bool in_stream = head_sent_ || (style == ErrorStyle::kNative && writer_->streams());
  if (in_stream) {
    writer_->write_failure(error, out_);
    out_ += writer_->stream_end();
    send_pending();
    reply_->end();
  } else {
    const ErrorReply answer = request_error(style, error);
    reply_->send({answer.status, "application/json", answer.body, {}});
  }
  count(true);
  close();
}

void GenerationJob::count(bool aborted) {
  if (context_.log && context_.log->requests()) context_.log->finished(*context_.tokenizer, prompts_);
  if (!count_) return;
  for (size_t i = 0; i < prompts_.size(); ++i) {
    context_.metrics->count_prompt(prompts_[i]);
    for (size_t j = 0; j < prompts_[i].samples.size(); ++j) {
      SampleTimes& times = runs_[i].samples[j].times;
      if (!prompts_[i].samples[j].end) times.ended = std::chrono::steady_clock::now();
      context_.metrics->count_sample(prompts_[i], prompts_[i].samples[j], times, aborted);
    }
  }
}

/// Lets go of client and engine. What the engine still sends is ignored.
void GenerationJob::close() {
  done_ = true;
  for (PromptRun& run : runs_) {
    if (run.stream) run.stream->cancel();
    run.stream.reset();
  }
  reply_.reset();
}

}  // namespace carat
