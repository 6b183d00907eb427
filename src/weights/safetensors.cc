#include "weights/safetensors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/json.h"
#include "base/str.h"

namespace carat {
namespace {

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 16;

struct FileDType {
  std::string_view name;
  int bits;
};
constexpr std::array<FileDType, 22> kDTypes = {
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};

/// A name from a file, short enough for a message.
std::string in_quotes(std::string_view name) {
  std::string out;
  append_json_string(out, name.substr(0, 200));
  return out;
}

/// Parses one header; every message begins with the file's name.
class HeaderParser {
 public:
  HeaderParser(std::span<const std::byte> file, std::string_view name)
      : file_(file), size_(static_cast<int64_t>(file.size())), name_(name) {}

  Result<SafetensorsHeader> parse() {
    CARAT_TRY(const std::string_view text, header_text());
    auto json = parse_json(text, {.max_depth = 8});
    if (!json) return corrupt("the header is not valid JSON: ", json.error().message);
    if (!json->is_object()) return corrupt("the header is not a JSON object");
    CARAT_TRY_VOID(check_repeated_keys(text, json->size()));
    SafetensorsHeader header;
    header.data_begin = data_begin_;
    for (const auto& [name, value] : json->as_object()) {
      if (name == "__metadata__") {
        CARAT_TRY(header.metadata, metadata(value));
        continue;
      }
      CARAT_TRY(auto tensor, entry(name, value));
      header.tensors.push_back(std::move(tensor));
    }
    CARAT_TRY_VOID(check_layout(header));
    return header;
  }

 private:
  template <class... Parts>
  Error corrupt(const Parts&... parts) const {
    return Error{Errc::kCorruptFile, str_cat(name_, ": ", parts...)};
  }

  Result<std::string_view> header_text() {
    if (size_ < 8) return corrupt("a safetensors file has at least 8 bytes, this one has ", size_);
    uint64_t length = 0;
    for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<uint64_t>(file_[static_cast<size_t>(i)]);
    if (length > static_cast<uint64_t>(kMaxHeaderBytes))
      return Error{Errc::kTooLarge, str_cat(name_, ": the safetensors header claims ", length, " bytes, allowed are ",
                                            kMaxHeaderBytes, "; is this a safetensors file?")};
    const int64_t bytes = static_cast<int64_t>(length);
    if (bytes > size_ - 8)
      return corrupt("the header claims ", bytes, " bytes, but only ", size_ - 8, " follow: the file is truncated");
    data_begin_ = 8 + bytes;
    const std::string_view text(reinterpret_cast<const char*>(file_.data()) + 8, static_cast<size_t>(bytes));
    if (text.empty() || text[0] != '{') return corrupt("the header does not begin with '{'");
    return text;
  }

  /// A repeated key keeps only its last value, so that a tensor would vanish unseen. The text is valid JSON here.
  Result<void> check_repeated_keys(std::string_view text, size_t num_distinct) const {
    std::vector<std::string_view> keys;
    int depth = 0;
    bool is_key = false;  // the next string at depth 1 is a key
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if (c == '{' || c == '[') is_key = ++depth == 1;
      if (c == '}' || c == ']') --depth;
      if (c == ',' && depth == 1) is_key = true;
      if (c != '"') continue;
      const size_t begin = i + 1;
      for (++i; text[i] != '"'; ++i)
        if (text[i] == '\\') ++i;
      if (depth == 1 && is_key) keys.push_back(text.substr(begin, i - begin));
      is_key = false;
    }
    if (keys.size() == num_distinct) return {};
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    return corrupt("the header names a tensor twice", twice == keys.end() ? "" : ": ",
                   twice == keys.end() ? "" : in_quotes(*twice));
  }

  Result<std::vector<std::pair<std::string, std::string>>> metadata(const Json& value) const {
    if (!value.is_object()) return corrupt("__metadata__ is not an object");
    std::vector<std::pair<std::string, std::string>> out;
    for (const auto& [key, text] : value.as_object()) {
      if (!text.is_string())
        return corrupt("__metadata__ holds a ", text.kind_name(), " for ", in_quotes(key),
                       ", only strings are allowed");
      out.emplace_back(key, text.as_string());
    }
    return out;
  }

  Result<SafetensorsEntry> entry(const std::string& name, const Json& value) const {
    const std::string tensor = str_cat("tensor ", in_quotes(name));
    const Json* dtype = value.find("dtype");
    const Json* shape = value.find("shape");
    const Json* offsets = value.find("data_offsets");
    if (!dtype || !dtype->is_string() || !shape || !shape->is_array() || !offsets || !offsets->is_array())
      return corrupt(tensor, " must have a dtype, a shape and data_offsets");
    const auto type =
        std::find_if(kDTypes.begin(), kDTypes.end(), [&](const FileDType& t) { return t.name == dtype->as_string(); });
    if (type == kDTypes.end()) return corrupt(tensor, " has the unknown dtype ", in_quotes(dtype->as_string()));
    SafetensorsEntry e{name, dtype->as_string(), {}, 0, 0};
    CARAT_TRY(const int64_t bytes, shape_bytes(tensor, *shape, type->bits, e.shape));
    CARAT_TRY_VOID(read_offsets(tensor, *offsets, e));
    if (e.end - e.begin != bytes)
      return corrupt(tensor, " of ", e.dtype, " ", shape_to_string(e.shape), " needs ", bytes,
                     " bytes, its data_offsets span ", e.end - e.begin);
    return e;
  }

  Result<int64_t> shape_bytes(const std::string& tensor, const Json& shape, int bits, std::vector<int64_t>& out) const {
    if (shape.size() > kMaxRank) return corrupt(tensor, " has ", shape.size(), " dimensions, allowed are ", kMaxRank);
    int64_t total = bits;
    bool empty = false;
    for (const Json& dim : shape.as_array()) {
      if (!dim.is_int() || dim.as_int() < 0)
        return corrupt(tensor, " has a dimension that is no whole number from 0 on");
      out.push_back(dim.as_int());
      if (dim.as_int() == 0)
        empty = true;
      else if (__builtin_mul_overflow(total, dim.as_int(), &total))
        return corrupt(tensor, "'s shape ", shape_to_string(out), " overflows");
    }
    if (empty) return 0;
    if (total % 8 != 0) return corrupt(tensor, "'s shape ", shape_to_string(out), " does not fill whole bytes");
    return total / 8;
  }

  Result<void> read_offsets(const std::string& tensor, const Json& offsets, SafetensorsEntry& e) const {
    const auto& list = offsets.as_array();
    if (list.size() != 2 || !list[0].is_int() || !list[1].is_int() || list[0].as_int() < 0 ||
        list[1].as_int() < list[0].as_int())
      return corrupt(tensor, "'s data_offsets must be two ascending whole numbers");
    if (list[1].as_int() > size_ - data_begin_)
      return corrupt(tensor, " ends at byte ", list[1].as_int(), " of the data, but the file has only ",
                     size_ - data_begin_, ": it is truncated");
    e.begin = data_begin_ + list[0].as_int();
    e.end = data_begin_ + list[1].as_int();
    return {};
  }

  Result<void> check_layout(SafetensorsHeader& header) const {
    std::sort(header.tensors.begin(), header.tensors.end(),
              [](const auto& a, const auto& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
    int64_t at = data_begin_;
    const SafetensorsEntry* previous = nullptr;
    for (const SafetensorsEntry& e : header.tensors) {
      if (e.begin < at) return corrupt("tensors ", in_quotes(previous->name), " and ", in_quotes(e.name), " overlap");
      if (e.begin > at)
        return corrupt(e.begin - at, " bytes before tensor ", in_quotes(e.name), " belong to no tensor");
      at = e.end;
      previous = &e;
    }
    if (at != size_) return corrupt(size_ - at, " bytes at the end belong to no tensor");
    return {};
  }

  std::span<const std::byte> file_;
  const int64_t size_;
  std::string_view name_;
  int64_t data_begin_ = 0;
};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

Error io_error(const std::filesystem::path& path, std::string_view what) {
  return Error{Errc::kIo, str_cat(path.string(), ": cannot ", what, ": ", std::strerror(errno))};
}

std::string header_json(std::span<const NamedTensor> tensors) {
  Json json = Json::object({{"__metadata__", Json::object({{"format", "pt"}})}});
  int64_t at = 0;
  for (const NamedTensor& t : tensors) {
    Json shape = Json::array();
    for (int i = 0; i < t.view.shape.rank(); ++i) shape.push_back(t.view.dim(i));
    const int64_t end = at + t.view.size_bytes();
    json.as_object().emplace_back(t.name, Json::object({{"dtype", to_string(t.view.dtype)},
                                                        {"shape", std::move(shape)},
                                                        {"data_offsets", Json::array({at, end})}}));
    at = end;
  }
  std::string text = json.dump();
  while ((text.size() + 8) % 64 != 0) text.push_back(' ');
  return text;
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors(std::span<const std::byte> file, std::string_view file_name) {
  return HeaderParser(file, file_name).parse();
}

std::string shape_to_string(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += str_cat(i ? ", " : "", shape[i]);
  return out + "]";
}

Result<void> write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors) {
  const std::string header = header_json(tensors);
  std::array<unsigned char, 8> length;
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<unsigned char>(uint64_t{header.size()} >> (8 * i));
  const std::filesystem::path part = path.string() + ".part";
  File out(std::fopen(part.c_str(), "wb"), &std::fclose);
  if (!out) return io_error(part, "create");
  bool ok = std::fwrite(length.data(), 1, length.size(), out.get()) == length.size() &&
            std::fwrite(header.data(), 1, header.size(), out.get()) == header.size();
  for (const NamedTensor& t : tensors) {
    CARAT_CHECK(t.view.contiguous(), "only contiguous tensors are written");
    const auto bytes = static_cast<size_t>(t.view.size_bytes());
    ok = ok && std::fwrite(t.view.data, 1, bytes, out.get()) == bytes;
  }
  ok = ok && std::fclose(out.release()) == 0;
  if (!ok) {
    const Error error = io_error(part, "write");
    std::remove(part.c_str());
    return error;
  }
  std::error_code ec;
  std::filesystem::rename(part, path, ec);
  if (ec) return Error{Errc::kIo, str_cat(path.string(), ": cannot be replaced: ", ec.message())};
  return {};
}

}  // namespace carat
