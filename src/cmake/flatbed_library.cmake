# What the libraries flatbed and flatbed_cuda have in common: both can go into any program or shared
# library, and a shared one exports the public API and nothing else.
set(flatbed_exports "${PROJECT_BINARY_DIR}/exports.map")
configure_file("${CMAKE_CURRENT_LIST_DIR}/exports.map.in" "${flatbed_exports}" @ONLY)

# `name`: of the library's file, lib<name>.
function(flatbed_library target name)
  # Before 1.0 a minor version may change the ABI.
  set_target_properties(${target} PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    INSTALL_RPATH "$ORIGIN" LINK_DEPENDS "${flatbed_exports}"
    DEFINE_SYMBOL "")  # the objects of a shared library are those of a static one
  # Calls of public functions from inside the library may be inlined, although they stay visible.
  target_compile_options(${target} PRIVATE -fno-semantic-interposition)
  get_target_property(kind ${target} TYPE)
  if(kind STREQUAL "SHARED_LIBRARY")
    target_link_options(${target} PRIVATE "LINKER:--version-script=${flatbed_exports}")
  else()
    # A shared library with a static flatbed inside does not export it.
    target_link_options(${target} INTERFACE "LINKER:--exclude-libs,lib${name}.a")
  endif()
endfunction()
