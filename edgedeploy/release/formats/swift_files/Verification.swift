import CryptoKit
import Foundation

/// Checks that this package holds what was signed.
public enum Verification {
    private struct Envelope: Decodable {
        struct Signature: Decodable {
            let keyid: String
            let sig: Data
        }

        let payload: Data
        let signatures: [Signature]

        /// Returns the one form in which releases have it.
        func written(_ kind: String) -> Data {
            let all = signatures.sorted { $0.keyid < $1.keyid }.map {
                "{\"keyid\":\"\($0.keyid)\",\"sig\":\"\($0.sig.base64EncodedString())\"}"
            }
            return Data(
                ("{\"payload\":\"\(payload.base64EncodedString())\",\"payloadType\":\"\(kind)\","
                    + "\"signatures\":[\(all.joined(separator: ","))]}").utf8)
        }
    }

    private struct Manifest: Decodable {
        struct File: Decodable {
            let path: String
            let sha256: String
            let role: String
        }

        let files: [File]
    }

    /// Roles of files that are here whatever the target.
    private static let beside: Set<String> = [
        "file", "labels", "licence", "provenance", "sbom",
    ]
    private static let own: Set<String> = ["manifest.json", "manifest.dsse.json"]

    /// Checks that a key vouches for the manifest, and the manifest for every file that is here.
    ///
    /// It reads all files, so it takes a while; call it off the main thread.
    /// - Parameter publicKeys: Raw Ed25519 keys that are believed, 32 bytes each.
    /// - Returns: The digest of the manifest, 64 hexadecimal digits.
    /// - Throws: ``ModelError/untrusted(_:)`` names the first file that is wrong.
    @discardableResult
    public static func verify(publicKeys: [Data]) throws -> String {
        let folder = releaseFolder
        let manifest = try Data(contentsOf: folder.appendingPathComponent("manifest.json"))
        try checkSignature(of: manifest, in: folder, publicKeys)
        let listed = try JSONDecoder().decode(Manifest.self, from: manifest).files
        let known = Dictionary(uniqueKeysWithValues: listed.map { ($0.path, $0.sha256) })
        guard let walk = FileManager.default.enumerator(atPath: folder.path) else {
            throw ModelError.untrusted("the folder of the release cannot be read")
        }
        var seen: Set<String> = []
        while let path = walk.nextObject() as? String {
            let kind = walk.fileAttributes?[.type] as? FileAttributeType
            if kind == .typeDirectory || own.contains(path) {
                continue
            }
            guard kind == .typeRegular, let wanted = known[path],
                try digest(of: folder.appendingPathComponent(path)) == wanted
            else {
                throw ModelError.untrusted("\(path) is not what was signed")
            }
            seen.insert(path)
        }
        // What other targets load is not here; of these artifacts, and beside them, nothing may lack.
        let folders = variants.flatMap(\.entries.values).map {
            $0.path.prefix(through: $0.path.lastIndex(of: "/") ?? $0.path.startIndex)
        }
        for file in listed.sorted(by: { $0.path < $1.path }) where !seen.contains(file.path) {
            if beside.contains(file.role) || folders.contains(where: { file.path.hasPrefix($0) }) {
                throw ModelError.untrusted("\(file.path) is missing")
            }
        }
        return hex(SHA256.hash(data: manifest))
    }

    private static func checkSignature(
        of manifest: Data, in folder: URL, _ publicKeys: [Data]
    ) throws {
        let content = try Data(contentsOf: folder.appendingPathComponent("manifest.dsse.json"))
        let envelope = try JSONDecoder().decode(Envelope.self, from: content)
        guard envelope.payload == manifest else {
            throw ModelError.untrusted("manifest.json is not what was signed")
        }
        let kind = "application/vnd.edgedeploy.release+json"
        guard content == envelope.written(kind) else {
            throw ModelError.untrusted("manifest.dsse.json is not in its one form")
        }
        // The pre-authentication encoding of DSSE 1.0; the key may sign other kinds of payloads too.
        let head = "DSSEv1 \(kind.utf8.count) \(kind) \(manifest.count) "
        let signed = Data(head.utf8) + manifest
        for raw in publicKeys {
            let key = try Curve25519.Signing.PublicKey(rawRepresentation: raw)
            let id = hex(SHA256.hash(data: raw))
            for signature in envelope.signatures where signature.keyid == id {
                guard key.isValidSignature(signature.sig, for: signed) else {
                    throw ModelError.untrusted("the signature of \(id) is not right")
                }
                return
            }
        }
        throw ModelError.untrusted("no trusted key vouches for the release")
    }

    private static func digest(of file: URL) throws -> String {
        let handle = try FileHandle(forReadingFrom: file)
        defer { try? handle.close() }
        var hasher = SHA256()
        while let part = try handle.read(upToCount: 1 << 20), !part.isEmpty {
            hasher.update(data: part)
        }
        return hex(hasher.finalize())
    }

    private static func hex<Bytes: Sequence>(_ bytes: Bytes) -> String
    where Bytes.Element == UInt8 {
        bytes.map { String(format: "%02x", $0) }.joined()
    }
}
