// What of ONNX Runtime's Objective-C interface packages use, as Swift imports it; composed after
// the headers in objectivec/include of its repository (1.17 and later), nothing of theirs.
import Foundation

public func ORTVersion() -> String { "" }

public enum ORTLoggingLevel: Int32 {
    case verbose, info, warning, error, fatal
}

public enum ORTTensorElementDataType: Int32 {
    case undefined, float, int8, uInt8, int32, uInt32, int64, uInt64, string
}

open class ORTEnv {
    public init(loggingLevel: ORTLoggingLevel) throws {}
}

open class ORTSessionOptions {
    public init() throws {}
    open func setIntraOpNumThreads(_ intraOpNumThreads: Int32) throws {}
}

open class ORTRunOptions {}

open class ORTTensorTypeAndShapeInfo {
    open var elementType: ORTTensorElementDataType = .float
    open var shape: [NSNumber] = []
}

open class ORTValue {
    public init(
        tensorData: NSMutableData, elementType: ORTTensorElementDataType, shape: [NSNumber]
    ) throws {}
    open func tensorData() throws -> NSMutableData { NSMutableData() }
    open func tensorTypeAndShapeInfo() throws -> ORTTensorTypeAndShapeInfo {
        ORTTensorTypeAndShapeInfo()
    }
}

open class ORTSession {
    public init(env: ORTEnv, modelPath path: String, sessionOptions: ORTSessionOptions?) throws {}
    open func run(
        withInputs inputs: [String: ORTValue], outputNames: Set<String>, runOptions: ORTRunOptions?
    ) throws -> [String: ORTValue] { [:] }
}
