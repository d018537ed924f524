// What of XCTest packages use, as developer.apple.com documents it for Apple's systems (the one for
// Linux has no attachments); composed, nothing of Apple's.
import Foundation

open class XCTAttachment {
    public enum Lifetime: Int { case deleteOnSuccess, keepAlways }
    public init(data payload: Data, uniformTypeIdentifier identifier: String) {}
    open var name: String?
    open var lifetime: Lifetime = .deleteOnSuccess
}

open class XCTestCase {
    public init() {}
    open func add(_ attachment: XCTAttachment) {}
}

public func XCTAssertTrue(
    _ expression: @autoclosure () throws -> Bool, _ message: @autoclosure () -> String = "",
    file: StaticString = #filePath, line: UInt = #line
) {}
