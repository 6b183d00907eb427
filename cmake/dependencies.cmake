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
