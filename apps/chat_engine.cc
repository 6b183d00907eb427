#include "apps/chat_engine.h"

#include "api/prepare.h"
#include "apps/local_engine.h"
#include "server/served.h"

namespace carat {
namespace {

/// How soon Ctrl-C is noticed while the model is silent.
constexpr std::chrono::milliseconds kPoll{50};

std::string_view reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kAbort:
      break;
  }
  return "abort";
}

class EngineChat final : public DialogBackend {
 public:
  explicit EngineChat(std::unique_ptr<LocalEngine> local)
      : local_(std::move(local)),
        settings_(api_settings(local_->options, local_->model, "carat chat")),
        served_(served_model(local_->model, local_->engine(), local_->started.on_gpu, local_->started.kv_bytes, 0)) {}

  Result<std::string> model() override { return local_->model.name; }

  Result<DialogAnswer> answer(const DialogRequest& dialog,
                              const std::function<void(std::string_view, std::string_view)>& on_piece,
                              const std::atomic<bool>& stop) override {
    RequestStage stage = RequestStage::kSchema;
    CARAT_TRY(auto prepared,
              prepare_chat({served_, settings_, no_media_}, dialog_body(dialog, local_->model.name), stage));
    const PreparedPrompt& prompt = prepared.prompts.front();
    SampleDecoder decoder(*served_.tokenizer, served_.markers, prompt);
    const auto stream = std::make_shared<RequestStream>();
    Request request = to_engine_request(prompt);
    request.stream = stream;
    CARAT_TRY_VOID(served_.engine->submit(std::move(request)));
    int num_tokens = 0;
    while (!stop) {
      for (const SampleEvent& event : stream->wait(std::chrono::steady_clock::now() + kPoll)) {
        if (event.finish && event.finish->error) return *event.finish->error;
        std::string text;
        std::vector<MessagePart> parts;
        num_tokens += static_cast<int>(decoder.push(event.tokens, event.finish, text, parts).num_tokens);
        for (const MessagePart& part : parts) {
          const bool thought = part.kind == MessagePart::Kind::kReasoning;
          on_piece(thought ? part.text : "", thought ? "" : part.text);
        }
        if (!event.finish) continue;
        return DialogAnswer{std::string(reason_name(event.finish->reason)), static_cast<int>(prompt.ids.size()),
                            num_tokens};
      }
    }
    stream->cancel();
    return Error{Errc::kCancelled, "the answer was stopped"};
  }

 private:
  const std::unique_ptr<LocalEngine> local_;
  const ApiSettings settings_;
  const ServedModel served_;
  const MediaLoader no_media_{{}, {}};  // a dialog is text
};

}  // namespace

Result<std::unique_ptr<DialogBackend>> make_chat_engine(const DialogOptions& options) {
  // A log between the lines of a conversation would be in the way; --log-level after -- brings it back.
  std::vector<std::string> args = {"--log-level", "warning", "--reasoning-parser", "auto"};
  args.insert(args.end(), options.engine_args.begin(), options.engine_args.end());
  CARAT_TRY(auto local, start_local_engine(options.model_path, args));
  return std::unique_ptr<DialogBackend>(std::make_unique<EngineChat>(std::move(local)));
}

}  // namespace carat
