#include "engine/cuda_runner.h"

namespace carat {

Result<std::unique_ptr<CudaRunner>> CudaRunner::create(const ModelConfig&, std::shared_ptr<const TextWeights>, uint64_t,
                                                       const CudaRunnerOptions&, std::unique_ptr<CudaMediaEncoder>) {
  return Error{Errc::kUnsupported,
               "this program was built without CUDA code; use --device cpu, or build it with scripts/build --cuda on"};
}

}  // namespace carat
