#pragma once
// `carat serve`: start, serve, stop.

#include <string>

#include "server/options.h"

namespace carat {

/// Serves until a signal. Returns the exit status: 0 after an orderly end, 1 if the start failed. Call before any other
/// thread exists.
int serve(const ServerOptions& options, const std::string& launch_command);

}  // namespace carat
