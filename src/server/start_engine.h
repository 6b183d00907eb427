#pragma once
// A model's engine, as the command line asks for it: the same one behind HTTP (serve) and in the process of a command.

#include <memory>

#include "base/result.h"
#include "engine/engine.h"
#include "server/model_source.h"
#include "server/options.h"

namespace carat {

struct StartedEngine {
  std::unique_ptr<Engine> engine;
  int64_t kv_bytes = 0;
  bool on_gpu = false;
};

/// Loads the contents of `model` (of open_model()) and starts its engine; logs devices, memory and capacity. `model`
/// must outlive the engine. Errors: of loading; kOverloaded with numbers if memory is short.
Result<StartedEngine> start_engine(const ServerOptions& options, LoadedModel& model);

}  // namespace carat
