import CoreML
import CoreVideo
import Foundation

/// A model that a runtime has loaded.
protocol Session {
    /// Runs it once; feeds and answers are in the order of the model's inputs and outputs.
    func run(_ feeds: [Feed]) throws -> [Answer]
    /// Begins a new sequence, where the runtime keeps states.
    func reset()
    /// Version of a runtime that came with the app; nil: the system's own.
    var runtimeVersion: String? { get }
}

/// What goes in: each runtime takes the form that it needs.
enum Feed {
    case tensor(shape: [Int], floats: () -> [Float], int32s: () -> [Int32], bytes: () -> Data)
    case pixels(CVPixelBuffer)

    static func of<Element>(_ given: Tensor<Element>) -> Feed {
        .tensor(
            shape: given.shape,
            floats: { given.values.map(\._float) },
            int32s: { given.values.map(\._int32) },
            bytes: { given.values.withUnsafeBytes { Data($0) } })
    }
}

/// What comes out.
struct Answer {
    enum Values {
        case floats([Float])
        case int32s([Int32])
        /// In the element's own form.
        case bytes(Data)
    }

    let shape: [Int]
    let values: Values

    func tensor<Element>(_ kind: Element.Type) throws -> Tensor<Element> {
        switch values {
        case .floats(let found): return try Tensor(found.map { Element._of($0) }, shape: shape)
        case .int32s(let found): return try Tensor(found.map { Element._of($0) }, shape: shape)
        case .bytes(let found):
            // Copied byte by byte: the memory need not be aligned for the element.
            let stride = MemoryLayout<Element>.stride
            let made = [Element](unsafeUninitializedCapacity: found.count / stride) {
                buffer, filled in
                filled = found.copyBytes(to: buffer) / stride
            }
            return try Tensor(made, shape: shape)
        }
    }
}

/// Loads a model for this system.
func openModel(
    _ model: String, target: String?, units: MLComputeUnits, threads: Int
) async throws -> (target: String, entry: Entry, session: any Session) {
    let variant = try choose(variants, model: model, target: target)
    guard let entry = variant.entries[model] else {
        throw ModelError.unsuitable("\(variant.target) has no model \(model)")
    }
    switch variant.runtime {
    case .coreML:
        return (variant.target, entry, try await CoreMLSession(entry, units: units))
    case .ort:
        #if canImport(OnnxRuntimeBindings)
        return (variant.target, entry, try OrtSession(entry, threads: threads))
        #else
        throw ModelError.unsuitable("\(variant.target) needs ONNX Runtime, which is not linked here")
        #endif
    }
}
