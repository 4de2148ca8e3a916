# Graph validation: operators.txt becomes operators.cc, so that daemons need no file at run time.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/operators.txt)
file(READ ${CMAKE_CURRENT_LIST_DIR}/operators.txt CENOTE_OPERATORS_TEXT)
configure_file(${CMAKE_CURRENT_LIST_DIR}/operators.cc.in ${CMAKE_CURRENT_BINARY_DIR}/operators.cc @ONLY)
set(CENOTE_GRAPH_SOURCES graph.cc graph_operators.cc ${CMAKE_CURRENT_BINARY_DIR}/operators.cc)
set(CENOTE_GRAPH_LIBRARIES nlohmann_json::nlohmann_json absl::flat_hash_map)
