# Tests and benchmarks reach internals, which a shared library does not export, and the tests of the
# package use a shared one. The kind that this build tree does not have is linked here from the same
# objects, as flatbed_twin, flatbed_cuda_twin and so on. Sets the names of the targets:
# flatbed_internals and flatbed_shared, and the same of flatbed_cuda, flatbed_remote and
# flatbed_mpi.
function(flatbed_add_twin target kind)
  set(twin ${target}_twin)
  add_library(${twin} ${kind} $<TARGET_OBJECTS:${target}>)
  if(target STREQUAL "flatbed")  # whose TARGET_OBJECTS are those of its own sources
    target_sources(${twin} PRIVATE ${flatbed_dependency_objects})
  endif()
  flatbed_library(${twin} ${target})
  set_target_properties(${twin} PROPERTIES
    LINKER_LANGUAGE CXX OUTPUT_NAME ${target}
    ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/twins"
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/twins")
  get_target_property(headers ${target} HEADER_SET)
  target_sources(${twin} PUBLIC FILE_SET HEADERS
                 BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${headers})
  target_compile_features(${twin} PUBLIC cxx_std_20)
  get_target_property(requirements ${target} LINK_LIBRARIES)
  list(REMOVE_ITEM requirements flatbed)
  target_link_libraries(${twin} PRIVATE ${requirements})
endfunction()

get_target_property(flatbed_kind flatbed TYPE)
if(flatbed_kind STREQUAL "SHARED_LIBRARY")
  set(flatbed_twin_kind STATIC)
  set(flatbed_shared flatbed)
  set(flatbed_internals flatbed_twin)
else()
  set(flatbed_twin_kind SHARED)
  set(flatbed_shared flatbed_twin)  # flatbed_internals: dependencies.cmake
endif()
flatbed_add_twin(flatbed ${flatbed_twin_kind})
foreach(component flatbed_cuda flatbed_mpi flatbed_remote)
  if(flatbed_kind STREQUAL "SHARED_LIBRARY")
    set(${component}_shared ${component})
    set(${component}_internals ${component}_twin)
  else()
    set(${component}_shared ${component}_twin)
    set(${component}_internals ${component})
  endif()
  if(TARGET ${component})
    flatbed_add_twin(${component} ${flatbed_twin_kind})
    target_link_libraries(${component}_twin PUBLIC flatbed_twin)
  endif()
endforeach()
if(TARGET flatbed_mpi)
  target_link_libraries(flatbed_mpi_twin PUBLIC MPI::MPI_CXX)
endif()
