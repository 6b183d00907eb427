# Third-party code. Debian packages are listed in scripts/install_deps, pinned archives of the Python index in cmake/python_deps.txt;
# docs/dependencies.md says what each is for.
include(fetch_deps)

if(CARAT_TESTS)
  find_package(GTest REQUIRED)
endif()
if(CARAT_BENCH)
  find_package(benchmark REQUIRED)
endif()

# simdjson: one header, one source, out of the pysimdjson archive.
carat_fetch_sdist(pysimdjson simdjson_dir)
add_library(third_simdjson STATIC ${simdjson_dir}/simdjson/simdjson.cpp)
target_include_directories(third_simdjson SYSTEM PUBLIC ${simdjson_dir}/simdjson)
target_link_libraries(third_simdjson PUBLIC carat_build)
target_compile_options(third_simdjson PRIVATE -O2 -w)
target_compile_definitions(third_simdjson PUBLIC SIMDJSON_EXCEPTIONS=0)

# utf8proc: the static archive, so that the binary needs only glibc.
find_library(CARAT_UTF8PROC libutf8proc.a REQUIRED)
find_path(CARAT_UTF8PROC_INCLUDE utf8proc.h REQUIRED)
add_library(third_utf8proc STATIC IMPORTED)
set_target_properties(third_utf8proc PROPERTIES
  IMPORTED_LOCATION ${CARAT_UTF8PROC}
  INTERFACE_INCLUDE_DIRECTORIES ${CARAT_UTF8PROC_INCLUDE}
  INTERFACE_COMPILE_DEFINITIONS UTF8PROC_STATIC)

# RE2: stop_regex, in time linear in the text; static like utf8proc.
find_library(CARAT_RE2 libre2.a REQUIRED)
find_path(CARAT_RE2_INCLUDE re2/re2.h REQUIRED)
add_library(third_re2 STATIC IMPORTED)
set_target_properties(third_re2 PROPERTIES
  IMPORTED_LOCATION ${CARAT_RE2}
  INTERFACE_INCLUDE_DIRECTORIES ${CARAT_RE2_INCLUDE}
  INTERFACE_LINK_LIBRARIES Threads::Threads)

# XGrammar: constrained decoding. Its C++ core without the Python bindings, as a target of ours, since its own CMake file turns warnings
# into errors and LTO on.
carat_fetch_sdist(xgrammar xgrammar_dir)
file(GLOB xgrammar_sources ${xgrammar_dir}/cpp/*.cc ${xgrammar_dir}/cpp/*/*.cc)
list(FILTER xgrammar_sources EXCLUDE REGEX "/cpp/tvm_ffi/")
add_library(third_xgrammar STATIC ${xgrammar_sources})
target_include_directories(third_xgrammar SYSTEM PUBLIC ${xgrammar_dir}/include ${xgrammar_dir}/cpp ${xgrammar_dir}/3rdparty/picojson
  ${xgrammar_dir}/3rdparty/dlpack/include)
target_link_libraries(third_xgrammar PUBLIC carat_build Threads::Threads)
# -fwrapv: its reader of escapes in expressions overflows where there are many digits.
target_compile_options(third_xgrammar PRIVATE -O2 -w -fwrapv)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  set_target_properties(third_xgrammar PROPERTIES CXX_STANDARD 17)  # clang 14 refuses its variants of incomplete types in C++20
endif()
# sampling/grammar/grammar.cc receives its messages (XGRAMMAR_LOG_CUSTOMIZE).
target_compile_definitions(third_xgrammar PUBLIC XGRAMMAR_ENABLE_CPPTRACE=0 XGRAMMAR_ENABLE_INTERNAL_CHECK=0 XGRAMMAR_LOG_CUSTOMIZE=1)
