# The simulator. A failing seed is named with the commit it was built from.
find_package(Git QUIET)
add_custom_target(cenote_simulate_commit
  COMMAND ${CMAKE_COMMAND} -DGIT=${GIT_EXECUTABLE} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_CURRENT_BINARY_DIR}/simulate_commit.h
          -P ${CMAKE_SOURCE_DIR}/cmake/WriteCommit.cmake
  BYPRODUCTS ${CMAKE_CURRENT_BINARY_DIR}/simulate_commit.h)
add_executable(cenote-simulate ${CMAKE_SOURCE_DIR}/source/bin/simulate.cc)
add_dependencies(cenote-simulate cenote_simulate_commit)
set_source_files_properties(${CMAKE_SOURCE_DIR}/source/bin/simulate.cc PROPERTIES
  COMPILE_OPTIONS "-include;${CMAKE_CURRENT_BINARY_DIR}/simulate_commit.h" OBJECT_DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/simulate_commit.h)
target_link_libraries(cenote-simulate PRIVATE cenote_simulate)
