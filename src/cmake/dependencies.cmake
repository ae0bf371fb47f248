# Where the libraries come from that flatbed uses.
#   FLATBED_DEPS=system  installed ones are found.
#   FLATBED_DEPS=fetch   pinned sources are downloaded, and the few files of them that flatbed needs
#                        are compiled into it: it then requires libc and libstdc++ alone, and an
#                        engine may have versions of its own of the same libraries.
#   FLATBED_DEPS=auto    system where all of them are installed, otherwise fetch.
# liblzma is used where it is installed, and only with `system`: without it, .xz and .lzma files are
# unknown to a scan. So is liburing, for loads past the page cache, unless FLATBED_URING says
# otherwise; without it, threads wait for the disk.
# Sets flatbed_simdjson, flatbed_xxhash, flatbed_zlib and flatbed_libdeflate, and for the tool
# flatbed_fmt and flatbed_cli11, to what a program links. The library calls
# flatbed_link_dependencies() instead, since the package that it is installed as must not name
# targets of this build. flatbed_internals is the library for tests, which need more than its public
# API, and flatbed_dependency_objects are the objects that were compiled into it.
set(FLATBED_DEPS system CACHE STRING
    "Where simdjson, xxHash, zlib, libdeflate, fmt and CLI11 come from: system, fetch or auto")
set_property(CACHE FLATBED_DEPS PROPERTY STRINGS system fetch auto)
if(NOT FLATBED_DEPS MATCHES "^(system|fetch|auto)$")
  message(FATAL_ERROR "FLATBED_DEPS is '${FLATBED_DEPS}', expected system, fetch or auto")
endif()
if(FLATBED_DEPS STREQUAL "auto")
  set(FLATBED_DEPS system)
  set(flatbed_wanted simdjson xxHash ZLIB libdeflate)
  if(FLATBED_TOOLS)
    list(APPEND flatbed_wanted CLI11 fmt)
  endif()
  foreach(package ${flatbed_wanted})
    find_package(${package} QUIET)
    if(NOT ${package}_FOUND)
      message(STATUS "${package} is not installed: all dependencies are compiled in")
      set(FLATBED_DEPS fetch)
      break()
    endif()
  endforeach()
endif()
set(FLATBED_URING AUTO CACHE STRING
    "Read past the page cache with io_uring: AUTO (with an installed liburing), ON or OFF")
set_property(CACHE FLATBED_URING PROPERTY STRINGS AUTO ON OFF)
if(NOT FLATBED_URING MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "FLATBED_URING is '${FLATBED_URING}', expected AUTO, ON or OFF")
elseif(FLATBED_URING STREQUAL "ON" AND FLATBED_DEPS STREQUAL "fetch")
  message(FATAL_ERROR "FLATBED_URING=ON needs an installed liburing, and FLATBED_DEPS=system")
endif()
set(flatbed_with_uring FALSE)
find_package(Threads REQUIRED)
set(flatbed_internals flatbed)
set(flatbed_dependency_objects "")

if(FLATBED_DEPS STREQUAL "system")
  find_package(simdjson REQUIRED)
  find_package(xxHash REQUIRED)
  find_package(ZLIB REQUIRED)
  find_package(libdeflate REQUIRED)
  find_package(LibLZMA QUIET)
  if(NOT LIBLZMA_FOUND)
    message(STATUS "liblzma was not found: `flatbed scan` will not follow .xz and .lzma files")
  endif()
  if(FLATBED_URING STREQUAL "ON")
    find_package(liburing REQUIRED)
  elseif(FLATBED_URING STREQUAL "AUTO")
    find_package(liburing QUIET)
  endif()
  if(liburing_FOUND AND NOT FLATBED_URING STREQUAL "OFF")
    set(flatbed_with_uring TRUE)
  else()
    message(STATUS "without io_uring: loads past the page cache wait for the disk in threads")
  endif()
  set(flatbed_simdjson simdjson::simdjson)
  set(flatbed_xxhash xxHash::xxhash)
  set(flatbed_zlib ZLIB::ZLIB)
  set(flatbed_libdeflate libdeflate::libdeflate)
  if(FLATBED_TOOLS)
    find_package(CLI11 REQUIRED)
    find_package(fmt REQUIRED)
    set(flatbed_fmt fmt::fmt)
    set(flatbed_cli11 CLI11::CLI11)
  endif()
  set(flatbed_pc_modules simdjson libxxhash zlib libdeflate)
  if(LIBLZMA_FOUND)
    list(APPEND flatbed_pc_modules liblzma)
  endif()
  if(flatbed_with_uring)
    list(APPEND flatbed_pc_modules liburing)
  endif()

  function(flatbed_link_dependencies)
    target_link_libraries(flatbed PRIVATE ${flatbed_simdjson} ${flatbed_xxhash} ${flatbed_zlib}
                                          ${flatbed_libdeflate} Threads::Threads)
    if(LIBLZMA_FOUND)
      target_link_libraries(flatbed PRIVATE LibLZMA::LibLZMA)
      set_source_files_properties(archive/unpack.cpp PROPERTIES
        COMPILE_DEFINITIONS FLATBED_LZMA=1 SKIP_PRECOMPILE_HEADERS ON)
    endif()
    if(flatbed_with_uring)
      target_link_libraries(flatbed PRIVATE liburing::liburing)
      set_source_files_properties(io/read_queue.cpp PROPERTIES
        COMPILE_DEFINITIONS FLATBED_URING=1 SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endfunction()
  return()
endif()

enable_language(C)
include(FetchContent)

# A "unique" symbol stays global in every object, so that objcopy cannot make it local.
set(flatbed_not_unique $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>)

# Makes the object library flatbed_<name> of the files in SOURCES, and installs the licence, which
# the build tree has in third_party/.
# FETCHCONTENT_SOURCE_DIR_FLATBED_<NAME> names an unpacked source tree to use instead of the
# download, for builds without network: tests/install/get_sources.sh unpacks Debian's.
function(flatbed_fetch name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "URL;SHA256;TERMS" "SOURCES;INCLUDES;DEFINITIONS")
  # No CMakeLists.txt of theirs runs: SOURCE_SUBDIR names a folder that none of them has.
  FetchContent_Declare(flatbed_${name} URL "${arg_URL}" URL_HASH "SHA256=${arg_SHA256}"
                       SOURCE_SUBDIR compiled_by_flatbed)
  FetchContent_MakeAvailable(flatbed_${name})
  set(source_dir "${flatbed_${name}_SOURCE_DIR}")

  list(TRANSFORM arg_INCLUDES PREPEND "${source_dir}/")
  if(arg_SOURCES)
    list(TRANSFORM arg_SOURCES PREPEND "${source_dir}/")
    add_library(flatbed_${name} OBJECT EXCLUDE_FROM_ALL ${arg_SOURCES})
    target_include_directories(flatbed_${name} SYSTEM PUBLIC ${arg_INCLUDES})
    target_compile_definitions(flatbed_${name} PRIVATE ${arg_DEFINITIONS})
    # Warnings are their authors' matter; unoptimized, their loops would slow every debug build.
    target_compile_options(flatbed_${name} PRIVATE -w $<$<CONFIG:Debug>:-O2> ${flatbed_not_unique}
      $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:$<BOOL:${FLATBED_EXCEPTIONS}>>>:-fno-exceptions>)
    set_target_properties(flatbed_${name} PROPERTIES
      POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden
      VISIBILITY_INLINES_HIDDEN ON CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON)
  else()
    add_library(flatbed_${name} INTERFACE)
    target_include_directories(flatbed_${name} SYSTEM INTERFACE ${arg_INCLUDES})
  endif()
  set(flatbed_${name} flatbed_${name} PARENT_SCOPE)
  set(licence "${PROJECT_BINARY_DIR}/third_party/${name}.txt")
  configure_file("${source_dir}/${arg_TERMS}" "${licence}" COPYONLY)
  if(FLATBED_INSTALL)
    install(FILES "${licence}" DESTINATION "${CMAKE_INSTALL_DOCDIR}/third_party")
  endif()
endfunction()

# The versions are those of Debian 12: what is tested there is what is fetched. The .orig.tar.gz of
# simdjson, xxHash and libdeflate have these hashes there too; zlib, fmt and CLI11 are repacked.
flatbed_fetch(simdjson
  URL https://github.com/simdjson/simdjson/archive/refs/tags/v3.0.1.tar.gz
  SHA256 156b1bc5eb0561b2bd166b46d191fd3d95a3e709cc63761477d3b7aec2b6e9ed
  SOURCES src/simdjson.cpp INCLUDES include src TERMS LICENSE)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  set(flatbed_xxhash_dispatch xxh_x86dispatch.c)  # chooses SSE2, AVX2 or AVX-512 at run time
endif()
flatbed_fetch(xxhash
  URL https://github.com/Cyan4973/xxHash/archive/refs/tags/v0.8.1.tar.gz
  SHA256 3bb6b7d6f30c591dd65aaaff1c8b7a5b94d81687998ca9400082c739a690436c
  SOURCES xxhash.c ${flatbed_xxhash_dispatch} DEFINITIONS XXH_X86DISPATCH_ALLOW_AVX
  INCLUDES . TERMS LICENSE)
# The side of zlib that inflates, and crc32_combine().
flatbed_fetch(zlib
  URL https://github.com/madler/zlib/releases/download/v1.2.13/zlib-1.2.13.tar.gz
  SHA256 b3a24de97a8fdbc835b9833169501030b8977031bcb54b3b3ac13740f846ab30
  SOURCES adler32.c crc32.c inffast.c inflate.c inftrees.c zutil.c
  DEFINITIONS HAVE_HIDDEN INCLUDES . TERMS LICENSE)
# Its CRC-32 alone.
flatbed_fetch(libdeflate
  URL https://github.com/ebiggers/libdeflate/archive/refs/tags/v1.14.tar.gz
  SHA256 89e7df898c37c3427b0f39aadcf733731321a278771d20fc553f92da8d4808ac
  SOURCES lib/crc32.c lib/arm/cpu_features.c lib/x86/cpu_features.c INCLUDES . TERMS COPYING)
if(FLATBED_TOOLS)
  flatbed_fetch(fmt
    URL https://github.com/fmtlib/fmt/archive/refs/tags/9.1.0.tar.gz
    SHA256 5dea48d1fcddc3ec571ce2058e13910a0d4a6bab4cc09a809d8b1dd1c88ae6f2
    SOURCES src/format.cc INCLUDES include TERMS LICENSE.rst)
  flatbed_fetch(cli11
    URL https://github.com/CLIUtils/CLI11/archive/refs/tags/v2.1.2.tar.gz
    SHA256 26291377e892ba0e5b4972cdfd4a2ab3bf53af8dac1f4ea8fe0d1376b625c8cb
    INCLUDES include TERMS LICENSE)
endif()
set(flatbed_pc_modules "")
foreach(name simdjson xxhash zlib libdeflate)
  list(APPEND flatbed_dependency_objects $<TARGET_OBJECTS:flatbed_${name}>)
endforeach()
if(NOT BUILD_SHARED_LIBS)
  set(flatbed_internals flatbed_unsealed)
endif()

# Replaces the objects of the static library with one in which every hidden symbol is local.
# Inside an archive, hidden symbols still clash with those of other archives.
function(flatbed_seal)
  set(object "$<TARGET_FILE_DIR:flatbed>/flatbed.o")
  set(link "${CMAKE_CXX_COMPILER}" -r -nostdlib -fuse-ld=bfd)
  if(CMAKE_CXX_COMPILER_TARGET)
    list(APPEND link "--target=${CMAKE_CXX_COMPILER_TARGET}")
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND link -flinker-output=nolto-rel)
  endif()
  # Section groups are dissolved: a linker keeps one group of each name, and a group of another
  # simdjson would replace ours. Inline functions of simdjson stand in objects of our own too.
  add_custom_command(TARGET flatbed POST_BUILD
    COMMAND ${link} -Wl,--force-group-allocation -Wl,--whole-archive $<TARGET_FILE:flatbed>
            -Wl,--no-whole-archive -o "${object}"
    COMMAND "${CMAKE_OBJCOPY}" --localize-hidden --wildcard "--localize-symbol=*8simdjson*"
            "${object}"
    COMMAND "${CMAKE_COMMAND}" -E rm $<TARGET_FILE:flatbed>
    COMMAND "${CMAKE_AR}" qcs $<TARGET_FILE:flatbed> "${object}"
    COMMAND "${CMAKE_COMMAND}" -E rm "${object}"
    COMMENT "Sealing the static library" VERBATIM)

  add_library(flatbed_unsealed STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:flatbed>
                               ${flatbed_dependency_objects})
  set_target_properties(flatbed_unsealed PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(flatbed_unsealed PUBLIC Threads::Threads)
  target_include_directories(flatbed_unsealed PUBLIC "${PROJECT_SOURCE_DIR}/include")
  target_compile_features(flatbed_unsealed PUBLIC cxx_std_20)
endfunction()

function(flatbed_link_dependencies)
  target_sources(flatbed PRIVATE ${flatbed_dependency_objects})
  foreach(name simdjson xxhash zlib libdeflate)
    target_include_directories(flatbed SYSTEM PRIVATE
      $<TARGET_PROPERTY:flatbed_${name},INTERFACE_INCLUDE_DIRECTORIES>)
  endforeach()
  target_link_libraries(flatbed PRIVATE Threads::Threads)
  # What an engine does not call can be left out of it, though it is all one object.
  target_compile_options(flatbed PRIVATE -ffunction-sections -fdata-sections ${flatbed_not_unique})
  if(NOT BUILD_SHARED_LIBS)
    flatbed_seal()
  endif()
endfunction()
