import CoreML
import Foundation

/// Has Core ML run a model.
final class CoreMLSession: Session {
    private let entry: Entry
    private let model: MLModel
    let runtimeVersion: String? = nil
    /// An `MLState`, which older systems do not know.
    private var state: AnyObject?

    init(_ entry: Entry, units: MLComputeUnits) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        self.entry = entry
        model = try await Self.loaded(entry, configuration)
        reset()
    }

    /// Returns the model, compiled at its first use: the package carries the files that were signed.
    private static func loaded(
        _ entry: Entry, _ configuration: MLModelConfiguration
    ) async throws -> MLModel {
        let files = FileManager.default
        let caches = try files.url(
            for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
        // By content: another release, or another artifact of this one, has a place of its own.
        let folder = caches.appendingPathComponent("edgedeploy/\(entry.artifact)")
        let kept = folder.appendingPathComponent("model.mlmodelc")
        if files.fileExists(atPath: kept.path) {
            if let model = try? await MLModel.load(contentsOf: kept, configuration: configuration) {
                return model
            }
            // The cache may be damaged; if the model is, compiling it says so.
            try files.removeItem(at: kept)
        }
        let made = try await MLModel.compileModel(at: entry.url)
        try files.createDirectory(at: folder, withIntermediateDirectories: true)
        do {
            try files.moveItem(at: made, to: kept)
        } catch {
            // Another task may have been faster; any other trouble is the caller's to know.
            guard files.fileExists(atPath: kept.path) else { throw error }
        }
        return try await MLModel.load(contentsOf: kept, configuration: configuration)
    }

    func reset() {
        guard entry.inputs.contains(where: { $0.kind == .state }) else { return }
        #if compiler(>=6.0)
        if #available(iOS 18, macOS 15, *) {
            state = model.makeState()
        }
        #endif
    }

    func run(_ feeds: [Feed]) throws -> [Answer] {
        var features: [String: MLFeatureValue] = [:]
        for (port, feed) in zip(entry.fed, feeds) {
            features[port.called] = try Self.value(feed, port)
        }
        let answer = try predict(try MLDictionaryFeatureProvider(dictionary: features))
        return try entry.given.map { try Self.answer($0, answer) }
    }

    private func predict(_ given: MLFeatureProvider) throws -> MLFeatureProvider {
        guard entry.inputs.contains(where: { $0.kind == .state }) else {
            return try model.prediction(from: given)
        }
        #if compiler(>=6.0)
        if #available(iOS 18, macOS 15, *), let state = state as? MLState {
            return try model.prediction(from: given, using: state)
        }
        #endif
        throw ModelError.unsuitable("states need iOS 18 or macOS 15, and Xcode 16")
    }

    private static func value(_ feed: Feed, _ port: Port) throws -> MLFeatureValue {
        switch feed {
        case .pixels(let buffer):
            return MLFeatureValue(pixelBuffer: buffer)
        case .tensor(let given, let floats, let int32s, _):
            try port.check(given)
            let shape = given.isEmpty ? [1] : given  // Core ML has no tensors without axes
            switch port.dtype {
            case "int32":
                return MLFeatureValue(
                    shapedArray: MLShapedArray<Int32>(scalars: int32s(), shape: shape))
            case "float32":
                return MLFeatureValue(
                    shapedArray: MLShapedArray<Float>(scalars: floats(), shape: shape))
            #if arch(arm64)
            case "float16":
                let halves = floats().map { Float16($0) }
                return MLFeatureValue(
                    shapedArray: MLShapedArray<Float16>(scalars: halves, shape: shape))
            #endif
            default:
                throw ModelError.unsuitable("\(port.name) is \(port.dtype), which is not had here")
            }
        }
    }

    private static func answer(_ port: Port, _ answer: MLFeatureProvider) throws -> Answer {
        guard let value = answer.featureValue(for: port.called) else {
            throw ModelError.runtime("Core ML gave no \(port.called)")
        }
        if port.kind == .classes {
            let scores = try port.classes.map { name -> Float in
                guard let score = value.dictionaryValue[AnyHashable(name)] else {
                    throw ModelError.runtime("Core ML gave no probability of \(name)")
                }
                return score.floatValue
            }
            let shape = port.axes.map { axis -> Int in
                if case .fixed(let size) = axis { return size }
                return 1
            }
            return Answer(shape: shape, values: .floats(scores))
        }
        guard let array = value.multiArrayValue else {
            throw ModelError.runtime("Core ML gave \(port.called), but no numbers")
        }
        let shape = port.axes.isEmpty ? [] : array.shape.map(\.intValue)
        if port.dtype == "int32" {
            let found = MLShapedArray<Int32>(converting: array).scalars
            return Answer(shape: shape, values: .int32s(found))
        }
        let found = MLShapedArray<Float>(converting: array).scalars
        return Answer(shape: shape, values: .floats(found))
    }
}
