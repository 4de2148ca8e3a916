# The daemon. Every role is in it, so that a host needs one binary.
file(GLOB cenoted_roles CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/source/bin/role_*.cc)
set(cenoted_sources cenoted.cc fabric_thread.cc memory_copies.cc memory_disk.cc process.cc process_usage.cc stop_signal.cc)
list(TRANSFORM cenoted_sources PREPEND ${CMAKE_SOURCE_DIR}/source/bin/)
add_executable(cenoted ${cenoted_sources} ${cenoted_roles})
target_link_libraries(cenoted PRIVATE
  cenote_node cenote_wire cenote_store cenote_fabric cenote_load cenote_execute cenote_policy cenote_memory cenote_disk cenote_cache cenote_device
  cenote_catalog cenote_message cenote_base nlohmann_json::nlohmann_json)
add_dependencies(cenoted cenote_torch)  # Opened by the executor's role at run time.
target_compile_definitions(cenoted PRIVATE CENOTE_VERSION="${PROJECT_VERSION}")
