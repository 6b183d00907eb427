#pragma once
// Files from outside: mapped, or read whole.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace carat {

/// A file mapped for reading, unmapped and closed when it dies. Any thread may read. If another process shortens the
/// file while it is mapped, touching bytes past its new end ends the process (SIGBUS), as with every mapping; read()
/// says so.
class MappedFile {
 public:
  enum class Access { kNormal, kSequential, kRandom, kWillNeed, kDontNeed };

  /// Errors: kNotFound, or kIo if it cannot be opened or mapped or is no regular file; the message names the path.
  static Result<MappedFile> open(const std::filesystem::path& path);
  /// Bytes that are in memory as long as the process lives, such as a file built into the program.
  static MappedFile of_program(std::span<const std::byte> bytes) { return MappedFile(bytes, -1); }
  /// An empty mapping.
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  std::span<const std::byte> bytes() const { return bytes_; }
  /// Copies bytes from `offset` on, without going through the mapping: no page faults, and a file that has been
  /// shortened since, or that its disk no longer yields, is an error (kIo, without the file's name).
  Result<void> read(int64_t offset, std::span<std::byte> out) const;
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }
  /// Tells the kernel how [offset, offset + length) will be read; a hint, so nothing is returned. Whole pages are
  /// meant: kDontNeed keeps pages that the range only touches.
  void advise(Access access, int64_t offset, int64_t length) const;
  void advise(Access access) const { advise(access, 0, size()); }

 private:
  MappedFile(std::span<const std::byte> bytes, int descriptor) : bytes_(bytes), descriptor_(descriptor) {}
  std::span<const std::byte> bytes_;
  int descriptor_ = -1;  ///< -1: nothing to unmap
};

/// The whole of a small file. Errors: kNotFound, kIo, kTooLarge above `max_bytes`; the message names the path.
Result<std::string> read_text_file(const std::filesystem::path& path, int64_t max_bytes);

}  // namespace carat
