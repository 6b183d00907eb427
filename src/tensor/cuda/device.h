#pragma once
// Device memory, streams, events and graphs as move-only handles. No CUDA header shows here; without CUDA code nothing
// here is linked. Start-up allocation returns Result. Once serving there is nobody to return an error to: see
// device_failure().

#include <cstdint>
#include <functional>
#include <utility>

#include "base/result.h"

namespace carat::cuda {

/// The first error that the calling thread met in a call without a Result (Stream, Event, Graph, kernels), null if
/// there was none. Such an error does not go away: the device's context is lost, all that is enqueued later fails too,
/// and what it would have written holds leftovers. So a step goes on to its end and whoever answers for it asks then.
const Error* device_failure();
/// Makes `error` the thread's failure, unless there is one already.
void report_failure(Error error);

/// Chooses the GPU for the calling thread; every thread that uses the device calls it once.
Result<void> use_device(int index);
struct DeviceLimits {
  int num_sms = 0;
  int compute_capability = 0;
  int64_t total_bytes = 0, free_bytes = 0, l2_bytes = 0;
};
Result<DeviceLimits> device_limits();

/// Bytes on the device, 256-byte aligned, not initialised.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  /// Errors: kOverloaded naming the bytes asked for and the bytes free.
  static Result<DeviceBuffer> allocate(int64_t size_bytes);
  DeviceBuffer(DeviceBuffer&& o) noexcept : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~DeviceBuffer();
  void* data() const { return data_; }
  int64_t size() const { return size_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t size_ = 0;
};

/// Page-locked host memory that the device can read and write through device_data().
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  static Result<PinnedBuffer> allocate(int64_t size_bytes);
  PinnedBuffer(PinnedBuffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)),
        device_(std::exchange(o.device_, nullptr)),
        size_(std::exchange(o.size_, 0)) {}
  PinnedBuffer& operator=(PinnedBuffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(device_, o.device_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~PinnedBuffer();
  void* data() const { return data_; }
  void* device_data() const { return device_; }
  int64_t size() const { return size_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  void* device_ = nullptr;
  int64_t size_ = 0;
};

class Event;

/// An ordered queue of device work. `handle()` is a cudaStream_t.
class Stream {
 public:
  Stream() = default;
  static Result<Stream> create();
  Stream(Stream&& o) noexcept : handle_(std::exchange(o.handle_, nullptr)) {}
  Stream& operator=(Stream&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  ~Stream();
  void* handle() const { return handle_; }
  void synchronize() const;
  /// What is enqueued from here on begins after `event`, which another stream has recorded.
  void wait(const Event& event) const;
  void copy_to_device(void* device, const void* host, int64_t size_bytes) const;  ///< asynchronous if `host` is pinned
  /// Rows of `width` bytes that lie one after the other on the host and `pitch` bytes apart on the device.
  void copy_rows_to_device(void* device, int64_t pitch, const void* host, int64_t width, int64_t num_rows) const;
  void copy_to_host(void* host, const void* device, int64_t size_bytes) const;
  void copy_on_device(void* to, const void* from, int64_t size_bytes) const;
  void fill(void* device, uint8_t value, int64_t size_bytes) const;

 private:
  void* handle_ = nullptr;
};

class Event {
 public:
  Event() = default;
  static Result<Event> create(bool timing = false);
  Event(Event&& o) noexcept : handle_(std::exchange(o.handle_, nullptr)) {}
  Event& operator=(Event&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  ~Event();
  void record(const Stream& stream) const;
  void synchronize() const;
  bool done() const;
  /// Milliseconds between two recorded events made with timing.
  static float elapsed_ms(const Event& begin, const Event& end);

 private:
  friend class Stream;
  void* handle_ = nullptr;
};

/// A recorded sequence of launches, replayed as one.
class Graph {
 public:
  Graph() = default;
  /// Records what `work` enqueues on `stream` (which runs nothing meanwhile). Empty if that failed.
  static Graph capture(const Stream& stream, const std::function<void()>& work);
  Graph(Graph&& o) noexcept : handle_(std::exchange(o.handle_, nullptr)) {}
  Graph& operator=(Graph&& o) noexcept {
    std::swap(handle_, o.handle_);
    return *this;
  }
  ~Graph();
  void launch(const Stream& stream) const;
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  void* handle_ = nullptr;
};

}  // namespace carat::cuda
