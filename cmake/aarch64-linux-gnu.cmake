# SPDX-License-Identifier: MIT
# Toolchain: Debian's cross compiler for 64-bit ARM, and qemu to run what it makes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

set(CMAKE_FIND_ROOT_PATH /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
# Packages are this machine's: all that is used of them is headers, the same for every CPU, though
# Debian keeps some of their CMake files in the directory of its libraries.
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE NEVER)
file(GLOB packages_of_host /usr/lib/*-linux-gnu/cmake)
list(APPEND CMAKE_PREFIX_PATH ${packages_of_host})
