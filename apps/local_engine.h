#pragma once
// The engine in a command's own process, for `carat bench --engine-only` and `carat chat`.

#include <memory>
#include <span>
#include <string>

#include "server/start_engine.h"

namespace carat {

struct LocalEngine {
  ServerOptions options;
  LoadedModel model;
  StartedEngine started;  ///< after the model, which it uses

  Engine& engine() { return *started.engine; }
};

/// `model`: instead of --model-path, "" for none; `args`: flags of `carat serve`. Errors: kInvalidArgument for a wrong
/// command line, else those of starting.
Result<std::unique_ptr<LocalEngine>> start_local_engine(const std::string& model, std::span<const std::string> args);

}  // namespace carat
