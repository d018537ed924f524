// What of CryptoKit packages use, as developer.apple.com documents it; composed, nothing of Apple's.
import Foundation

public struct SHA256Digest: Sequence, Sendable {
    public func makeIterator() -> Array<UInt8>.Iterator { [].makeIterator() }
}

public struct SHA256: Sendable {
    public init() {}
    public static func hash<Given: DataProtocol>(data: Given) -> SHA256Digest { SHA256Digest() }
    public mutating func update<Given: DataProtocol>(data: Given) {}
    public func finalize() -> SHA256Digest { SHA256Digest() }
}

public enum Curve25519 {
    public enum Signing {
        public struct PublicKey: Sendable {
            public init<Given: ContiguousBytes>(rawRepresentation: Given) throws {}
            public func isValidSignature<Signature: DataProtocol, Given: DataProtocol>(
                _ signature: Signature, for data: Given
            ) -> Bool { false }
        }
    }
}
