# Compiler, linker and sanitizer flags shared by every target. Assertions stay on in every build type.
find_program(CENOTE_CCACHE ccache)
if(CENOTE_CCACHE)
  # Paths relative to the checkout and no folder in the hash: every checkout and preset profits from the others.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${CENOTE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
endif()

find_program(CENOTE_MOLD mold)
if(CENOTE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

set(CMAKE_CXX_FLAGS_RELEASE "-O3")
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
add_compile_options(-Wall -Wextra -Wno-missing-field-initializers -fno-omit-frame-pointer)
# GCC 12 sees uninitialised members in std::variant's unused alternatives, where there are none (GCC bug 105562 and its kin).
add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
# x86-64-v3 (AVX2) is what every server of the last ten years has; kernels that need more dispatch at run time.
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  add_compile_options(-march=x86-64-v3 -mtune=generic)
endif()
if(CENOTE_SANITIZE)
  # -O1: a third less compile time than -O2 with these checks, and stacks that can be read.
  add_compile_options(-O1 -fsanitize=${CENOTE_SANITIZE} -fno-sanitize-recover=all -g1)
  add_link_options(-fsanitize=${CENOTE_SANITIZE})
endif()
# Coverage in every room, or the fuzzers would search blindly.
if(CENOTE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
