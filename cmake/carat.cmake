# carat_library, carat_test, carat_bench, carat_fuzz: the only ways in which folders declare what they build.
# One static library per folder: target carat_<name>, alias carat::<name>. DEPS are other folders (checked by scripts/check_layers),
# LIBS are third-party targets, which stay private to the folder unless a header of it must show them.

find_program(CARAT_CCACHE ccache)
if(CARAT_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CARAT_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CARAT_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CARAT_CCACHE})
endif()

find_package(Threads REQUIRED)

# What all of our own targets share.
add_library(carat_options INTERFACE)
target_include_directories(carat_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_link_libraries(carat_options INTERFACE Threads::Threads)
target_compile_options(carat_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Werror>
  # GCC 12 sees overlapping copies in std::string that cannot happen (GCC bug 105651).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra -Werror=all-warnings>)

# What our targets and the third-party code compiled here share.
add_library(carat_build INTERFACE)
target_link_libraries(carat_options INTERFACE carat_build)
if(CARAT_SANITIZE)
  target_compile_options(carat_build INTERFACE -fsanitize=${CARAT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # Instrumented code hides from GCC that the other alternatives of a std::variant are not destroyed.
  target_compile_options(carat_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
  target_link_options(carat_build INTERFACE -fsanitize=${CARAT_SANITIZE})
endif()
if(CARAT_FUZZ)
  target_compile_options(carat_build INTERFACE -fsanitize=fuzzer-no-link)
endif()

function(carat_library name)
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS;PUBLIC_LIBS" ${ARGN})
  add_library(carat_${name} STATIC ${A_SRCS})
  add_library(carat::${name} ALIAS carat_${name})
  target_link_libraries(carat_${name} PUBLIC carat_options ${A_PUBLIC_LIBS} PRIVATE ${A_LIBS})
  foreach(dep ${A_DEPS})
    target_link_libraries(carat_${name} PUBLIC carat_${dep})
  endforeach()
endfunction()

# One test program per folder. DEPS beyond the folder itself may be named for tests that need them.
function(carat_test name)
  if(NOT CARAT_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "TIMEOUT" "SRCS;DEPS;LIBS;LABELS" ${ARGN})
  add_executable(carat_${name}_test ${A_SRCS})
  target_link_libraries(carat_${name}_test PRIVATE carat_options ${A_LIBS} GTest::gmock_main)
  if(TARGET carat_${name})
    target_link_libraries(carat_${name}_test PRIVATE carat_${name})
  endif()
  foreach(dep ${A_DEPS})
    target_link_libraries(carat_${name}_test PRIVATE carat_${dep})
  endforeach()
  # Tests find their own data under tests/ and, where it exists, the shared folder beside the checkout.
  target_compile_definitions(carat_${name}_test PRIVATE CARAT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME ${name} COMMAND carat_${name}_test)
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 600)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
endfunction()

function(carat_bench name)
  if(NOT CARAT_BENCH)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS" ${ARGN})
  foreach(src ${A_SRCS})
    get_filename_component(stem ${src} NAME_WE)
    add_executable(carat_${stem} ${src})
    target_link_libraries(carat_${stem} PRIVATE carat_${name} carat_options ${A_LIBS} benchmark::benchmark)
    target_compile_definitions(carat_${stem} PRIVATE CARAT_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    foreach(dep ${A_DEPS})
      target_link_libraries(carat_${stem} PRIVATE carat_${dep})
    endforeach()
  endforeach()
endfunction()

# x_fuzz.cc defines LLVMFuzzerTestOneInput. With CARAT_FUZZ it is linked with libFuzzer; otherwise with a small main that runs the
# files given to it, so that fuzz targets cannot rot and their corpora are regression tests: tests/corpus/<stem>/ is run if it exists.
function(carat_fuzz name)
  if(NOT CARAT_TESTS)
    return()
  endif()
  cmake_parse_arguments(A "" "" "SRCS;DEPS;LIBS" ${ARGN})
  foreach(src ${A_SRCS})
    get_filename_component(stem ${src} NAME_WE)
    if(CARAT_FUZZ)
      add_executable(carat_${stem} ${src})
      target_link_options(carat_${stem} PRIVATE -fsanitize=fuzzer)
    else()
      add_executable(carat_${stem} ${src} ${CMAKE_SOURCE_DIR}/tests/fuzz_main.cc)
    endif()
    target_link_libraries(carat_${stem} PRIVATE carat_${name} carat_options ${A_LIBS})
    foreach(dep ${A_DEPS})
      target_link_libraries(carat_${stem} PRIVATE carat_${dep})
    endforeach()
    if(NOT CARAT_FUZZ)
      add_test(NAME ${stem} COMMAND carat_${stem} ${CMAKE_SOURCE_DIR}/tests/corpus/${stem})
      set_tests_properties(${stem} PROPERTIES LABELS "unit;fuzz" TIMEOUT 600)
    endif()
  endforeach()
endfunction()
