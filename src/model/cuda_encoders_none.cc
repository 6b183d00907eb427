#include "model/cuda_media_encoder.h"

namespace carat {

Result<std::unique_ptr<CudaMediaEncoder>> make_cuda_encoders(int, const ModelConfig&, const EncoderWeights&) {
  return Error{Errc::kUnsupported, "this program was built without CUDA code"};
}

}  // namespace carat
