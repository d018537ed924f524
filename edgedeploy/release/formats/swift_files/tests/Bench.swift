import CoreVideo
import Foundation
import XCTest
import @MODULE@

/// What was measured on this device, in the form that edgedeploy describes in `packages-apple.md`.
struct BenchReport: Encodable {
    struct Window: Encodable {
        let begin_ns: UInt64
        let end_ns: UInt64
        let samples_ns: [UInt64]
        /// `nominal`, `fair`, `serious` or `critical`: the system's thermal state at the end.
        let thermal: String
        let low_power: Bool
    }

    struct Device: Encodable {
        let machine: String
        let os: String
        let os_version: String
        let simulator: Bool
    }

    struct WarmUp: Encodable {
        let windows: Int
        let stable: Bool
    }

    var schema = 1
    var kind = "app-bench"
    var release = Release.digest
    let model: String
    let target: String
    let artifact: String
    /// Where the inputs come from: `golden`, or `zeros`.
    let inputs: String
    var device = Device.current
    /// False for a debug build of the app, whose figures say little.
    var optimised = isOptimised
    let load_ns: UInt64
    var first_inference_ns: UInt64 = 0
    var warm_up = WarmUp(windows: 0, stable: false)
    var windows: [Window] = []

    init(model: String, target: String, artifact: String, inputs: String, load_ns: UInt64) {
        self.model = model
        self.target = target
        self.artifact = artifact
        self.inputs = inputs
        self.load_ns = load_ns
    }

    /// Measures for ten seconds and 64 calls at least, after a warm-up: edgedeploy's `quick` plan.
    mutating func measure(_ call: () throws -> Void) throws {
        first_inference_ns = try timed(call)
        var medians: [Double] = []
        let began = Self.now()
        while medians.count < 3 || !stable(medians) && Self.now() - began < 3_000_000_000 {
            medians.append(median(try window(call).samples_ns))
        }
        warm_up = WarmUp(windows: medians.count, stable: stable(medians))
        var spent: UInt64 = 0
        var count = 0
        while spent < 10_000_000_000 || count < 64 || windows.count < 18 {
            let found = try window(call)
            windows.append(found)
            spent += found.end_ns - found.begin_ns
            count += found.samples_ns.count
        }
    }

    /// Keeps the report with the results of the test run.
    func attach(to test: XCTestCase) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let name = "bench-\(model)-\(target.replacingOccurrences(of: "/", with: "-")).json"
        let attachment = XCTAttachment(
            data: try encoder.encode(self), uniformTypeIdentifier: "public.json")
        attachment.name = name
        attachment.lifetime = .keepAlways
        test.add(attachment)
    }

    private func window(_ call: () throws -> Void) throws -> Window {
        var samples: [UInt64] = []
        let begin = Self.now()
        while Self.now() - begin < 250_000_000 {
            samples.append(try timed(call))
        }
        return Window(
            begin_ns: begin, end_ns: Self.now(), samples_ns: samples, thermal: thermalState,
            low_power: ProcessInfo.processInfo.isLowPowerModeEnabled)
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

extension BenchReport {
    /// Returns a picture whose pixels are all zero.
    static func blankPixels(width: Int, height: Int, gray: Bool) throws -> CVPixelBuffer {
        var made: CVPixelBuffer?
        let format = gray ? kCVPixelFormatType_OneComponent8 : kCVPixelFormatType_32BGRA
        XCTAssertEqual(
            CVPixelBufferCreate(nil, width, height, format, nil, &made), kCVReturnSuccess)
        let buffer = try XCTUnwrap(made)
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        memset(CVPixelBufferGetBaseAddress(buffer), 0, CVPixelBufferGetDataSize(buffer))
        return buffer
    }

    /// Returns nanoseconds of a clock that only goes forward.
    static func now() -> UInt64 {
        DispatchTime.now().uptimeNanoseconds
    }
}

private func timed(_ call: () throws -> Void) throws -> UInt64 {
    let began = BenchReport.now()
    try autoreleasepool { try call() }
    return BenchReport.now() - began
}

private func median(_ samples: [UInt64]) -> Double {
    Double(samples.sorted()[samples.count / 2])
}

/// Returns whether the last three medians agree within 2 %.
private func stable(_ medians: [Double]) -> Bool {
    let last = medians.suffix(3)
    guard last.count == 3, let low = last.min(), let high = last.max() else { return false }
    return high <= low * 1.02
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
    var debug = false
    assert(
        {
            debug = true
            return true
        }())
    return !debug
}
