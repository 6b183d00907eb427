#include "media/fetch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "base/str.h"
#include "http/get.h"

namespace carat {
namespace {

constexpr std::array<int8_t, 256> make_base64_table() {
  std::array<int8_t, 256> table{};
  for (auto& v : table) v = -1;
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < kAlphabet.size(); ++i) table[static_cast<uint8_t>(kAlphabet[i])] = static_cast<int8_t>(i);
  table['-'] = 62, table['_'] = 63;
  for (const char space : {' ', '\t', '\r', '\n'}) table[static_cast<uint8_t>(space)] = -2;
  return table;
}
constexpr auto kBase64 = make_base64_table();

int from_hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 32);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

std::string percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && from_hex(text[i + 1]) >= 0 && from_hex(text[i + 2]) >= 0) {
      out.push_back(static_cast<char>(from_hex(text[i + 1]) << 4 | from_hex(text[i + 2])));
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

bool has_scheme(std::string_view text, std::string_view scheme) {
  return text.size() >= scheme.size() && equals_ignore_case_ascii(text.substr(0, scheme.size()), scheme);
}

Error too_large(int64_t max_bytes) {
  return {Errc::kTooLarge, str_cat("the medium is larger than ", max_bytes, " bytes, the most that is allowed")};
}

Result<std::vector<uint8_t>> decode_data_uri(std::string_view uri, int64_t max_bytes) {
  const auto comma = uri.find(',');
  if (comma == std::string_view::npos)
    return Error{Errc::kInvalidArgument, "the data URI has no comma; data:TYPE;base64,DATA is expected"};
  const auto head = uri.substr(0, comma);
  const auto body = uri.substr(comma + 1);
  const bool base64 = head.size() >= 7 && equals_ignore_case_ascii(head.substr(head.size() - 7), ";base64");
  if (base64 && body.find('%') == std::string_view::npos) return decode_base64(body, max_bytes);
  const auto bytes = percent_decode(body);
  if (base64) return decode_base64(bytes, max_bytes);
  if (static_cast<int64_t>(bytes.size()) > max_bytes) return too_large(max_bytes);
  return std::vector<uint8_t>(bytes.begin(), bytes.end());
}

// The beginning of what the client sent, for a message.
std::string shown(std::string_view source) {
  constexpr size_t kMax = 80;
  return source.size() <= kMax ? str_cat("'", source, "'") : str_cat("'", source.substr(0, kMax), "...'");
}

// ---- local files ----

namespace fs = std::filesystem;

struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

bool is_below(const fs::path& path, const fs::path& folder) {
  const auto [end, unused] = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end());
  return end == folder.end();
}

Result<std::vector<uint8_t>> read_local(const fs::path& path, const FetchOptions& options) {
  const auto refused = [&](std::string_view why) {
    return Error{Errc::kInvalidArgument, str_cat("the local file ", shown(path.string()), " ", why)};
  };
  if (options.allowed_local_path.empty())
    return refused("is refused: no folder of local media is allowed (--allowed-local-media-path)");
  std::error_code ec;
  const auto root = fs::canonical(options.allowed_local_path, ec);
  if (ec)
    return Error{Errc::kIo, str_cat("the folder of local media ", shown(options.allowed_local_path.string()),
                                    " cannot be read: ", ec.message())};
  const auto outside = [&] { return refused(str_cat("is refused: it is not below ", root.string())); };
  const auto real = fs::weakly_canonical(path, ec);
  if (ec || !is_below(real, root)) return outside();
  const Descriptor file{::open(real.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)};
  if (file.fd < 0) return refused(str_cat("cannot be opened: ", std::generic_category().message(errno)));
  // A link may have been put into the path meanwhile: what counts is where the opened file lies.
  const auto opened = fs::read_symlink(str_cat("/proc/self/fd/", file.fd), ec);
  if (ec || !is_below(opened, root)) return outside();
  struct stat status {};
  if (::fstat(file.fd, &status) != 0 || !S_ISREG(status.st_mode)) return refused("is no regular file");
  if (status.st_size > options.max_bytes) return too_large(options.max_bytes);
  std::vector<uint8_t> out(static_cast<size_t>(status.st_size));
  size_t size = 0;
  while (size < out.size()) {
    const auto n = ::read(file.fd, out.data() + size, out.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return refused(str_cat("cannot be read: ", std::generic_category().message(errno)));
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  out.resize(size);
  return out;
}

// Whether `source` is meant as a path: it begins like the allowed folder, or cannot be base64 ("/9j/4AAQ" is a JPEG).
bool is_path(std::string_view source, const FetchOptions& options) {
  if (!source.starts_with('/')) return false;
  const auto folder = options.allowed_local_path.string();
  if (!folder.empty() && source.starts_with(folder)) return true;
  return std::any_of(source.begin(), source.end(), [](char c) { return c == '.' || c == ' ' || (c & 0x80) != 0; });
}

// ---- URLs ----

Result<std::vector<uint8_t>> get_url(std::string_view source, const FetchOptions& options) {
  CARAT_TRY(const auto url, parse_url(source));
  const auto timeout =
      std::chrono::duration_cast<HttpGetOptions::Clock::duration>(std::chrono::duration<double>(options.timeout_s));
  const auto allow = [&](const Url& hop) -> Result<void> {
    const auto& domains = options.allowed_domains;
    if (domains.empty() || std::find(domains.begin(), domains.end(), hop.host) != domains.end()) return {};
    return Error{Errc::kInvalidArgument, str_cat("the host ", hop.host,
                                                 " is refused: it is none of those that media may come from "
                                                 "(--allowed-media-domains)")};
  };
  auto body = http_get(url, {.max_bytes = options.max_bytes,
                             .connect_timeout_s = options.connect_timeout_s,
                             .deadline = std::min(options.deadline, HttpGetOptions::Clock::now() + timeout),
                             .max_redirects = options.max_redirects,
                             .stopped = options.stopped,
                             .allow_private_addresses = options.allow_private_addresses,
                             .allow_url = allow});
  if (body || body.error().code == Errc::kTooLarge || body.error().code == Errc::kCancelled) return body;
  // To the client all else is a URL that does not work, but for the end of the time that its request has.
  const bool late = body.error().code == Errc::kUnavailable && HttpGetOptions::Clock::now() >= options.deadline;
  return Error{late ? Errc::kUnavailable : Errc::kInvalidArgument,
               str_cat("the medium at ", shown(source), " could not be fetched: ", body.error().message)};
}

}  // namespace

Result<std::vector<uint8_t>> fetch_media(std::string_view source, const FetchOptions& options) {
  source = trim(source);
  if (source.empty()) return Error{Errc::kInvalidArgument, "the medium is named by an empty string"};
  if (has_scheme(source, "data:")) return decode_data_uri(source, options.max_bytes);
  if (has_scheme(source, "http://") || has_scheme(source, "https://")) return get_url(source, options);
  if (has_scheme(source, "file://")) {
    auto path = source.substr(7);
    if (has_scheme(path, "localhost/")) path.remove_prefix(9);
    if (!path.starts_with('/'))
      return Error{Errc::kInvalidArgument, str_cat(shown(source), " names another machine; file:///PATH is expected")};
    return read_local(percent_decode(path), options);
  }
  if (const auto scheme = source.substr(0, 32).find("://"); scheme != std::string_view::npos)
    return Error{Errc::kInvalidArgument, str_cat(shown(source), ": allowed are http, https, data and file URLs")};
  if (is_path(source, options)) return read_local(source, options);
  return decode_base64(source, options.max_bytes);
}

Result<std::vector<uint8_t>> decode_base64(std::string_view text, int64_t max_bytes) {
  std::vector<uint8_t> out;
  out.reserve(std::min(text.size() / 4 * 3, static_cast<size_t>(max_bytes)) + 3);
  uint32_t bits = 0;
  int count = 0;
  size_t i = 0;
  for (; i < text.size() && text[i] != '='; ++i) {
    const int8_t value = kBase64[static_cast<uint8_t>(text[i])];
    if (value == -2) continue;
    if (value < 0)
      return Error{Errc::kInvalidArgument,
                   str_cat("the base64 data has a character that is none of its alphabet at position ", i)};
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++count == 4) {
      out.push_back(static_cast<uint8_t>(bits >> 16));
      out.push_back(static_cast<uint8_t>(bits >> 8));
      out.push_back(static_cast<uint8_t>(bits));
      bits = 0, count = 0;
      if (static_cast<int64_t>(out.size()) > max_bytes) return too_large(max_bytes);
    }
  }
  for (; i < text.size(); ++i)
    if (text[i] != '=' && kBase64[static_cast<uint8_t>(text[i])] != -2)
      return Error{Errc::kInvalidArgument, str_cat("the base64 data goes on after its padding at position ", i)};
  if (count == 1) return Error{Errc::kInvalidArgument, "the base64 data ends within a byte"};
  if (count >= 2) out.push_back(static_cast<uint8_t>(count == 2 ? bits >> 4 : bits >> 10));
  if (count == 3) out.push_back(static_cast<uint8_t>(bits >> 2));
  if (static_cast<int64_t>(out.size()) > max_bytes) return too_large(max_bytes);
  return out;
}

}  // namespace carat
