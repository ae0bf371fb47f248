# Cross build for 64-bit Arm with Debian's g++-aarch64-linux-gnu, against the libraries that
#   src/cmake/aarch64_root.sh build/aarch64-root
# unpacks. With qemu-user the tests run too.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

set(FLATBED_AARCH64_ROOT "${CMAKE_CURRENT_LIST_DIR}/../../build/aarch64-root"
    CACHE PATH "Where aarch64_root.sh unpacked the libraries")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FLATBED_AARCH64_ROOT)
set(CMAKE_FIND_ROOT_PATH "${FLATBED_AARCH64_ROOT}" /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
find_program(FLATBED_QEMU qemu-aarch64)
if(FLATBED_QEMU)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${FLATBED_QEMU};-L;/usr/aarch64-linux-gnu")
endif()
