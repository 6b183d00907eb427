#pragma once
// What the routes are told of the command line and of a running model.

#include <string>

#include "api/served_model.h"
#include "server/model_source.h"
#include "server/options.h"

namespace carat {

ApiSettings api_settings(const ServerOptions& options, const LoadedModel& model, const std::string& launch_command);
/// A view: `model` and `engine` must outlive it.
ServedModel served_model(const LoadedModel& model, Engine& engine, bool on_gpu, int64_t kv_bytes,
                         double startup_seconds);

}  // namespace carat
