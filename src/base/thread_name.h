#pragma once
// Names by which debuggers, top -H and perf tell our threads apart.

#include <string>

namespace carat {

/// Names the calling thread; the system keeps 15 bytes.
void set_thread_name(const std::string& name);

}  // namespace carat
