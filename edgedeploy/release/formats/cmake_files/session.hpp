// Loads and runs a model with the C interface of ONNX Runtime. C++17; part of a package that
// edgedeploy made: do not edit.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace @NAMESPACE@ {

/// What ONNX Runtime refused, or an input that does not fit.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A tensor: its elements in C order, and a size per axis.
template <class T>
struct Tensor {
  std::vector<T> values;
  std::vector<std::int64_t> shape;
};

namespace detail {

/// The sizes that an axis may have; `high` -1: no limit.
struct Axis {
  std::int64_t low;
  std::int64_t high;
};

inline const OrtApi& api() {
  static const OrtApi* const found = OrtGetApiBase()->GetApi(@API_VERSION@);
  if (found == nullptr) {
    throw Error(std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                " is older than this package needs: @VERSIONS@");
  }
  return *found;
}

inline void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::string message = api().GetErrorMessage(status);
  api().ReleaseStatus(status);
  throw Error(message);
}

/// One environment per process, which sends nothing.
inline OrtEnv* environment() {
  static OrtEnv* const made = [] {
    OrtEnv* env = nullptr;
    check(api().CreateEnv(ORT_LOGGING_LEVEL_WARNING, "@NAMESPACE@", &env));
    check(api().DisableTelemetryEvents(env));
    return env;
  }();
  return made;
}

/// Owns what the runtime made.
template <class T>
class Owned {
 public:
  using Release = void (*)(T*);
  Owned(T* held, Release release) : held_(held), release_(release) {}
  Owned(Owned&& other) noexcept
      : held_(std::exchange(other.held_, nullptr)), release_(other.release_) {}
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  Owned& operator=(Owned&&) = delete;
  ~Owned() {
    if (held_ != nullptr) release_(held_);
  }
  T* get() const { return held_; }

 private:
  T* held_;
  Release release_;
};

using Value = Owned<OrtValue>;

inline Owned<OrtSession> open(const std::filesystem::path& path, int threads) {
  // The runtime would only say that a file descriptor is -1.
  if (!std::filesystem::is_regular_file(path)) throw Error("there is no " + path.string());
  OrtSessionOptions* made = nullptr;
  check(api().CreateSessionOptions(&made));
  const Owned<OrtSessionOptions> options(made, api().ReleaseSessionOptions);
  check(api().SetIntraOpNumThreads(options.get(), threads));
  OrtSession* session = nullptr;
  check(api().CreateSession(environment(), path.c_str(), options.get(), &session));
  return {session, api().ReleaseSession};
}

inline void check_shape(const char* name, std::size_t count, const std::vector<std::int64_t>& shape,
                        const std::vector<Axis>& axes) {
  bool fits = shape.size() == axes.size();
  std::uint64_t wanted = 1;
  for (std::size_t at = 0; fits && at < axes.size(); ++at) {
    fits = shape[at] >= axes[at].low && (axes[at].high < 0 || shape[at] <= axes[at].high);
    wanted *= static_cast<std::uint64_t>(shape[at]);
  }
  if (!fits) throw Error(std::string("the input ") + name + " has another shape than the model");
  if (wanted != count) {
    throw Error(std::string("the input ") + name + " has " + std::to_string(count) +
                " elements, and its shape " + std::to_string(wanted));
  }
}

/// Makes a value of the runtime from a tensor, which must outlive it.
template <class T>
Value wrap(const char* name, const Tensor<T>& tensor, ONNXTensorElementDataType type,
           const std::vector<Axis>& axes) {
  check_shape(name, tensor.values.size(), tensor.shape, axes);
  OrtMemoryInfo* made = nullptr;
  check(api().CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &made));
  const Owned<OrtMemoryInfo> memory(made, api().ReleaseMemoryInfo);
  OrtValue* value = nullptr;
  // The runtime takes a pointer to what it may write and does not write inputs.
  check(api().CreateTensorWithDataAsOrtValue(
      memory.get(), const_cast<T*>(tensor.values.data()), tensor.values.size() * sizeof(T),
      tensor.shape.data(), tensor.shape.size(), type, &value));
  return {value, api().ReleaseValue};
}

/// Copies a value of the runtime into a tensor.
template <class T>
Tensor<T> unwrap(const char* name, const Value& value, ONNXTensorElementDataType type) {
  OrtTensorTypeAndShapeInfo* made = nullptr;
  check(api().GetTensorTypeAndShape(value.get(), &made));
  const Owned<OrtTensorTypeAndShapeInfo> info(made, api().ReleaseTensorTypeAndShapeInfo);
  ONNXTensorElementDataType found = type;
  check(api().GetTensorElementType(info.get(), &found));
  if (found != type) throw Error(std::string("the output ") + name + " has another type");
  std::size_t axes = 0;
  std::size_t count = 0;
  check(api().GetDimensionsCount(info.get(), &axes));
  check(api().GetTensorShapeElementCount(info.get(), &count));
  Tensor<T> tensor;
  tensor.shape.resize(axes);
  check(api().GetDimensions(info.get(), tensor.shape.data(), axes));
  void* data = nullptr;
  check(api().GetTensorMutableData(value.get(), &data));
  const T* first = static_cast<const T*>(data);
  tensor.values.assign(first, first + count);
  return tensor;
}

/// Runs a session once; the outputs are in the order of `outputs`.
inline std::vector<Value> run(OrtSession* session, const std::vector<const char*>& inputs,
                              const std::vector<const OrtValue*>& values,
                              const std::vector<const char*>& outputs) {
  std::vector<OrtValue*> made(outputs.size(), nullptr);
  check(api().Run(session, nullptr, inputs.data(), values.data(), inputs.size(), outputs.data(),
                  outputs.size(), made.data()));
  std::vector<Value> found;
  found.reserve(made.size());
  for (OrtValue* value : made) found.emplace_back(value, api().ReleaseValue);
  return found;
}

}  // namespace detail
}  // namespace @NAMESPACE@
