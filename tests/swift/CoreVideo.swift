// What of Core Video packages use, as developer.apple.com documents it; composed, nothing of Apple's.
import Foundation

public final class CVBuffer {}
public final class CFAllocator {}
public final class CFDictionary {}
public typealias CVPixelBuffer = CVBuffer
public typealias CVReturn = Int32
public typealias OSType = UInt32

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
}

public var kCVReturnSuccess: CVReturn { 0 }
public var kCVPixelFormatType_OneComponent8: OSType { 1 }
public var kCVPixelFormatType_32BGRA: OSType { 2 }

public func CVPixelBufferCreate(
    _ allocator: CFAllocator?, _ width: Int, _ height: Int, _ pixelFormatType: OSType,
    _ attributes: CFDictionary?, _ made: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn { 1 }

@discardableResult
public func CVPixelBufferLockBaseAddress(
    _ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags
) -> CVReturn { 0 }

@discardableResult
public func CVPixelBufferUnlockBaseAddress(
    _ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags
) -> CVReturn { 0 }

public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { nil }
public func CVPixelBufferGetDataSize(_ buffer: CVPixelBuffer) -> Int { 0 }

// Of Foundation and the Objective-C runtime, which the ones for Linux lack.
public func autoreleasepool<Result>(invoking body: () throws -> Result) rethrows -> Result {
    try body()
}
