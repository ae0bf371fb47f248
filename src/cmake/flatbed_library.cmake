# What the libraries flatbed, flatbed_cuda and flatbed_remote have in common: they can go into any
# program or shared library, and a shared one exports the public API and nothing else.
#
# The ABI of the C interface is the number in the soname (libflatbed.so.1) and in the symbol version
# of the C functions (FLATBED_1). It changes if a C program of an earlier version would no longer
# run. The C++ symbols have versions of their own, see exports.map.in.
set(flatbed_C_ABI 1)
set(flatbed_exports "${PROJECT_BINARY_DIR}/exports.map")
configure_file("${CMAKE_CURRENT_LIST_DIR}/exports.map.in" "${flatbed_exports}" @ONLY)

# `name`: of the library's file, lib<name>.
function(flatbed_library target name)
  set_target_properties(${target} PROPERTIES
    VERSION ${flatbed_C_ABI}.${PROJECT_VERSION} SOVERSION ${flatbed_C_ABI}
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
