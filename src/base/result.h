#pragma once
// Result<T>: a value or an Error, with std::expected's names so that it can become an alias of it later
// (docs/adr/0001).

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace carat {

/// What kind of operating error happened. Short on purpose: api/error_map.cc alone turns it into a status and an error
/// type.
enum class Errc {
  kInvalidArgument,  ///< the caller asked for something malformed or out of range
  kNotFound,         ///< a file, model, response or request that does not exist
  kCorruptFile,      ///< a file that breaks its own format
  kUnsupported,      ///< well-formed, but not something this program does
  kTooLarge,         ///< over a size limit
  kOverloaded,       ///< a queue or pool is full; try again later
  kUnavailable,      ///< starting, shutting down or failed
  kCancelled,        ///< ended by its owner
  kIo,               ///< the operating system refused
  kInternal,         ///< a defect of ours
};

std::string_view to_string(Errc code);

/// An operating error: what, which value, and what was allowed, in one sentence for the person who can mend it.
struct Error {
  Errc code = Errc::kInternal;
  std::string message;
};

template <class T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }
  T& value() & { return checked(); }
  const T& value() const& { return const_cast<Result*>(this)->checked(); }
  T&& value() && { return std::move(checked()); }
  T& operator*() & { return checked(); }
  const T& operator*() const& { return const_cast<Result*>(this)->checked(); }
  T&& operator*() && { return std::move(checked()); }
  T* operator->() { return &checked(); }
  const T* operator->() const { return &const_cast<Result*>(this)->checked(); }
  const Error& error() const& { return std::get<1>(state_); }
  Error& error() & { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }
  T value_or(T other) const& { return has_value() ? std::get<0>(state_) : std::move(other); }

 private:
  T& checked() {
    CARAT_CHECK(has_value(), std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design
  bool has_value() const { return !error_; }
  explicit operator bool() const { return has_value(); }
  void value() const { CARAT_CHECK(has_value(), error_->message); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

}  // namespace carat

#define CARAT_CONCAT_(a, b) a##b
#define CARAT_CONCAT(a, b) CARAT_CONCAT_(a, b)
#define CARAT_TRY_BIND_(tmp, decl, expr)   \
  auto tmp = (expr);                       \
  if (!tmp) return std::move(tmp).error(); \
  decl = std::move(tmp).value()

/// CARAT_TRY(const auto x, f()): returns f()'s error from the enclosing function, or binds its value.
#define CARAT_TRY(decl, expr) CARAT_TRY_BIND_(CARAT_CONCAT(carat_try_, __COUNTER__), decl, expr)
/// CARAT_TRY_VOID(f()): returns f()'s error from the enclosing function, if there is one.
#define CARAT_TRY_VOID(expr) \
  if (auto carat_try_void = (expr); !carat_try_void) return std::move(carat_try_void).error()
