import CoreML
import CoreVideo
import Foundation
import @MODULE@

/// What was measured on this device, in the form that edgedeploy describes in `packages-apple.md`.
public struct BenchReport: Encodable, Sendable {
    struct Window: Encodable, Sendable {
        let begin_ns: UInt64
        let end_ns: UInt64
        let samples_ns: [UInt64]
        /// The system's thermal state at the end: `nominal`, `fair`, `serious` or `critical`.
        let thermal: String
        let low_power: Bool
    }

    struct Device: Encodable, Sendable {
        let machine: String
        let os: String
        let os_version: String
        let simulator: Bool
    }

    struct WarmUp: Encodable, Sendable {
        let medians_ns: [UInt64]
        let elapsed_ns: UInt64
        let stable: Bool
    }

    private var schema = 1
    private var kind = "app-bench"
    /// When the run began, by the device's clock: ISO 8601 in UTC.
    private var created = ISO8601DateFormatter().string(from: Date())
    private var release = Release.digest
    private let model: String
    private let target: String
    private let artifact: String
    private let runtime_version: String?
    private let units: String
    private let threads: Int
    /// Where the inputs come from: `golden`, or `zeros`.
    private let inputs: String
    private var device = Device.current
    /// False for a debug build, whose figures say little.
    private var optimised = isOptimised
    private let load_ns: UInt64
    private var first_inference_ns: UInt64 = 0
    private var warm_up = WarmUp(medians_ns: [], elapsed_ns: 0, stable: false)
    private var windows: [Window] = []
    /// `complete`, or `max_s`: it took too long to get enough.
    private var ended = "complete"
    /// The least cosine of all golden samples, by output.
    private var cosines: [String: Double] = [:]
    private let least_cosine: Double?

    init(
        model: String, target: String, artifact: String, runtimeVersion: String?,
        units: MLComputeUnits, threads: Int, inputs: String, loadedIn: UInt64,
        leastCosine: Double?
    ) {
        self.model = model
        self.target = target
        self.artifact = artifact
        runtime_version = runtimeVersion
        self.units = name(of: units)
        self.threads = threads
        self.inputs = inputs
        load_ns = loadedIn
        least_cosine = leastCosine
    }

    /// Whether every output is as near to that of the build as the profile asks; true where it asks
    /// for nothing, or nothing was compared.
    public var agrees: Bool {
        cosines.values.allSatisfy { $0 >= least_cosine ?? -1 }
    }

    /// Name of a file for it.
    public var fileName: String {
        "bench-\(model)-\(target.replacingOccurrences(of: "/", with: "-")).json"
    }

    /// Returns it as a JSON document.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return try encoder.encode(self)
    }

    /// Takes note of how alike an output and a golden one are.
    mutating func compare<Element>(
        _ output: String, _ found: Tensor<Element>, _ wanted: Tensor<Element>
    ) throws {
        cosines[output] = min(cosines[output] ?? 1, try Golden.cosine(found, wanted))
    }

    /// Measures for ten seconds and 64 calls at least, after a warm-up: edgedeploy's `quick` plan.
    mutating func measure(_ call: () throws -> Void) throws {
        first_inference_ns = try timed(call)
        try warmUp(call)
        let began = Self.now()
        var spent: UInt64 = 0
        var count = 0
        while spent < 10_000_000_000 || count < 64 || windows.count < 18 {
            guard Self.now() - began < 120_000_000_000 else {
                ended = "max_s"
                return
            }
            let found = try Self.window(call)
            windows.append(found)
            // Of the calls alone, as edgedeploy counts: a window is longer than its calls.
            spent += found.samples_ns.reduce(0, +)
            count += found.samples_ns.count
        }
    }

    private mutating func warmUp(_ call: () throws -> Void) throws {
        var medians: [UInt64] = []
        let began = Self.now()
        while medians.count < 3 || (!stable(medians) && Self.now() - began < 3_000_000_000) {
            medians.append(median(try Self.window(call).samples_ns))
        }
        warm_up = WarmUp(
            medians_ns: medians, elapsed_ns: Self.now() - began, stable: stable(medians))
    }

    private static func window(_ call: () throws -> Void) throws -> Window {
        var samples: [UInt64] = []
        let begin = now()
        while now() - begin < 250_000_000 {
            samples.append(try timed(call))
        }
        return Window(
            begin_ns: begin, end_ns: now(), samples_ns: samples, thermal: thermalState,
            low_power: ProcessInfo.processInfo.isLowPowerModeEnabled)
    }

    /// Returns nanoseconds of a clock that only goes forward.
    static func now() -> UInt64 {
        DispatchTime.now().uptimeNanoseconds
    }

    /// Returns a picture whose pixels are all zero.
    static func blankPixels(width: Int, height: Int, gray: Bool) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        let format = gray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
        let status = CVPixelBufferCreate(nil, width, height, format, nil, &made)
        guard status == kCVReturnSuccess, let buffer = made else {
            throw ModelError.runtime("no picture of \(width) by \(height) can be made: \(status)")
        }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        if let start = CVPixelBufferGetBaseAddress(buffer) {
            memset(start, 0, CVPixelBufferGetDataSize(buffer))
        }
        return buffer
    }
}

extension BenchReport.Device {
    static var current: BenchReport.Device {
        var about = utsname()
        uname(&about)
        let machine = withUnsafeBytes(of: &about.machine) { raw in
            String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let numbers = [version.majorVersion, version.minorVersion, version.patchVersion]
        #if os(iOS)
        let name = "ios"
        #else
        let name = "macos"
        #endif
        #if targetEnvironment(simulator)
        let simulated = true
        #else
        let simulated = false
        #endif
        return BenchReport.Device(
            machine: machine, os: name, os_version: numbers.map(String.init).joined(separator: "."),
            simulator: simulated)
    }
}

private func timed(_ call: () throws -> Void) throws -> UInt64 {
    let began = BenchReport.now()
    try autoreleasepool { try call() }
    return BenchReport.now() - began
}

private func median(_ samples: [UInt64]) -> UInt64 {
    samples.sorted()[samples.count / 2]
}

/// Returns whether the last three medians agree within 2 %.
private func stable(_ medians: [UInt64]) -> Bool {
    let last = medians.suffix(3)
    guard last.count == 3, let low = last.min(), let high = last.max() else { return false }
    return Double(high) <= Double(low) * 1.02
}

/// Returns what profiles call the units that Core ML may use.
private func name(of units: MLComputeUnits) -> String {
    switch units {
    case .all: return "ALL"
    case .cpuOnly: return "CPU_ONLY"
    case .cpuAndGPU: return "CPU_AND_GPU"
    case .cpuAndNeuralEngine: return "CPU_AND_NE"
    @unknown default: return "unknown"
    }
}

private var thermalState: String {
    switch ProcessInfo.processInfo.thermalState {
    case .nominal: return "nominal"
    case .fair: return "fair"
    case .serious: return "serious"
    case .critical: return "critical"
    @unknown default: return "unknown"
    }
}

private var isOptimised: Bool {
    #if DEBUG
    return false
    #else
    return true
    #endif
}
