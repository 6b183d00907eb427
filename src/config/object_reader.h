#pragma once
// Reads the members of one JSON object with checks, for configuration files.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace carat {

/// The first failure is kept in `status` and every read after it yields a default, so that a long list of reads needs
/// one check at its end. A member that is null counts as absent.
class ObjectReader {
 public:
  /// `prefix` is put before keys in messages, e.g. "config.json: text_config."; both must outlive the reader. A value
  /// that is not an object is a failure.
  ObjectReader(const Json& object, std::string prefix, Result<void>& status);

  const Json* find(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t min, int64_t max, std::optional<int64_t> fallback = {});
  std::optional<int> optional_integer(std::string_view key, int64_t min, int64_t max);
  /// In (min, max], or [min, max] if `closed`.
  double number(std::string_view key, double min, double max, bool closed, std::optional<double> fallback = {});
  std::optional<double> optional_number(std::string_view key, double min, double max, bool closed);
  bool boolean(std::string_view key, bool fallback);
  /// One of `allowed`; anything else is kUnsupported.
  std::string word(std::string_view key, std::span<const std::string_view> allowed, std::string_view fallback);

  /// Keeps "PREFIXkey is VALUE, WHY".
  void fail(Errc code, std::string_view key, std::string_view why);
  bool ok() const { return status_.has_value(); }
  const std::string& prefix() const { return prefix_; }

 private:
  const Json& object_;
  std::string prefix_;
  Result<void>& status_;
};

/// `value` as JSON, cut to a length that suits a message.
std::string brief(const Json& value);

}  // namespace carat
