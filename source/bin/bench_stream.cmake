# The bare transfer behind the bounds of `cenote bench cold`.
add_executable(cenote-bench-stream ${CMAKE_SOURCE_DIR}/source/bin/bench_stream.cc ${CMAKE_SOURCE_DIR}/source/bin/bench_pool_target.cc)
target_link_libraries(cenote-bench-stream PRIVATE cenote::fabric nlohmann_json::nlohmann_json)
