# The load behind `cenote bench router`. Part of release builds.
add_executable(cenote-bench-router ${CMAKE_SOURCE_DIR}/source/bin/bench_router.cc ${CMAKE_SOURCE_DIR}/source/bin/bench_router_load.cc)
target_link_libraries(cenote-bench-router PRIVATE cenote_client cenote_wire nlohmann_json::nlohmann_json)
