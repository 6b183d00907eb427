#pragma once
// What an op runs on. Contexts are arguments, so that two engines fit in one process.

namespace carat {
class WorkerPool;
}

namespace carat::ops {

enum class Backend { kRef, kCpu };

struct Context {
  Backend backend = Backend::kCpu;
  WorkerPool* pool = nullptr;  ///< may be null: the calling thread does everything
};

}  // namespace carat::ops
