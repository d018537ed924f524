// What SwiftPM and the Foundation of Apple's systems add to a module.
import Foundation

extension Foundation.Bundle {
    static let module: Bundle = .main
}

extension ProcessInfo {
    enum ThermalState: Int { case nominal, fair, serious, critical }
    var thermalState: ThermalState { .nominal }
    var isLowPowerModeEnabled: Bool { false }
}
