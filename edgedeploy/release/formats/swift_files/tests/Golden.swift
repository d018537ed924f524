import Foundation
import XCTest
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

    /// Reads the packs that lie in two folders below `golden/` of the tests.
    init(inputs: String, outputs: String) throws {
        let folder = try XCTUnwrap(goldenFolder)
        let given = try Pack(folder.appendingPathComponent(inputs))
        let wanted = try Pack(folder.appendingPathComponent(outputs))
        samples = given.samples.indices.map { Sample(inputs: given, outputs: wanted, index: $0) }
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

    init(_ folder: URL) throws {
        let index = try Data(contentsOf: folder.appendingPathComponent("index.json"))
        samples = try JSONDecoder().decode(Index.self, from: index).samples
        content = try Data(contentsOf: folder.appendingPathComponent("tensors.bin"))
    }

    func tensor<Element: TensorElement>(
        _ name: String, _ index: Int, _ kind: Element.Type
    ) throws -> Tensor<Element> {
        let place = try XCTUnwrap(samples[index].tensors[name], "there is no tensor \(name)")
        let bytes = content.subdata(in: place.offset..<place.offset + place.nbytes)
        let count = place.shape.reduce(1, *)
        guard place.dtype == "float16" else {
            XCTAssertEqual(bytes.count, count * MemoryLayout<Element>.stride, name)
            let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Element.self)) }
            return try Tensor(values, shape: place.shape)
        }
        #if arch(arm64)
        let halves = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float16.self)) }
        return try Tensor(halves.map { Element.of(Float($0)) }, shape: place.shape)
        #else
        throw XCTSkip("this processor has no float16")
        #endif
    }
}

extension Golden {
    /// Returns the cosine of the angle between what was found and what was wanted; 1 for equal zeros.
    private static func cosine<Element>(_ found: Tensor<Element>, _ wanted: Tensor<Element>) -> Double {
        XCTAssertEqual(found.shape, wanted.shape)
        var dot = 0.0
        var one = 0.0
        var other = 0.0
        for (left, right) in zip(found.values, wanted.values) {
            let (a, b) = (Double(left.float), Double(right.float))
            dot += a * b
            one += a * a
            other += b * b
        }
        if one == 0 || other == 0 {
            return one == other ? 1 : 0
        }
        return dot / (one * other).squareRoot()
    }

    /// Says that a model cannot be fed: a size of it is open, and no golden sample tells one.
    static func unfed<Element>() throws -> Tensor<Element> {
        throw XCTSkip("a size is open, and the release has no golden samples")
    }

    /// Compares an output with what the build gave, by the least cosine that the profile allows.
    static func check<Element>(
        _ found: Tensor<Element>, _ wanted: Tensor<Element>, _ least: Double?
    ) throws {
        let alike = cosine(found, wanted)
        XCTAssertTrue(alike.isFinite)
        if let least {
            XCTAssertGreaterThanOrEqual(alike, least)
        }
    }
}
