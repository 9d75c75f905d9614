# SPDX-License-Identifier: MIT
# pleat::dispatch: the kernels of every instruction set, chosen when the program runs.
#
# One generated translation unit for each instruction set, which includes nothing but kernels, and
# is the only thing ever compiled with its flags: inline code of Eigen or the standard library
# compiled so could be kept by the linker for the whole program, and crash it on an older CPU.

set(PLEAT_KERNEL_OBJECTS)
set(declarations)
set(cases)

# pleat_kernels(<level> <xsimd's name> <flags>...)
function(pleat_kernels LEVEL ARCH)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/kernels_arch.cpp.in kernels_${LEVEL}.cpp @ONLY)
  add_library(pleat_kernels_${LEVEL} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/kernels_${LEVEL}.cpp)
  target_link_libraries(pleat_kernels_${LEVEL} PRIVATE pleat)
  # xsimd 8.1 does not compile without exceptions under clang.
  target_compile_options(
    pleat_kernels_${LEVEL} PRIVATE ${ARGN} $<$<CXX_COMPILER_ID:GNU>:-fno-exceptions>
  )
  set_target_properties(
    pleat_kernels_${LEVEL} PROPERTIES POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF
                                      EXCLUDE_FROM_ALL ON
  )
  set(PLEAT_KERNEL_OBJECTS ${PLEAT_KERNEL_OBJECTS} $<TARGET_OBJECTS:pleat_kernels_${LEVEL}>
      PARENT_SCOPE
  )
  set(declarations "${declarations}PLEAT_LEVEL(${LEVEL})\n" PARENT_SCOPE)
  set(cases "${cases}    case Level::${LEVEL}: PLEAT_LEVEL(${LEVEL})\n" PARENT_SCOPE)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(PLEAT_BASELINE sse2)
  set(PLEAT_TABLES sse2 fma3+avx2 avx512)
  pleat_kernels(baseline xsimd::sse2)
  pleat_kernels(fma3_avx2 xsimd::fma3<xsimd::avx2> -mavx2 -mfma -mf16c)
  pleat_kernels(
    avx512 xsimd::avx512bw -mavx2 -mfma -mf16c -mavx512f -mavx512cd -mavx512dq -mavx512bw
    -mavx512vl
  )
else()
  set(PLEAT_BASELINE neon64)
  set(PLEAT_TABLES neon64)
  pleat_kernels(baseline xsimd::neon64)
endif()

string(STRIP "${declarations}" DECLARATIONS)
string(REGEX REPLACE "\n$" "" CASES "${cases}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/kernels_select.cpp.in kernels_select.cpp @ONLY)

if(PLEAT_BUILD_DISPATCH)
  set(pleat_on_demand OFF)
else()
  set(pleat_on_demand ON)
endif()
add_library(pleat_dispatch STATIC ${CMAKE_CURRENT_BINARY_DIR}/kernels_select.cpp
                                  ${PLEAT_KERNEL_OBJECTS}
)
add_library(pleat::dispatch ALIAS pleat_dispatch)
target_link_libraries(pleat_dispatch PUBLIC pleat)
target_compile_definitions(pleat_dispatch PUBLIC PLEAT_DISPATCH=1)
set_target_properties(
  pleat_dispatch PROPERTIES EXPORT_NAME dispatch POSITION_INDEPENDENT_CODE ON
                            EXCLUDE_FROM_ALL ${pleat_on_demand}
)
