// Checks one folder after the other of an app by a key, the last one by a foreign key as well; says of
// each what came of it.
let app = String(cString: getenv("APP")!)
let names = try FileManager.default.contentsOfDirectory(atPath: app).sorted()
let checks = names.map { ($0, "KEY") } + [(names.last!, "FOREIGN")]
for (name, key) in checks {
    Bundle.module = Bundle("\(app)/\(name)")
    do {
        let trusted = Data(base64Encoded: String(cString: getenv(key)!))!
        print(name, "right", try Verification.verify(publicKeys: [trusted]))
    } catch ModelError.untrusted(let why) {
        print(name, "untrusted", why)
    } catch {
        print(name, "unread", type(of: error))
    }
}
