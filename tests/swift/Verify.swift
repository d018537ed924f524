// Checks one folder after the other of an app with its key; says of each what came of it.
let app = String(cString: getenv("APP")!)
let trusted = Data(base64Encoded: String(cString: getenv("KEY")!))!
for name in try FileManager.default.contentsOfDirectory(atPath: app).sorted() {
    Bundle.module = Bundle("\(app)/\(name)")
    do {
        print(name, "right", try Verification.verify(publicKeys: [trusted]))
    } catch ModelError.untrusted(let why) {
        print(name, "untrusted", why)
    } catch {
        print(name, "unread", type(of: error))
    }
}
