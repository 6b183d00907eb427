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

# carat_static_library(NAME ARCHIVE HEADER LIBS...): target third_NAME, a static archive of Debian's, so that the binary needs only glibc.
function(carat_static_library name archive header)
  find_library(CARAT_ARCHIVE_${name} ${archive} REQUIRED)
  find_path(CARAT_INCLUDE_${name} ${header} REQUIRED)
  add_library(third_${name} STATIC IMPORTED GLOBAL)
  set_target_properties(third_${name} PROPERTIES
    IMPORTED_LOCATION ${CARAT_ARCHIVE_${name}}
    INTERFACE_INCLUDE_DIRECTORIES ${CARAT_INCLUDE_${name}}
    INTERFACE_LINK_LIBRARIES "${ARGN}")
endfunction()

# Unicode.
carat_static_library(utf8proc libutf8proc.a utf8proc.h)
target_compile_definitions(third_utf8proc INTERFACE UTF8PROC_STATIC)

# stop_regex, in time linear in the text.
carat_static_library(re2 libre2.a re2/re2.h Threads::Threads)

# https.
carat_static_library(crypto libcrypto.a openssl/evp.h ${CMAKE_DL_LIBS} Threads::Threads)
carat_static_library(ssl libssl.a openssl/ssl.h third_crypto)

# Images.
carat_static_library(jpeg libjpeg.a jpeglib.h)
carat_static_library(zlib libz.a zlib.h)
carat_static_library(png libpng16.a png.h third_zlib m)
carat_static_library(webp libwebp.a webp/decode.h m)
carat_static_library(webpdemux libwebpdemux.a webp/demux.h third_webp)
carat_static_library(gif libgif.a gif_lib.h)

# Ogg Vorbis.
carat_static_library(ogg libogg.a ogg/ogg.h)
carat_static_library(vorbis libvorbis.a vorbis/codec.h third_ogg m)
carat_static_library(vorbisfile libvorbisfile.a vorbis/vorbisfile.h third_vorbis)

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

# miniaudio: the readers of WAV, FLAC and MP3 out of one header.
carat_fetch_sdist(miniaudio miniaudio_dir)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/miniaudio.c CONTENT "#define MINIAUDIO_IMPLEMENTATION\n#include <miniaudio.h>\n")
add_library(third_miniaudio STATIC ${CMAKE_BINARY_DIR}/miniaudio.c)
target_include_directories(third_miniaudio SYSTEM PUBLIC ${miniaudio_dir}/miniaudio)
target_link_libraries(third_miniaudio PUBLIC carat_build m)
# -fwrapv: its FLAC predictor overflows on hostile numbers, as it may.
target_compile_options(third_miniaudio PRIVATE -O2 -w -fwrapv)
target_compile_definitions(third_miniaudio PUBLIC MA_NO_DEVICE_IO MA_NO_ENCODING MA_NO_ENGINE MA_NO_GENERATION MA_NO_NODE_GRAPH
  MA_NO_RESOURCE_MANAGER MA_NO_THREADING)

# libsoxr: only its SIMD engine for 32-bit floats, which also keeps no state that threads would share.
carat_fetch_sdist(soxr soxr_dir)
set(soxr_sources cr cr32s data-io dbesi0 fft4g64 filter pffft32s soxr util32s)
list(TRANSFORM soxr_sources REPLACE "(.+)" "${soxr_dir}/libsoxr/src/\\1.c")
block()
  foreach(switch WITH_PFFFT WITH_CR32S HAVE_FENV_H HAVE_STDBOOL_H HAVE_STDINT_H HAVE_LRINT)
    set(${switch} 1)
  endforeach()
  configure_file(${soxr_dir}/libsoxr/soxr-config.h.in ${CMAKE_BINARY_DIR}/soxr/soxr-config.h)
endblock()
add_library(third_soxr STATIC ${soxr_sources})
target_include_directories(third_soxr SYSTEM PUBLIC ${soxr_dir}/libsoxr/src PRIVATE ${CMAKE_BINARY_DIR}/soxr)
target_link_libraries(third_soxr PUBLIC carat_build m)
target_compile_definitions(third_soxr PRIVATE SOXR_LIB)
target_compile_options(third_soxr PRIVATE -O2 -w)
