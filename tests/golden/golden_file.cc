#include "golden_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/str.h"
#include "tensor/bf16.h"

namespace carat::testing {

GoldenFile::GoldenFile(const std::filesystem::path& path)
    : file_(MappedFile::open(path).value()), header_(parse_safetensors(file_.bytes(), path.string()).value()) {
  std::ranges::sort(header_.tensors, {}, &SafetensorsEntry::name);
}

const SafetensorsEntry* GoldenFile::find(std::string_view name) const {
  const auto it = std::ranges::lower_bound(header_.tensors, name, {}, &SafetensorsEntry::name);
  return it != header_.tensors.end() && it->name == name ? &*it : nullptr;
}

const SafetensorsEntry& GoldenFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  CARAT_CHECK(entry, str_cat("the reference has no tensor ", name));
  return *entry;
}

std::vector<float> GoldenFile::floats(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  const bool wide = entry.dtype == "F32";
  CARAT_CHECK(wide || entry.dtype == "BF16", str_cat(name, " is ", entry.dtype));
  std::vector<float> out(static_cast<size_t>((entry.end - entry.begin) / (wide ? 4 : 2)));
  for (size_t i = 0; i < out.size(); ++i) {
    if (wide) {
      std::memcpy(&out[i], data(entry) + 4 * i, 4);
    } else {
      uint16_t bits = 0;
      std::memcpy(&bits, data(entry) + 2 * i, 2);
      out[i] = static_cast<float>(Bf16::from_bits(bits));
    }
  }
  return out;
}

std::vector<int32_t> GoldenFile::ints(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  CARAT_CHECK(entry.dtype == "I32", str_cat(name, " is ", entry.dtype));
  std::vector<int32_t> out(static_cast<size_t>((entry.end - entry.begin) / 4));
  std::memcpy(out.data(), data(entry), out.size() * 4);
  return out;
}

std::vector<uint8_t> GoldenFile::bytes(std::string_view name) const {
  const SafetensorsEntry& entry = at(name);
  CARAT_CHECK(entry.dtype == "U8", str_cat(name, " is ", entry.dtype));
  const auto* first = reinterpret_cast<const uint8_t*>(data(entry));
  return {first, first + (entry.end - entry.begin)};
}

void Difference::add(float actual, float expected) {
  const double difference = static_cast<double>(actual) - static_cast<double>(expected);
  const double magnitude = std::isnan(difference) ? INFINITY : std::abs(difference);
  add(Difference{1, actual == expected ? 0 : 1, magnitude, magnitude * magnitude, std::pow(expected, 2)});
}

void Difference::add(const Difference& other) {
  count += other.count;
  differing += other.differing;
  max_abs = std::max(max_abs, other.max_abs);
  squares += other.squares;
  value_squares += other.value_squares;
}

std::string Difference::to_string() const {
  return str_cat(differing, " of ", count, " differ, by at most ", static_cast<float>(max_abs), ", rms ",
                 static_cast<float>(100 * relative_rms()), " %");
}

}  // namespace carat::testing
