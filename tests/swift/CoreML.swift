// What of Core ML packages use, as developer.apple.com documents it; composed, nothing of Apple's.
// `MLModel.answer` stands for the model.
import CoreVideo
import Foundation

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly, cpuAndGPU, all, cpuAndNeuralEngine
}

open class MLModelConfiguration {
    public init() {}
    open var computeUnits: MLComputeUnits = .all
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public protocol MLShapedArrayScalar {
    var double: Double { get }
    init(_ value: Double)
}
extension Float: MLShapedArrayScalar { public var double: Double { Double(self) } }
extension Double: MLShapedArrayScalar { public var double: Double { self } }
extension Int32: MLShapedArrayScalar { public var double: Double { Double(self) } }

open class MLMultiArray {
    let numbers: [Double]
    open var shape: [NSNumber]

    init(_ numbers: [Double], _ shape: [Int]) {
        self.numbers = numbers
        self.shape = shape.map { NSNumber(value: $0) }
    }
}

public struct MLShapedArray<Scalar: MLShapedArrayScalar> {
    public let scalars: [Scalar]
    public let shape: [Int]

    public init<Given: Sequence>(scalars: Given, shape: [Int]) where Given.Element == Scalar {
        self.scalars = Array(scalars)
        self.shape = shape
    }

    public init(converting multiArray: MLMultiArray) {
        self.init(
            scalars: multiArray.numbers.map { Scalar($0) }, shape: multiArray.shape.map(\.intValue))
    }
}

open class MLFeatureValue {
    open var multiArrayValue: MLMultiArray?
    open var dictionaryValue: [AnyHashable: NSNumber] = [:]

    init(_ array: MLMultiArray?) { multiArrayValue = array }

    public convenience init(pixelBuffer value: CVPixelBuffer) { self.init(nil) }

    public convenience init<Scalar: MLShapedArrayScalar>(shapedArray: MLShapedArray<Scalar>) {
        self.init(MLMultiArray(shapedArray.scalars.map(\.double), shapedArray.shape))
    }
}

open class MLDictionaryFeatureProvider: MLFeatureProvider {
    let values: [String: MLFeatureValue]

    public init(dictionary: [String: Any]) throws {
        values = dictionary.compactMapValues { $0 as? MLFeatureValue }
    }

    public var featureNames: Set<String> { Set(values.keys) }
    public func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }
}

open class MLPredictionOptions {
    public init() {}
}

@available(macOS 15, iOS 18, *)
public final class MLState {}

open class MLModel {
    public typealias Answer = (any MLFeatureProvider) throws -> any MLFeatureProvider
    nonisolated(unsafe) public static var answer: Answer = { $0 }

    open class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
    ) async throws -> MLModel {
        _ = try FileManager.default.contentsOfDirectory(atPath: url.path)
        return MLModel()
    }

    open class func compileModel(at modelURL: URL) async throws -> URL {
        let goal = FileManager.default.temporaryDirectory
            .appendingPathComponent(UUID().uuidString + ".mlmodelc")
        try FileManager.default.copyItem(at: modelURL, to: goal)
        return goal
    }

    @available(*, deprecated)
    open class func compileModel(at modelURL: URL) throws -> URL { modelURL }

    open func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
        try Self.answer(input)
    }

    open func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        try Self.answer(input)
    }

    @available(macOS 15, iOS 18, *)
    open func makeState() -> MLState { MLState() }

    @available(macOS 15, iOS 18, *)
    open func prediction(
        from inputFeatures: any MLFeatureProvider, using state: MLState
    ) throws -> any MLFeatureProvider {
        try Self.answer(inputFeatures)
    }
}
