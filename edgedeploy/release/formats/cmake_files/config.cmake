# @NAME@ @VERSION@: part of a package that edgedeploy made; do not edit.
#
# Made: the target @NAME@::@NAME@ (a header; C++17), and @NAME@_RELEASE_DIR, the folder
# with the models, which the application installs and names when it opens a model.

list(APPEND CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")
include(CMakeFindDependencyMacro)
find_dependency(OnnxRuntime @OLDEST@)
list(REMOVE_ITEM CMAKE_MODULE_PATH "${CMAKE_CURRENT_LIST_DIR}")

set(@NAME@_RELEASE_DIR "${CMAKE_CURRENT_LIST_DIR}/release")
if(NOT TARGET @NAME@::@NAME@)
  add_library(@NAME@::@NAME@ INTERFACE IMPORTED)
  set_target_properties(
    @NAME@::@NAME@
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}/include"
               INTERFACE_COMPILE_FEATURES cxx_std_17
               INTERFACE_LINK_LIBRARIES OnnxRuntime::OnnxRuntime)
endif()
