// A phone for a bench that is run here: its system, and where its app lies.
import Foundation

final class ProcessInfo {
    enum ThermalState: Int { case nominal, fair, serious, critical }
    nonisolated(unsafe) static let processInfo = ProcessInfo()
    let thermalState = ThermalState.nominal
    let isLowPowerModeEnabled = false
    let operatingSystemVersion = OperatingSystemVersion(
        majorVersion: 17, minorVersion: 5, patchVersion: 1)

    func isOperatingSystemAtLeast(_ version: OperatingSystemVersion) -> Bool {
        version.majorVersion <= operatingSystemVersion.majorVersion
    }
}

struct Bundle {
    nonisolated(unsafe) static var module = Bundle(String(cString: getenv("APP")!))
    let bundleURL: URL
    init(_ path: String) { bundleURL = URL(fileURLWithPath: path) }
    var resourceURL: URL? { bundleURL }
}
