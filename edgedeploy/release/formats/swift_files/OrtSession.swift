#if canImport(OnnxRuntimeBindings)
import Foundation
import OnnxRuntimeBindings

/// Has ONNX Runtime run a model on the processor.
final class OrtSession: Session {
    private let entry: Entry
    private let environment: ORTEnv
    private let session: ORTSession
    var runtimeVersion: String? { ORTVersion() }

    init(_ entry: Entry, threads: Int) throws {
        self.entry = entry
        // Asked for when the environment is made; nothing is sent on behalf of this package.
        setenv("ORT_DISABLE_TELEMETRY", "1", 0)
        environment = try ORTEnv(loggingLevel: .warning)
        let options = try ORTSessionOptions()
        if threads > 0 {
            try options.setIntraOpNumThreads(Int32(clamping: threads))
        }
        session = try ORTSession(
            env: environment, modelPath: entry.url.path, sessionOptions: options)
    }

    /// Does nothing: ONNX Runtime keeps no states, the app carries them.
    func reset() {}

    func run(_ feeds: [Feed]) throws -> [Answer] {
        var given: [String: ORTValue] = [:]
        for (port, feed) in zip(entry.fed, feeds) {
            guard case .tensor(let shape, _, _, let bytes) = feed else {
                throw ModelError.unsuitable("ONNX Runtime takes numbers, not pixels")
            }
            try port.check(shape)
            given[port.called] = try ORTValue(
                tensorData: NSMutableData(data: bytes()),
                elementType: try Self.kind(port),
                shape: shape.map { NSNumber(value: $0) })
        }
        let names = Set(entry.given.map(\.called))
        let found = try session.run(withInputs: given, outputNames: names, runOptions: nil)
        return try entry.given.map { port in
            guard let value = found[port.called] else {
                throw ModelError.runtime("ONNX Runtime gave no \(port.called)")
            }
            let data = try value.tensorData()
            let shape = try value.tensorTypeAndShapeInfo().shape.map(\.intValue)
            // Copied: the memory is the value's.
            return Answer(
                shape: shape, values: .bytes(Data(bytes: data.bytes, count: data.length)))
        }
    }

    private static func kind(_ port: Port) throws -> ORTTensorElementDataType {
        switch port.dtype {
        case "float32": return .float
        case "int8": return .int8
        case "uint8": return .uInt8
        case "int32": return .int32
        case "uint32": return .uInt32
        case "int64": return .int64
        case "uint64": return .uInt64
        default: throw ModelError.unsuitable("ONNX Runtime for Swift has no \(port.dtype)")
        }
    }
}
#endif
