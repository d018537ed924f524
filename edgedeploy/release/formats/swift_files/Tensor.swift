import Foundation

/// Numbers with a shape, in row-major order: the last axis varies fastest.
public struct Tensor<Element: TensorElement>: Equatable, Sendable {
    /// Size of each axis; empty for a single number.
    public let shape: [Int]
    /// The numbers, as many as the sizes multiply to.
    public let values: [Element]

    /// Takes numbers in a shape.
    /// - Throws: ``ModelError/shape(_:)``: there are more or fewer numbers than the shape holds.
    public init(_ values: [Element], shape: [Int]) throws {
        guard shape.allSatisfy({ $0 >= 0 }), shape.reduce(1, *) == values.count else {
            throw ModelError.shape("\(values.count) values do not fill the shape \(shape)")
        }
        self.shape = shape
        self.values = values
    }

    /// Returns zeros in a shape.
    public static func zeros(_ shape: [Int]) throws -> Tensor {
        let count = shape.reduce(1, *)
        return try Tensor(Array(repeating: Element._of(Int32(0)), count: count), shape: shape)
    }
}

/// A number that a model takes or gives; what begins with `_` serves the runtimes, not apps.
public protocol TensorElement: Equatable, Sendable {
    /// The number as Core ML takes it where it computes on floats.
    var _float: Float { get }
    /// The number as Core ML takes it where it computes on integers: its limit, beyond 32 bits.
    var _int32: Int32 { get }
    /// Returns what a float of a runtime is.
    static func _of(_ value: Float) -> Self
    /// Returns what an integer of a runtime is.
    static func _of(_ value: Int32) -> Self
}

extension TensorElement where Self: FixedWidthInteger {
    public var _float: Float { Float(self) }
    public var _int32: Int32 { Int32(clamping: self) }
    public static func _of(_ value: Float) -> Self { Self(exactly: value.rounded(.towardZero)) ?? 0 }
    public static func _of(_ value: Int32) -> Self { Self(clamping: value) }
}

extension Int8: TensorElement {}
extension Int16: TensorElement {}
extension Int32: TensorElement {}
extension Int64: TensorElement {}
extension UInt8: TensorElement {}
extension UInt16: TensorElement {}
extension UInt32: TensorElement {}
extension UInt64: TensorElement {}

extension Float: TensorElement {
    public var _float: Float { self }
    public var _int32: Int32 { Int32(exactly: rounded(.towardZero)) ?? 0 }
    public static func _of(_ value: Float) -> Float { value }
    public static func _of(_ value: Int32) -> Float { Float(value) }
}

extension Double: TensorElement {
    public var _float: Float { Float(self) }
    public var _int32: Int32 { Int32(exactly: rounded(.towardZero)) ?? 0 }
    public static func _of(_ value: Float) -> Double { Double(value) }
    public static func _of(_ value: Int32) -> Double { Double(value) }
}

extension Bool: TensorElement {
    public var _float: Float { self ? 1 : 0 }
    public var _int32: Int32 { self ? 1 : 0 }
    public static func _of(_ value: Float) -> Bool { value != 0 }
    public static func _of(_ value: Int32) -> Bool { value != 0 }
}

/// Why a model could not be used.
public enum ModelError: Error, Equatable, Sendable {
    /// The package holds nothing for this system, or nothing under that name.
    case unsuitable(String)
    /// A tensor does not have the shape that the model takes.
    case shape(String)
    /// The runtime did not do what the release says.
    case runtime(String)
    /// A file is not what was signed, or nobody who is trusted vouches for it.
    case untrusted(String)
}

extension ModelError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .unsuitable(let why), .shape(let why), .runtime(let why), .untrusted(let why):
            return why
        }
    }
}
