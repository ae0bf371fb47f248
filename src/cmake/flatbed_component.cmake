# A component beside the library: flatbed_<name>, which others link as flatbed::<name>, find as
# find_package(flatbed COMPONENTS <name>) and by pkg-config as flatbed-<name>. The caller links what
# it needs besides flatbed itself.
#   SOURCES          its files
#   HEADERS          its public ones, in include/flatbed
#   DESCRIPTION      for pkg-config, as all that follows
#   CFLAGS           for programs that use it
#   STATIC_LIBS      what a static one needs on every link line
#   STATIC_REQUIRES  packages that a static one needs
function(flatbed_component name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "DESCRIPTION;CFLAGS;STATIC_LIBS;STATIC_REQUIRES"
                        "SOURCES;HEADERS")
  set(target flatbed_${name})
  list(TRANSFORM arg_HEADERS PREPEND "${PROJECT_SOURCE_DIR}/include/flatbed/")
  add_library(${target} ${arg_SOURCES})
  add_library(flatbed::${name} ALIAS ${target})
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include"
                                                   FILES ${arg_HEADERS})
  target_link_libraries(${target} PUBLIC flatbed)
  target_compile_options(${target} PRIVATE ${flatbed_warnings})
  flatbed_library(${target} ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ON)

  if(FLATBED_INSTALL)
    install(TARGETS ${target} EXPORT ${target} FILE_SET HEADERS)
    install(EXPORT ${target} NAMESPACE flatbed:: FILE flatbed-${name}-targets.cmake
            DESTINATION "${CMAKE_INSTALL_LIBDIR}/cmake/flatbed")
    get_target_property(kind ${target} TYPE)
    set(libs "-l${target}")
    set(requires "")
    if(kind STREQUAL "STATIC_LIBRARY")
      string(JOIN " " libs "${libs}" -Wl,--exclude-libs,lib${target}.a ${arg_STATIC_LIBS})
      set(requires "${arg_STATIC_REQUIRES}")
    endif()
    string(JOIN " " cflags "-I\${includedir}" ${arg_CFLAGS})
    string(JOIN ", " requires "flatbed = ${PROJECT_VERSION}" ${requires})
    cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
               BASE_DIRECTORY "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig"
               OUTPUT_VARIABLE flatbed_pc_to_prefix)
    configure_file("${PROJECT_SOURCE_DIR}/src/cmake/flatbed-component.pc.in" flatbed-${name}.pc
                   @ONLY)
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/flatbed-${name}.pc"
            DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
  endif()
endfunction()
