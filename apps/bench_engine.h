#pragma once
// `carat bench --engine-only`: the same load on the engine itself, without HTTP, JSON and text on the way back.

#include <memory>

#include "client/load_generator.h"

namespace carat {

/// Starts the engine that options.engine_args describe (flags of `carat serve`; --model stands in for --model-path).
/// Errors: kInvalidArgument for a wrong command line, else those of starting.
Result<std::unique_ptr<BenchBackend>> make_bench_engine(const BenchOptions& options);

}  // namespace carat
