# Tests and benchmarks reach internals, which a shared library does not export, and the tests of the
# package use a shared one. The kind that this build tree does not have is linked here from the same
# objects, as flatbed_twin, flatbed_cuda_twin and flatbed_remote_twin. Sets names of targets:
# flatbed_internals and flatbed_shared, and the same of flatbed_cuda and flatbed_remote.
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
  set(flatbed_cuda_shared flatbed_cuda)
  set(flatbed_remote_shared flatbed_remote)
  set(flatbed_internals flatbed_twin)
  set(flatbed_cuda_internals flatbed_cuda_twin)
  set(flatbed_remote_internals flatbed_remote_twin)
else()
  set(flatbed_twin_kind SHARED)
  set(flatbed_shared flatbed_twin)
  set(flatbed_cuda_shared flatbed_cuda_twin)
  set(flatbed_remote_shared flatbed_remote_twin)
  set(flatbed_cuda_internals flatbed_cuda)  # flatbed_internals: dependencies.cmake
  set(flatbed_remote_internals flatbed_remote)
endif()
flatbed_add_twin(flatbed ${flatbed_twin_kind})
if(TARGET flatbed_cuda)
  flatbed_add_twin(flatbed_cuda ${flatbed_twin_kind})
  target_link_libraries(flatbed_cuda_twin PUBLIC flatbed_twin)
endif()
if(TARGET flatbed_remote)
  flatbed_add_twin(flatbed_remote ${flatbed_twin_kind})
  target_link_libraries(flatbed_remote_twin PUBLIC flatbed_twin)
endif()
