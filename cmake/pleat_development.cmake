# SPDX-License-Identifier: MIT
# What the tests, examples and benchmarks share: warnings, OpenMP, a compiler cache if there is one.

if(PROJECT_IS_TOP_LEVEL AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(PLEAT_CCACHE ccache)
  mark_as_advanced(PLEAT_CCACHE)
  if(PLEAT_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${PLEAT_CCACHE})
  endif()
endif()

find_package(OpenMP COMPONENTS CXX)

# Linked by everything that pleat builds for itself.
add_library(pleat_development INTERFACE)
target_link_libraries(pleat_development INTERFACE pleat::pleat)
if(OpenMP_CXX_FOUND)
  target_link_libraries(pleat_development INTERFACE OpenMP::OpenMP_CXX)
endif()
if(MSVC)
  target_compile_options(
    pleat_development INTERFACE /W4 /permissive- $<$<BOOL:${PLEAT_WARNINGS_AS_ERRORS}>:/WX>
  )
else()
  target_compile_options(
    pleat_development INTERFACE -Wall -Wextra -Wconversion -Wshadow
                                $<$<BOOL:${PLEAT_WARNINGS_AS_ERRORS}>:-Werror>
  )
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # It warns of its own AVX-512 headers (GCC bug 105593), where -march=native means that, and of a
    # literal plus a string (GCC bug 105651).
    target_compile_options(pleat_development INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
  endif()
endif()

# The headers of the dependencies, as flags for tests that call the compiler by hand. Not the
# system's own directory, which no compiler wants to hear of.
set(PLEAT_DEPENDENCY_FLAGS
    "$<TARGET_PROPERTY:pleat::dependencies,INTERFACE_INCLUDE_DIRECTORIES>"
)
set(PLEAT_DEPENDENCY_FLAGS "$<FILTER:${PLEAT_DEPENDENCY_FLAGS},EXCLUDE,^/usr/include/*$>")
set(PLEAT_DEPENDENCY_FLAGS
    "$<$<BOOL:${PLEAT_DEPENDENCY_FLAGS}>:-I$<JOIN:${PLEAT_DEPENDENCY_FLAGS},;-I>>"
)
