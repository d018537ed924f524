import Foundation
import @MODULE@

/// Golden samples of one model for one target: inputs, and the outputs that they gave at the build.
struct Golden {
    struct Sample {
        fileprivate let inputs: Pack
        fileprivate let outputs: Pack
        fileprivate let index: Int

        func input<Element>(_ name: String, _ kind: Element.Type) throws -> Tensor<Element> {
            try inputs.tensor(name, index, kind)
        }

        func output<Element>(_ name: String, _ kind: Element.Type) throws -> Tensor<Element> {
            try outputs.tensor(name, index, kind)
        }
    }

    let samples: [Sample]
    /// The least cosine that the profile allows.
    let least: Double?

    /// Has no samples.
    static let none = Golden(samples: [], least: nil)

    private init(samples: [Sample], least: Double?) {
        self.samples = samples
        self.least = least
    }

    /// Reads the packs that lie in two folders below `golden/`.
    init(inputs: String, outputs: String, least: Double?) throws {
        let given = try Pack(inputs)
        let wanted = try Pack(outputs)
        let samples = given.samples.indices.map {
            Sample(inputs: given, outputs: wanted, index: $0)
        }
        self.init(samples: samples, least: least)
    }

    /// Says that a model cannot be fed.
    static func unfed<Made>() throws -> Made {
        throw ModelError.unsuitable("a size is open, and the release has no golden samples")
    }

    /// Returns the cosine of the angle between two tensors as vectors: 1 if both are
    /// zero, -1 where something is infinite or no number.
    static func cosine<Element>(
        _ made: Tensor<Element>, _ wanted: Tensor<Element>
    ) throws -> Double {
        guard made.shape == wanted.shape else {
            throw ModelError.runtime("an output has shape \(made.shape), not \(wanted.shape)")
        }
        var dot = 0.0
        var one = 0.0
        var other = 0.0
        for (left, right) in zip(made.values, wanted.values) {
            let (a, b) = (Double(left._float), Double(right._float))
            dot += a * b
            one += a * a
            other += b * b
        }
        if one == 0 || other == 0 {
            return one == other ? 1 : 0
        }
        let found = dot / (one.squareRoot() * other.squareRoot())
        return found.isFinite ? found : -1
    }
}

/// A tensor pack: `index.json` says where each tensor lies in `tensors.bin`.
private struct Pack {
    struct Index: Decodable {
        let samples: [Entry]
    }

    struct Entry: Decodable {
        let tensors: [String: Place]
    }

    struct Place: Decodable {
        let dtype: String
        let shape: [Int]
        let offset: Int
        let nbytes: Int
    }

    let samples: [Entry]
    let content: Data

    init(_ path: String) throws {
        guard let folder = goldenFolder?.appendingPathComponent(path) else {
            throw ModelError.runtime("the folder with the golden samples is missing")
        }
        let index = try Data(contentsOf: folder.appendingPathComponent("index.json"))
        samples = try JSONDecoder().decode(Index.self, from: index).samples
        content = try Data(contentsOf: folder.appendingPathComponent("tensors.bin"))
    }

    func tensor<Element: TensorElement>(
        _ name: String, _ index: Int, _ kind: Element.Type
    ) throws -> Tensor<Element> {
        guard let place = samples[index].tensors[name],
            0 <= place.offset, 0 <= place.nbytes, place.nbytes <= content.count - place.offset
        else {
            throw ModelError.runtime("the golden samples have no \(name)")
        }
        let bytes = content.subdata(in: place.offset..<place.offset + place.nbytes)
        guard place.dtype == "float16" else {
            return try Tensor(Self.numbers(bytes, Element.self), shape: place.shape)
        }
        #if arch(arm64)
        let halves = Self.numbers(bytes, Float16.self)
        return try Tensor(halves.map { Element._of(Float($0)) }, shape: place.shape)
        #else
        throw ModelError.unsuitable("this processor has no float16")
        #endif
    }

    private static func numbers<Number>(_ bytes: Data, _ kind: Number.Type) -> [Number] {
        // Copied byte by byte: the memory need not be aligned for the number.
        let stride = MemoryLayout<Number>.stride
        return [Number](unsafeUninitializedCapacity: bytes.count / stride) { buffer, filled in
            filled = bytes.copyBytes(to: buffer) / stride
        }
    }
}
