#pragma once
// `carat chat` with the model in its own process: the same preparation of requests as behind HTTP, no sockets.

#include "client/chat_ui.h"

namespace carat {

/// Starts the engine that `options` describe. Errors: of start_local_engine().
Result<std::unique_ptr<DialogBackend>> make_chat_engine(const DialogOptions& options);

}  // namespace carat
