# ctest includes this before it runs: one test for each suite of a GoogleTest program, which takes
# a fraction of the time of a process for each test. Given by flatbed_add_suites (CMakeLists.txt):
# target, command (a list: the emulator, if any, and the program). A test that skips itself is named
# in the output of its suite (ctest -V) and counts as passed.
execute_process(COMMAND ${command} --gtest_list_tests OUTPUT_VARIABLE listed
                RESULT_VARIABLE status ERROR_QUIET)
if(NOT status EQUAL 0)
  add_test(${target}.is_not_built ${command} --gtest_list_tests)
  return()
endif()
# A suite is a line "Name." that begins without a space; those of types say "# TypeParam" after it.
string(REGEX MATCHALL "(^|\n)[A-Za-z0-9_/]+\\." suites "${listed}")
foreach(suite IN LISTS suites)
  string(REGEX REPLACE "[\n.]" "" suite "${suite}")
  add_test(${suite} ${command} "--gtest_filter=${suite}.*")
  set_tests_properties(${suite} PROPERTIES LABELS unit TIMEOUT 600)
endforeach()
