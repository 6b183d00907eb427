// Contract   cuda_ops.h linear. Any number of tokens.
// Mapping    cuBLASLt, opened at run time (it is not linked: 540 MB), the first result of its heuristics per shape,
//            kept; without it linear_skinny over pieces of 64 tokens.
// Numerics   cuBLASLt sums in f32 in an order of its own that may depend on the number of tokens.
// Test       ops/cuda/cuda_ops_test.cc
#include <cublasLt.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "ops/cuda/launch.cuh"

namespace carat::cuda {

namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

/// The few functions that we use, from the shared library.
struct Library {
  bool ok = false;
  std::string detail;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) pref_create = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) pref_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;

  Library() {
    std::vector<std::string> names;
    if (const char* path = std::getenv("CARAT_CUBLASLT")) names.emplace_back(path);
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so"}) names.emplace_back(name);
    if (const char* home = std::getenv("CUDA_HOME")) names.push_back(std::string(home) + "/lib64/libcublasLt.so.13");
    for (const char* dir : {"/usr/local/cuda/lib64/", "/usr/local/cuda/targets/x86_64-linux/lib/"})
      names.push_back(std::string(dir) + "libcublasLt.so.13");
    void* handle = nullptr;
    for (const auto& name : names) {
      handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle) {
        detail = name;
        break;
      }
    }
    if (!handle) {
      detail = "libcublasLt.so.13 was not found (set CARAT_CUBLASLT to its path)";
      return;
    }
    ok = true;
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
      if (!function) {
        ok = false;
        detail += std::string(" lacks ") + name;
      }
    };
    load(create, "cublasLtCreate");
    load(matmul, "cublasLtMatmul");
    load(desc_create, "cublasLtMatmulDescCreate");
    load(desc_set, "cublasLtMatmulDescSetAttribute");
    load(layout_create, "cublasLtMatrixLayoutCreate");
    load(pref_create, "cublasLtMatmulPreferenceCreate");
    load(pref_set, "cublasLtMatmulPreferenceSetAttribute");
    load(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  }
};
const Library& library() {
  static const Library instance;
  return instance;
}

struct Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algo{};
};

void check(cublasStatus_t rc, const char* what) {
  if (rc != CUBLAS_STATUS_SUCCESS)
    report_failure(Error{Errc::kUnavailable, str_cat("The GPU has failed: cuBLASLt answers status ",
                                                     static_cast<int>(rc), " (", what, ").")});
}

/// Handle, workspace and plans of one device; shapes repeat, so each is planned once. Calls come from one thread per
/// stream.
class Planner {
 public:
  Planner() {
    check(library().create(&handle_), "creating a handle");
    CARAT_CUDA_CHECK(cudaMalloc(&workspace_, kWorkspaceBytes));
  }
  void run(const Launch& launch, void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w, int t,
           int n, int k, bool f32) {
    const Plan& plan = find(y_stride, x_stride, t, n, k, f32);
    const float one = 1.0f, zero = 0.0f;
    check(library().matmul(handle_, plan.desc, &one, w, plan.a, x, plan.b, &zero, y, plan.c, y, plan.c, &plan.algo,
                           workspace_, kWorkspaceBytes, stream_of(launch)),
          "matmul");
  }

 private:
  const Plan& find(int64_t y_stride, int64_t x_stride, int t, int n, int k, bool f32) {
    const std::lock_guard lock(mutex_);
    Plan& plan = plans_[{y_stride, x_stride, t, n, k, f32}];
    if (plan.desc) return plan;
    const auto& l = library();
    // Row-major y = x w^T is column-major y^T = w x^T: A = w (transposed), B = x.
    check(l.desc_create(&plan.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
    const cublasOperation_t transpose = CUBLAS_OP_T;
    check(l.desc_set(plan.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose), "transpose");
    check(l.layout_create(&plan.a, CUDA_R_16BF, static_cast<uint64_t>(k), static_cast<uint64_t>(n), k), "layout");
    check(l.layout_create(&plan.b, CUDA_R_16BF, static_cast<uint64_t>(k), static_cast<uint64_t>(t), x_stride),
          "layout");
    check(l.layout_create(&plan.c, f32 ? CUDA_R_32F : CUDA_R_16BF, static_cast<uint64_t>(n), static_cast<uint64_t>(t),
                          y_stride),
          "layout");
    cublasLtMatmulPreference_t preference = nullptr;
    check(l.pref_create(&preference), "preference");
    check(l.pref_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes, sizeof kWorkspaceBytes),
          "workspace size");
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    check(l.heuristic(handle_, plan.desc, plan.a, plan.b, plan.c, plan.c, preference, 1, &result, &found),
          "heuristics");
    if (found != 1) check(CUBLAS_STATUS_NOT_SUPPORTED, str_cat("T ", t, " N ", n, " K ", k).c_str());
    plan.algo = result.algo;
    return plan;
  }

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<std::tuple<int64_t, int64_t, int, int, int, bool>, Plan> plans_;
};

/// One planner per device, made when first needed and kept: the library's handle is expensive and has no owner with a
/// shorter life.
Planner& planner() {
  static std::mutex mutex;
  static std::map<int, Planner*> planners;
  int device = 0;
  CARAT_CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  Planner*& p = planners[device];
  if (!p) p = new Planner;
  return *p;
}

}  // namespace

bool cublaslt_available(const char** detail) {
  if (detail) *detail = library().detail.c_str();
  return library().ok;
}

void linear(const Launch& launch, void* y, int64_t y_stride, const void* x, int64_t x_stride, const void* w,
            int num_tokens, int n, int k, Epilogue epilogue) {
  if (num_tokens == 0) return;
  if (epilogue == Epilogue::kGeglu || !library().ok) {
    const int64_t y_size = epilogue == Epilogue::kF32 ? 4 : 2;
    for (int t = 0; t < num_tokens; t += 64)
      linear_skinny(launch, static_cast<char*>(y) + t * y_stride * y_size, y_stride,
                    static_cast<const char*>(x) + t * x_stride * 2, x_stride, w, std::min(64, num_tokens - t), n, k,
                    epilogue);
    return;
  }
  planner().run(launch, y, y_stride, x, x_stride, w, num_tokens, n, k, epilogue == Epilogue::kF32);
}

}  // namespace carat::cuda
