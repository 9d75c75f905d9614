# SPDX-License-Identifier: MIT
# pleat::dispatch: the kernels of every instruction set, chosen when the program runs.
#
# One generated translation unit for each instruction set, which includes nothing but kernels, and
# is the only thing ever compiled with its flags: inline code of Eigen or the standard library
# compiled so could be kept by the linker for the whole program, and crash it on an older CPU.

# A level with dot products of its own is another one with those in the place of what that has: a
# translation unit of these kernels alone.

# A program that is built without optimization, to be debugged, has fast kernels still.
set(PLEAT_KERNEL_FLAGS "-O2"
    CACHE STRING "What the kernels of pleat::dispatch are compiled with besides"
)
separate_arguments(kernel_flags NATIVE_COMMAND "${PLEAT_KERNEL_FLAGS}")

# A program that is compiled for AVX-512, say, never runs where AVX2 would be the best: tables that
# its flags make useless are not compiled, more than half of all of them in that case.
option(PLEAT_DISPATCH_ALL
       "In pleat::dispatch, also kernels for older CPUs than CMAKE_CXX_FLAGS allow" OFF
)
include(CheckCXXSourceCompiles)

# pleat_compiled_for(<variable> <macros>...): whether the compiler's flags imply instructions.
function(pleat_compiled_for VARIABLE)
  if(PLEAT_DISPATCH_ALL)
    set(${VARIABLE} OFF PARENT_SCOPE)
    return()
  endif()
  list(TRANSFORM ARGN REPLACE "(.+)" "!defined(__\\1__)")
  list(JOIN ARGN " || " missing)
  set(CMAKE_REQUIRED_QUIET ON)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  check_cxx_source_compiles("#if ${missing}\n#error\n#endif\nint here;" PLEAT_COMPILED_FOR)
  set(${VARIABLE} "${PLEAT_COMPILED_FOR}" PARENT_SCOPE)
  # Asked anew the next time, for the flags may be others.
  unset(PLEAT_COMPILED_FOR CACHE)
endfunction()

set(PLEAT_KERNEL_OBJECTS)
set(PLEAT_TABLES)
set(declarations)
set(cases)

# pleat_kernels(<level> <template> <xsimd's name> <trait of dot products> <flags>...)
function(pleat_kernels LEVEL TEMPLATE ARCH DOTS)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/${TEMPLATE}.cpp.in kernels_${LEVEL}.cpp @ONLY)
  add_library(pleat_kernels_${LEVEL} OBJECT ${CMAKE_CURRENT_BINARY_DIR}/kernels_${LEVEL}.cpp)
  target_link_libraries(pleat_kernels_${LEVEL} PRIVATE pleat)
  # xsimd 8.1 does not compile without exceptions under clang.
  target_compile_options(
    pleat_kernels_${LEVEL} PRIVATE ${kernel_flags} ${ARGN}
                                   $<$<CXX_COMPILER_ID:GNU>:-fno-exceptions>
  )
  set_target_properties(
    pleat_kernels_${LEVEL} PROPERTIES POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF
                                      EXCLUDE_FROM_ALL ON
  )
  set(PLEAT_KERNEL_OBJECTS ${PLEAT_KERNEL_OBJECTS} $<TARGET_OBJECTS:pleat_kernels_${LEVEL}>
      PARENT_SCOPE
  )
  if(TEMPLATE STREQUAL "kernels_dots")
    set(macro PLEAT_DOTS)
  else()
    set(macro PLEAT_LEVEL)
  endif()
  set(declarations "${declarations}${macro}(${LEVEL})\n" PARENT_SCOPE)
  set(cases "${cases}    ${macro}(${LEVEL})\n" PARENT_SCOPE)
endfunction()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  pleat_compiled_for(for_avx2 AVX2 FMA F16C)
  pleat_compiled_for(for_avx512 AVX2 FMA F16C AVX512F AVX512CD AVX512DQ AVX512BW)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl)
  if(NOT for_avx2)
    list(APPEND PLEAT_TABLES sse2)
    pleat_kernels(baseline kernels_arch xsimd::sse2 PortableDots)
  endif()
  if(NOT for_avx512)
    list(APPEND PLEAT_TABLES fma3+avx2 avx2+vnni)
    pleat_kernels(
      fma3_avx2 kernels_arch xsimd::fma3<xsimd::avx2> Avx2Dots<xsimd::fma3<xsimd::avx2>> ${avx2}
    )
    # The same instructions in two encodings: few CPUs have both.
    pleat_kernels(
      avx2_vnni kernels_dots xsimd::fma3<xsimd::avx2> Vnni256Dots<256> ${avx2} -mavxvnni
    )
    pleat_kernels(
      avx2_vnni_vl kernels_dots xsimd::fma3<xsimd::avx2> Vnni256Dots<512> ${avx512} -mavx512vnni
      -mprefer-vector-width=256
    )
  endif()
  list(APPEND PLEAT_TABLES avx512 avx512+vnni avx512+vnni+bf16)
  pleat_kernels(avx512 kernels_arch xsimd::avx512bw Avx2Dots<xsimd::avx512bw> ${avx512})
  pleat_kernels(avx512_vnni kernels_dots xsimd::avx512bw Vnni512Dots<false> ${avx512} -mavx512vnni)
  pleat_kernels(
    avx512_vnni_bf16 kernels_dots xsimd::avx512bw Vnni512Dots<true> ${avx512} -mavx512vnni
    -mavx512bf16 -mavx512vbmi
  )
else()
  list(APPEND PLEAT_TABLES neon64 neon64+dot+i8mm)
  pleat_kernels(baseline kernels_arch xsimd::neon64 NeonDots<false>)
  pleat_kernels(
    neon64_dot_i8mm kernels_dots xsimd::neon64 NeonDots<true> -march=armv8.2-a+dotprod+i8mm
  )
endif()

list(GET PLEAT_TABLES 0 PLEAT_BASELINE)

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
