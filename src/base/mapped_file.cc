#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "base/str.h"

namespace carat {

namespace {

/// An open file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

struct OpenFile {
  Descriptor descriptor;
  int64_t size;
};

Error system_error(const std::filesystem::path& path, std::string_view what) {
  const int number = errno;
  const Errc code = number == ENOENT || number == ENOTDIR ? Errc::kNotFound : Errc::kIo;
  return Error{code, str_cat(path.native(), ": ", what, ": ", std::generic_category().message(number))};
}

Result<OpenFile> open_regular(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer before it is refused.
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (descriptor.get() < 0) return system_error(path, "cannot open");
  struct stat info {};
  if (::fstat(descriptor.get(), &info) != 0) return system_error(path, "cannot stat");
  if (!S_ISREG(info.st_mode)) return Error{Errc::kIo, str_cat(path.native(), ": not a regular file")};
  return OpenFile{std::move(descriptor), static_cast<int64_t>(info.st_size)};
}

int to_advice(MappedFile::Access access) {
  switch (access) {
    case MappedFile::Access::kNormal:
      return MADV_NORMAL;
    case MappedFile::Access::kSequential:
      return MADV_SEQUENTIAL;
    case MappedFile::Access::kRandom:
      return MADV_RANDOM;
    case MappedFile::Access::kWillNeed:
      return MADV_WILLNEED;
    case MappedFile::Access::kDontNeed:
      return MADV_DONTNEED;
  }
  return MADV_NORMAL;
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  CARAT_TRY(auto file, open_regular(path));
  if (file.size == 0) return MappedFile();  // mmap refuses an empty range
  const auto size = static_cast<size_t>(file.size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor.get(), 0);
  if (address == MAP_FAILED) return system_error(path, "cannot map");
  return MappedFile(std::span(static_cast<const std::byte*>(address), size), file.descriptor.release());
}

MappedFile::~MappedFile() {
  if (descriptor_ < 0) return;
  ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  ::close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})), descriptor_(std::exchange(other.descriptor_, -1)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

Result<void> MappedFile::read(int64_t offset, std::span<std::byte> out) const {
  if (descriptor_ < 0 && offset >= 0 && offset + static_cast<int64_t>(out.size()) <= size()) {
    std::ranges::copy(bytes_.subspan(static_cast<size_t>(offset), out.size()), out.begin());
    return {};
  }
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error{Errc::kIo, str_cat("cannot read: ", std::generic_category().message(errno))};
    if (got == 0)
      return Error{Errc::kIo, str_cat("ends at byte ", offset, " now, it had ", size(),
                                      " when it was opened; it was shortened meanwhile")};
    offset += got;
    out = out.subspan(static_cast<size_t>(got));
  }
  return {};
}

void MappedFile::advise(Access access, int64_t offset, int64_t length) const {
  if (descriptor_ < 0) return;
  offset = std::clamp<int64_t>(offset, 0, size());
  int64_t end = offset + std::clamp<int64_t>(length, 0, size() - offset);
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  if (access == Access::kDontNeed) {
    offset = (offset + page - 1) / page * page;
    if (end != size()) end = end / page * page;
  } else {
    offset = offset / page * page;
  }
  if (end <= offset) return;
  ::madvise(const_cast<std::byte*>(bytes_.data()) + offset, static_cast<size_t>(end - offset), to_advice(access));
}

Result<std::string> read_text_file(const std::filesystem::path& path, int64_t max_bytes) {
  CARAT_TRY(const auto file, open_regular(path));
  const auto too_large = [&](int64_t size) {
    return Error{Errc::kTooLarge, str_cat(path.native(), ": ", size, " bytes, at most ", max_bytes, " are allowed")};
  };
  if (file.size > max_bytes) return too_large(file.size);
  // The size is only a guess: files under /proc say 0, and a file may grow while it is read.
  std::string text;
  size_t used = 0;
  while (true) {
    text.resize(std::max<size_t>(used + 4096, static_cast<size_t>(file.size) + 1));
    const ssize_t got = ::read(file.descriptor.get(), text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "cannot read");
    used += static_cast<size_t>(got);
    if (static_cast<int64_t>(used) > max_bytes) return too_large(static_cast<int64_t>(used));
    if (got == 0) break;
  }
  text.resize(used);
  return text;
}

}  // namespace carat
