# How `make setup` builds chatglm-cpp: only what its extension module needs, and in less time.
#
# CMake reads this file when it configures chatglm-cpp (CMAKE_PROJECT_TOP_LEVEL_INCLUDES, CMake 3.24 or newer).

# chatglm-cpp asks for debug information (-g), and strips it from the extension in the end. -g0 comes later and wins.
# -fsemantic-interposition keeps each function of the engine replaceable by a library that is opened before the
# extension. It is GCC's default for shared libraries; Clang needs to be told.
set(CMAKE_C_FLAGS_RELEASE "-O3 -DNDEBUG -g0 -fsemantic-interposition")
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG -g0 -fsemantic-interposition")

# pybind11 would turn on link-time optimization, which may inline functions that must stay replaceable.
set(CMAKE_INTERPROCEDURAL_OPTIMIZATION OFF)

# EXCLUDE_FROM_ALL builds only those libraries of a third-party folder that the extension links, and nothing else of it.
# Two of three files are Abseil's. Neither the model nor the tokenizers spend their time there, so -O1 is enough for it.
# Everything else stays at -O3.
macro(add_subdirectory source)
  if("${source}" STREQUAL "third_party/abseil-cpp")
    string(REPLACE "-O3" "-O1" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
  endif()
  _add_subdirectory(${source} ${ARGN} EXCLUDE_FROM_ALL)
  if("${source}" STREQUAL "third_party/abseil-cpp")
    string(REPLACE "-O1" "-O3" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
  endif()
endmacro()
