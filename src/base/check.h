#pragma once
// Programmer errors: an invariant of ours is broken. No input from outside may trigger one. Always on, except
// CARAT_DCHECK.

#include <sstream>
#include <string>
#include <string_view>

namespace carat {

/// Prints the place, the condition and the explanation to stderr and aborts.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, std::string_view what);

template <class A, class B>
[[noreturn]] void check_eq_failed(const char* file, int line, const char* condition, const A& a, const B& b) {
  std::ostringstream out;
  out << a << " vs " << b;
  check_failed(file, line, condition, out.str());
}

}  // namespace carat

#define CARAT_CHECK(cond, what) \
  (static_cast<bool>(cond) ? static_cast<void>(0) : ::carat::check_failed(__FILE__, __LINE__, #cond, (what)))
#define CARAT_CHECK_EQ(a, b)                                                                    \
  do {                                                                                          \
    const auto& carat_check_a = (a);                                                            \
    const auto& carat_check_b = (b);                                                            \
    if (!(carat_check_a == carat_check_b))                                                      \
      ::carat::check_eq_failed(__FILE__, __LINE__, #a " == " #b, carat_check_a, carat_check_b); \
  } while (false)
#ifdef NDEBUG
#define CARAT_DCHECK(cond, what) static_cast<void>(sizeof(!(cond)))
#else
#define CARAT_DCHECK(cond, what) CARAT_CHECK(cond, what)
#endif
