# SPDX-License-Identifier: MIT
# Finds what pleat's headers include: the target pleat::dependencies, or a reason in pleat_missing.
# The build and the installed package configuration both include this file, so they cannot disagree.

unset(pleat_missing)
if(TARGET pleat::dependencies)
  return()
endif()

# Eigen is asked for without a version: its version file refuses a range that crosses a major
# number, and both 3.4 and 5 are right.
if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 CONFIG QUIET)
endif()
if(NOT TARGET xsimd::xsimd AND NOT TARGET xsimd)
  find_package(xsimd CONFIG QUIET)
endif()
# Only pleat/io needs it.
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_package(nlohmann_json CONFIG QUIET)
endif()

if(NOT TARGET Eigen3::Eigen)
  set(pleat_missing "Eigen (>= 3.4) was not found; on Debian, install libeigen3-dev")
elseif(DEFINED Eigen3_VERSION AND (Eigen3_VERSION VERSION_LESS 3.4.0
                                   OR Eigen3_VERSION VERSION_GREATER_EQUAL 6))
  set(pleat_missing "Eigen ${Eigen3_VERSION} was found, but pleat needs 3.4 or 5")
elseif(NOT TARGET xsimd::xsimd AND NOT TARGET xsimd)
  set(pleat_missing "xsimd (>= 8.1) was not found; on Debian, install libxsimd-dev")
elseif(DEFINED xsimd_VERSION AND xsimd_VERSION VERSION_LESS 8.1)
  set(pleat_missing "xsimd ${xsimd_VERSION} was found, but pleat needs 8.1 or later")
else()
  # An imported target, because its headers are then system headers, whose warnings are not ours.
  add_library(pleat::dependencies INTERFACE IMPORTED)
  target_link_libraries(pleat::dependencies INTERFACE Eigen3::Eigen)
  if(TARGET xsimd::xsimd)
    target_link_libraries(pleat::dependencies INTERFACE xsimd::xsimd)
  else()
    # Debian's target also links xtl, a header-only library that no linker finds: take its headers.
    get_target_property(pleat_xsimd_headers xsimd INTERFACE_INCLUDE_DIRECTORIES)
    target_include_directories(pleat::dependencies INTERFACE ${pleat_xsimd_headers})
    unset(pleat_xsimd_headers)
  endif()
  if(TARGET nlohmann_json::nlohmann_json)
    target_link_libraries(pleat::dependencies INTERFACE nlohmann_json::nlohmann_json)
  elseif(NOT pleat_FIND_QUIETLY)
    message(STATUS "pleat: nlohmann_json was not found; all but pleat/io/ can be used")
  endif()
endif()
