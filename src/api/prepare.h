#pragma once
// From a request's JSON to what the engine gets: pure functions for the prep threads.

#include "api/chat_request.h"
#include "api/generation.h"
#include "api/media_loader.h"
#include "api/response_store.h"
#include "api/served_model.h"

namespace carat {

/// How far a request got before it was refused: the form of the error depends on it.
enum class RequestStage { kSchema, kRequest };

struct PrepareContext {
  const ServedModel& model;
  const ApiSettings& settings;
  const MediaLoader& media;
  SglextOptions sglext{};              ///< asked for in headers
  ResponseStore* responses = nullptr;  ///< null: not enabled
};

/// A chat body made ready for the engine: what all routes on the chat pipeline share.
struct PreparedChat {
  ChatRequest request;
  PreparedPrompt prompt;
};
/// Errors: as those below.
Result<PreparedChat> prepare_chat_body(const PrepareContext& context, const Json& body, RequestStage& stage);

// Errors: kInvalidArgument; `stage` says which kind.
Result<PreparedGeneration> prepare_chat(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_responses(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_messages(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_ollama_chat(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_ollama_generate(const PrepareContext& context, const Json& body,
                                                   RequestStage& stage);
Result<PreparedGeneration> prepare_completion(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_native(const PrepareContext& context, const Json& body, RequestStage& stage);
Result<PreparedGeneration> prepare_vertex(const PrepareContext& context, const Json& body, RequestStage& stage);

/// The messages, tools and switches of a chat body. `add_generation_prompt`: of /tokenize, see ChatParseOptions.
Result<ChatInput> read_chat_input(const PrepareContext& context, const Json& body,
                                  std::optional<bool> add_generation_prompt = std::nullopt);
/// Their schemas by name, for a message's parser.
std::shared_ptr<const ToolSchemas> tool_schemas(std::vector<ChatTool> tools);
/// Its prompt, and the media in it. Errors: kInvalidArgument, also for media that the model does not take.
Result<PromptTokens> encode_chat_prompt(const PrepareContext& context, const ChatInput& input);

/// A prompt of a text route: ids as they are (checked), text by the tokenizer's own rule.
Result<std::vector<TokenId>> encode_prompt(const ServedModel& model,
                                           const std::variant<std::string, std::vector<TokenId>>& prompt);

/// What is left to do once a prompt's ids are complete, because its media are loaded or it has none: the checks of its
/// length. Errors: kInvalidArgument with SGLang's texts.
Result<void> settle_prompt(PreparedPrompt& prompt, const ServedModel& model, const ApiSettings& settings);
/// Puts the media that a prompt waits for into its ids, and settles it. `loaded`: of prompt.to_load, in its order.
Result<void> add_loaded_media(PreparedPrompt& prompt, std::span<const LoadedMedium> loaded, const ServedModel& model,
                              const ApiSettings& settings);

/// Checks a prompt against the context and sets sampling.max_new_tokens to what can be generated. With `truncate` cuts
/// the prompt or the answer instead. Errors: kInvalidArgument with SGLang's texts.
Result<void> fit_to_context(PreparedPrompt& prompt, int context_length, int max_sequence_tokens, bool truncate);

}  // namespace carat
