# SPDX-License-Identifier: MIT
# Installs the headers, and what find_package and pkg-config need to find them.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Nothing here depends on the machine, so all of it goes to share/.
set(package_directory ${CMAKE_INSTALL_DATADIR}/cmake/pleat)

install(TARGETS pleat EXPORT pleat_targets FILE_SET HEADERS)
if(PLEAT_BUILD_DISPATCH)
  install(TARGETS pleat_dispatch EXPORT pleat_targets)
endif()
install(
  EXPORT pleat_targets
  NAMESPACE pleat::
  FILE pleat_targets.cmake
  DESTINATION ${package_directory}
)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/pleatConfig.cmake.in ${PROJECT_BINARY_DIR}/pleatConfig.cmake
  INSTALL_DESTINATION ${package_directory}
)
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/pleatConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT
)
# Relative, so that the installed tree can be moved.
file(RELATIVE_PATH include_from_pc ${CMAKE_INSTALL_FULL_DATADIR}/pkgconfig
     ${CMAKE_INSTALL_FULL_INCLUDEDIR}
)
configure_file(${CMAKE_CURRENT_LIST_DIR}/pleat.pc.in ${PROJECT_BINARY_DIR}/pleat.pc @ONLY)

install(
  FILES ${PROJECT_BINARY_DIR}/pleatConfig.cmake ${PROJECT_BINARY_DIR}/pleatConfigVersion.cmake
        ${CMAKE_CURRENT_LIST_DIR}/pleat_dependencies.cmake
  DESTINATION ${package_directory}
)
install(FILES ${PROJECT_BINARY_DIR}/pleat.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
