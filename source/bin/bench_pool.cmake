# The tool behind `cenote bench pool`. Part of release builds, so it does not need the benchmark library.
add_executable(cenote-bench-pool ${CMAKE_SOURCE_DIR}/source/bin/bench_pool.cc ${CMAKE_SOURCE_DIR}/source/bin/bench_pool_measure.cc
               ${CMAKE_SOURCE_DIR}/source/bin/bench_pool_target.cc)
target_link_libraries(cenote-bench-pool PRIVATE cenote::fabric nlohmann_json::nlohmann_json)
