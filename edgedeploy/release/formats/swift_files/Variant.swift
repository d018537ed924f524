import Foundation

/// Size of an axis that a model takes.
enum Axis: Equatable, Sendable {
    case fixed(Int)
    case range(Int, Int)
    case open(String)

    func holds(_ size: Int) -> Bool {
        switch self {
        case .fixed(let only): return size == only
        case .range(let low, let high): return low <= size && size <= high
        case .open: return true
        }
    }

    var text: String {
        switch self {
        case .fixed(let only): return "\(only)"
        case .range(let low, let high): return "\(low)..\(high)"
        case .open(let name): return name
        }
    }
}

/// An input or output as a runtime has it.
struct Port: Sendable {
    enum Kind: Sendable {
        case array
        /// Pixels; the arithmetic that makes numbers of them is inside the model.
        case image
        /// Kept by Core ML from call to call.
        case state
        /// Probabilities by the name of the class.
        case classes
    }

    /// Name in the model that the artifact was made from.
    let name: String
    /// Name that the runtime knows.
    let called: String
    /// Type at the runtime, as NumPy names it.
    let dtype: String
    let kind: Kind
    let axes: [Axis]
    /// Names of the classes, in the order of the output.
    let classes: [String]

    func check(_ shape: [Int]) throws {
        guard shape.count == axes.count, zip(axes, shape).allSatisfy({ $0.holds($1) }) else {
            let wanted = axes.map(\.text).joined(separator: ", ")
            throw ModelError.shape("the input \(name) has shape \(shape), not [\(wanted)]")
        }
    }
}

/// The artifact of one model for one target.
struct Entry: Sendable {
    /// Digest of the artifact, 64 hexadecimal digits.
    let artifact: String
    /// Of what the runtime opens, below the folder of the release.
    let path: String
    let inputs: [Port]
    let outputs: [Port]

    var url: URL { releaseFolder.appendingPathComponent(path) }
    /// What a call takes and gives; the runtime keeps the rest.
    var fed: [Port] { inputs.filter { $0.kind != .state } }
    var given: [Port] { outputs.filter { $0.kind != .state } }
}

/// What the release holds for one target.
struct Variant: Sendable {
    enum Runtime: Sendable {
        case coreML
        case ort
    }

    /// `board/runtime`.
    let target: String
    /// `ios` or `macos`.
    let system: String
    /// Oldest version of the system.
    let oldest: Int
    let runtime: Runtime
    /// By the name of the model.
    let entries: [String: Entry]
}

/// The folder with the files of the release, as they were signed.
var releaseFolder: URL {
    (Bundle.module.resourceURL ?? Bundle.module.bundleURL).appendingPathComponent("release")
}

#if os(iOS)
private let system = "ios"
#elseif os(macOS)
private let system = "macos"
#else
private let system = "none that the release is for"
#endif

/// Returns the variant of a model for this system: that for its newest version, if there are more.
func choose(_ variants: [Variant], model: String, target: String?) throws -> Variant {
    let holding = variants.filter { $0.entries[model] != nil }
    let fitting = holding.filter { variant in
        let oldest = OperatingSystemVersion(
            majorVersion: variant.oldest, minorVersion: 0, patchVersion: 0)
        return variant.system == system && (target == nil || target == variant.target)
            && ProcessInfo.processInfo.isOperatingSystemAtLeast(oldest)
    }
    guard let newest = fitting.map(\.oldest).max(),
        let found = fitting.first(where: { $0.oldest == newest })
    else {
        let known = holding.map { "\($0.target) (\($0.system) \($0.oldest))" }
        throw ModelError.unsuitable(
            "there is no artifact of \(model) for this system"
                + (target.map { " and the target \($0)" } ?? "")
                + "; there are: \(known.joined(separator: ", "))")
    }
    return found
}
