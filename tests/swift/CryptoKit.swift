// What of CryptoKit packages use, as developer.apple.com documents it; composed, nothing of Apple's.
// Digests are those of FIPS 180-4; signatures are left to `verify_file.py` of edgedeploy.
import Foundation

public struct SHA256Digest: Sequence, Sendable {
    let bytes: [UInt8]
    public func makeIterator() -> Array<UInt8>.Iterator { bytes.makeIterator() }
}

/// The first 32 bits of the fractional parts of a root of the first primes.
private func fractions(_ count: Int, _ root: (Double) -> Double, _ power: Int) -> [UInt32] {
    let primes = (2...311).filter { number in (2..<number).allSatisfy { number % $0 != 0 } }
    return primes.prefix(count).map { prime in
        // Exact: the largest number whose power is at most prime * 2^(32 * power).
        var found = UInt64(root(Double(prime)) * 4_294_967_296) - 1
        while !isAbove(found + 1, power, prime) { found += 1 }
        return UInt32(truncatingIfNeeded: found)
    }
}

private func isAbove(_ value: UInt64, _ power: Int, _ prime: Int) -> Bool {
    let square = value.multipliedFullWidth(by: value)
    guard power == 3 else { return (square.high, square.low) > (UInt64(prime), 0) }
    let low = square.low.multipliedFullWidth(by: value)
    let (high, over) = square.high.multipliedReportingOverflow(by: value)
    let (middle, carry) = high.addingReportingOverflow(low.high)
    precondition(!over && !carry)
    return (middle, low.low) > (UInt64(prime) << 32, 0)
}

private let rounds = fractions(64, { cbrt($0) }, 3)
private let start = fractions(8, { $0.squareRoot() }, 2)

public struct SHA256: Sendable {
    private var state = start
    private var left: [UInt8] = []
    private var count: UInt64 = 0

    public init() {}

    public static func hash<Given: DataProtocol>(data: Given) -> SHA256Digest {
        var hasher = SHA256()
        hasher.update(data: data)
        return hasher.finalize()
    }

    public mutating func update<Given: DataProtocol>(data: Given) {
        count += UInt64(data.count)
        left += data
        var at = 0
        while left.count - at >= 64 {
            take(at)
            at += 64
        }
        left.removeFirst(at)
    }

    public func finalize() -> SHA256Digest {
        var last = self
        let bits = count * 8
        last.left.append(0x80)
        while last.left.count % 64 != 56 { last.left.append(0) }
        last.left += (0..<8).map { UInt8(truncatingIfNeeded: bits >> (56 - 8 * $0)) }
        last.update(data: [])
        return SHA256Digest(
            bytes: last.state.flatMap { word in
                (0..<4).map { UInt8(truncatingIfNeeded: word >> (24 - 8 * $0)) }
            })
    }

    private mutating func take(_ at: Int) {
        func turned(_ word: UInt32, _ by: UInt32) -> UInt32 { word >> by | word << (32 - by) }
        var words = (0..<16).map { word in
            (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(left[at + 4 * word + $1]) }
        }
        for at in 16..<64 {
            let (one, two) = (words[at - 15], words[at - 2])
            let first = turned(one, 7) ^ turned(one, 18) ^ one >> 3
            let second = turned(two, 17) ^ turned(two, 19) ^ two >> 10
            words.append(words[at - 16] &+ first &+ words[at - 7] &+ second)
        }
        var s = state
        for at in 0..<64 {
            let mixed = turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)
            let chosen = s[4] & s[5] ^ ~s[4] & s[6]
            let one = s[7] &+ mixed &+ chosen &+ rounds[at] &+ words[at]
            let other = turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)
            let most = s[0] & s[1] ^ s[0] & s[2] ^ s[1] & s[2]
            s = [one &+ other &+ most, s[0], s[1], s[2], s[3] &+ one, s[4], s[5], s[6]]
        }
        state = zip(state, s).map { $0 &+ $1 }
    }
}

public enum Curve25519 {
    public enum Signing {
        public struct PublicKey: Sendable {
            let raw: Data

            public init<Given: ContiguousBytes>(rawRepresentation: Given) throws {
                raw = rawRepresentation.withUnsafeBytes { Data($0) }
            }

            public func isValidSignature<Signature: DataProtocol, Given: DataProtocol>(
                _ signature: Signature, for data: Given
            ) -> Bool {
                let check = Process()
                check.executableURL = URL(fileURLWithPath: String(cString: getenv("PYTHON")!))
                check.arguments = [
                    "-c",
                    "import sys; from edgedeploy.release.verify_file import is_signature as right; "
                        + "sys.exit(not right(*map(bytes.fromhex, sys.argv[1:])))",
                    hex(raw), hex(data), hex(signature),
                ]
                try! check.run()
                check.waitUntilExit()
                return check.terminationStatus == 0
            }

            private func hex<Bytes: Sequence>(_ bytes: Bytes) -> String
            where Bytes.Element == UInt8 {
                bytes.map { String(format: "%02x", $0) }.joined()
            }
        }
    }
}
