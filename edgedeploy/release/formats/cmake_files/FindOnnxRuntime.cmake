# Finds ONNX Runtime: its C header and its library. Part of a package that edgedeploy made.
#
# Made: the target OnnxRuntime::OnnxRuntime, OnnxRuntime_FOUND, OnnxRuntime_VERSION (from the header:
# 1.N), OnnxRuntime_INCLUDE_DIR and OnnxRuntime_LIBRARY. Look elsewhere with OnnxRuntime_ROOT.

find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_c_api.h
          PATH_SUFFIXES onnxruntime onnxruntime/core/session)
find_library(OnnxRuntime_LIBRARY onnxruntime)

set(OnnxRuntime_VERSION "")
if(OnnxRuntime_INCLUDE_DIR)
  file(STRINGS "${OnnxRuntime_INCLUDE_DIR}/onnxruntime_c_api.h" _line
       REGEX "^#define ORT_API_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" _number "${_line}")
  set(OnnxRuntime_VERSION "1.${_number}")
  unset(_line)
  unset(_number)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  OnnxRuntime
  REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR
  VERSION_VAR OnnxRuntime_VERSION)

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
  add_library(OnnxRuntime::OnnxRuntime UNKNOWN IMPORTED)
  set_target_properties(
    OnnxRuntime::OnnxRuntime
    PROPERTIES IMPORTED_LOCATION "${OnnxRuntime_LIBRARY}"
               INTERFACE_INCLUDE_DIRECTORIES "${OnnxRuntime_INCLUDE_DIR}")
endif()
mark_as_advanced(OnnxRuntime_INCLUDE_DIR OnnxRuntime_LIBRARY)
