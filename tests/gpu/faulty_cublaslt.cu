// Stands before cuBLASLt (CARAT_CUBLASLT names it, CARAT_REAL_CUBLASLT the real one) and passes every call on. Once the
// file that CARAT_FAULT_FILE names exists, the next product starts a kernel that writes where no memory is: the
// device's context fails for good, as with a defective kernel or card.
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace {

void* real(const char* name) {
  static void* const handle = [] {
    const char* path = std::getenv("CARAT_REAL_CUBLASLT");
    void* h = dlopen(path ? path : "libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!h) {
      std::fprintf(stderr, "faulty_cublaslt: %s\n", dlerror());
      std::abort();
    }
    return h;
  }();
  return dlsym(handle, name);
}
__global__ void write_nowhere(int* p) { *p = 1; }

}  // namespace

#define PASS_ON(name, parameters, arguments)                              \
  extern "C" cublasStatus_t name parameters {                             \
    static const auto f = reinterpret_cast<decltype(&name)>(real(#name)); \
    return f arguments;                                                   \
  }

PASS_ON(cublasLtCreate, (cublasLtHandle_t * handle), (handle))
PASS_ON(cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t * desc, cublasComputeType_t compute, cudaDataType_t scale),
        (desc, compute, scale))
PASS_ON(cublasLtMatmulDescSetAttribute,
        (cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what, const void* value, size_t size),
        (desc, what, value, size))
PASS_ON(cublasLtMatrixLayoutCreate,
        (cublasLtMatrixLayout_t * layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t stride),
        (layout, type, rows, columns, stride))
PASS_ON(cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t * preference), (preference))
PASS_ON(cublasLtMatmulPreferenceSetAttribute,
        (cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t what, const void* value,
         size_t size),
        (preference, what, value, size))
PASS_ON(cublasLtMatmulAlgoGetHeuristic,
        (cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
         cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t preference, int wanted,
         cublasLtMatmulHeuristicResult_t* results, int* found),
        (handle, desc, a, b, c, d, preference, wanted, results, found))

extern "C" cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                                         const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                                         cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                                         cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                                         const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                                         cudaStream_t stream) {
  static const auto f = reinterpret_cast<decltype(&cublasLtMatmul)>(real("cublasLtMatmul"));
  static const char* const fault = std::getenv("CARAT_FAULT_FILE");
  if (fault && access(fault, F_OK) == 0) write_nowhere<<<1, 1, 0, stream>>>(reinterpret_cast<int*>(16));
  return f(handle, desc, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout, algo, workspace,
           workspace_bytes, stream);
}
