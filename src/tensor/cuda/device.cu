#include "tensor/cuda/device.h"

#include <optional>

#include "tensor/cuda/cuda_check.h"

namespace carat::cuda {

namespace {
cudaStream_t stream_of(void* handle) { return static_cast<cudaStream_t>(handle); }
thread_local std::optional<Error> first_failure;
}  // namespace

const Error* device_failure() { return first_failure ? &*first_failure : nullptr; }
void report_failure(Error error) {
  if (!first_failure) first_failure = std::move(error);
}

Result<void> use_device(int index) {
  if (const auto rc = cudaSetDevice(index); rc != cudaSuccess) return cuda_error(rc, str_cat("selecting GPU ", index));
  return {};
}

Result<DeviceLimits> device_limits() {
  int index = 0;
  if (const auto rc = cudaGetDevice(&index); rc != cudaSuccess) return cuda_error(rc, "reading the current GPU");
  cudaDeviceProp prop;
  if (const auto rc = cudaGetDeviceProperties(&prop, index); rc != cudaSuccess)
    return cuda_error(rc, "reading a GPU's properties");
  size_t free_bytes = 0, total_bytes = 0;
  if (const auto rc = cudaMemGetInfo(&free_bytes, &total_bytes); rc != cudaSuccess)
    return cuda_error(rc, "reading a GPU's memory");
  return DeviceLimits{prop.multiProcessorCount, prop.major * 10 + prop.minor, static_cast<int64_t>(total_bytes),
                      static_cast<int64_t>(free_bytes), prop.l2CacheSize};
}

Result<DeviceBuffer> DeviceBuffer::allocate(int64_t size_bytes) {
  DeviceBuffer buffer;
  if (size_bytes == 0) return Result<DeviceBuffer>(std::move(buffer));
  if (const auto rc = cudaMalloc(&buffer.data_, static_cast<size_t>(size_bytes)); rc != cudaSuccess) {
    cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    cudaMemGetInfo(&free_bytes, &total_bytes);
    return cuda_error(rc, str_cat("allocating ", size_bytes, " bytes of GPU memory (", free_bytes, " of ", total_bytes,
                                  " are free)"));
  }
  buffer.size_ = size_bytes;
  return Result<DeviceBuffer>(std::move(buffer));
}

DeviceBuffer::~DeviceBuffer() {
  if (data_) cudaFree(data_);
}

Result<PinnedBuffer> PinnedBuffer::allocate(int64_t size_bytes) {
  PinnedBuffer buffer;
  if (size_bytes == 0) return Result<PinnedBuffer>(std::move(buffer));
  if (const auto rc =
          cudaHostAlloc(&buffer.data_, static_cast<size_t>(size_bytes), cudaHostAllocMapped | cudaHostAllocPortable);
      rc != cudaSuccess)
    return cuda_error(rc, str_cat("allocating ", size_bytes, " bytes of page-locked host memory"));
  if (const auto rc = cudaHostGetDevicePointer(&buffer.device_, buffer.data_, 0); rc != cudaSuccess)
    return cuda_error(rc, "mapping host memory");
  buffer.size_ = size_bytes;
  return Result<PinnedBuffer>(std::move(buffer));
}

PinnedBuffer::~PinnedBuffer() {
  if (data_) cudaFreeHost(data_);
}

Result<Stream> Stream::create() {
  cudaStream_t handle = nullptr;
  if (const auto rc = cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); rc != cudaSuccess)
    return cuda_error(rc, "creating a stream");
  Stream stream;
  stream.handle_ = handle;
  return Result<Stream>(std::move(stream));
}

Stream::~Stream() {
  if (handle_) cudaStreamDestroy(stream_of(handle_));
}

void Stream::synchronize() const { CARAT_CUDA_CHECK(cudaStreamSynchronize(stream_of(handle_))); }
void Stream::wait(const Event& event) const {
  CARAT_CUDA_CHECK(cudaStreamWaitEvent(stream_of(handle_), static_cast<cudaEvent_t>(event.handle_), 0));
}
void Stream::copy_to_device(void* device, const void* host, int64_t n) const {
  CARAT_CUDA_CHECK(cudaMemcpyAsync(device, host, static_cast<size_t>(n), cudaMemcpyHostToDevice, stream_of(handle_)));
}
void Stream::copy_rows_to_device(void* device, int64_t pitch, const void* host, int64_t width, int64_t num_rows) const {
  const auto w = static_cast<size_t>(width);
  CARAT_CUDA_CHECK(cudaMemcpy2DAsync(device, static_cast<size_t>(pitch), host, w, w, static_cast<size_t>(num_rows),
                                     cudaMemcpyHostToDevice, stream_of(handle_)));
}
void Stream::copy_to_host(void* host, const void* device, int64_t n) const {
  CARAT_CUDA_CHECK(cudaMemcpyAsync(host, device, static_cast<size_t>(n), cudaMemcpyDeviceToHost, stream_of(handle_)));
}
void Stream::copy_on_device(void* to, const void* from, int64_t n) const {
  CARAT_CUDA_CHECK(cudaMemcpyAsync(to, from, static_cast<size_t>(n), cudaMemcpyDeviceToDevice, stream_of(handle_)));
}
void Stream::fill(void* device, uint8_t value, int64_t n) const {
  CARAT_CUDA_CHECK(cudaMemsetAsync(device, value, static_cast<size_t>(n), stream_of(handle_)));
}

Result<Event> Event::create(bool timing) {
  cudaEvent_t handle = nullptr;
  const unsigned flags = timing ? cudaEventDefault : cudaEventDisableTiming;
  if (const auto rc = cudaEventCreateWithFlags(&handle, flags); rc != cudaSuccess)
    return cuda_error(rc, "creating an event");
  Event event;
  event.handle_ = handle;
  return Result<Event>(std::move(event));
}

Event::~Event() {
  if (handle_) cudaEventDestroy(static_cast<cudaEvent_t>(handle_));
}

void Event::record(const Stream& stream) const {
  CARAT_CUDA_CHECK(cudaEventRecord(static_cast<cudaEvent_t>(handle_), stream_of(stream.handle())));
}
void Event::synchronize() const { CARAT_CUDA_CHECK(cudaEventSynchronize(static_cast<cudaEvent_t>(handle_))); }

bool Event::done() const {
  const auto rc = cudaEventQuery(static_cast<cudaEvent_t>(handle_));
  if (rc == cudaErrorNotReady) return false;
  CARAT_CUDA_CHECK(rc);
  return true;
}

float Event::elapsed_ms(const Event& begin, const Event& end) {
  float ms = 0;
  CARAT_CUDA_CHECK(
      cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(begin.handle_), static_cast<cudaEvent_t>(end.handle_)));
  return ms;
}

Graph Graph::capture(const Stream& stream, const std::function<void()>& work) {
  Graph result;
  cudaGraph_t graph = nullptr;
  CARAT_CUDA_CHECK(cudaStreamBeginCapture(stream_of(stream.handle()), cudaStreamCaptureModeThreadLocal));
  work();
  CARAT_CUDA_CHECK(cudaStreamEndCapture(stream_of(stream.handle()), &graph));
  if (device_failure()) return result;
  cudaGraphExec_t exec = nullptr;
  CARAT_CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  cudaGraphDestroy(graph);
  result.handle_ = exec;
  return result;
}

Graph::~Graph() {
  if (handle_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(handle_));
}

void Graph::launch(const Stream& stream) const {
  CARAT_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(handle_), stream_of(stream.handle())));
}

}  // namespace carat::cuda
