/// A decoded picture, upright, 8 bits per channel: rows without gaps.
public struct Pixels: Equatable, Sendable {
    /// Gray, gray and alpha, RGB or RGBA of every pixel.
    public let bytes: [UInt8]
    /// In pixels.
    public let width: Int
    /// In pixels.
    public let height: Int
    let channels: Int

    /// Takes the bytes of a picture.
    /// - Throws: ``ModelError/shape(_:)``: they are not 1 to 4 for every pixel.
    public init(_ bytes: [UInt8], width: Int, height: Int) throws {
        guard width > 0, height > 0, bytes.count % (width * height) == 0,
            (1...4).contains(bytes.count / (width * height))
        else {
            throw ModelError.shape(
                "\(bytes.count) bytes are no picture of \(width) x \(height) pixels")
        }
        self.bytes = bytes
        self.width = width
        self.height = height
        self.channels = bytes.count / (width * height)
    }

    /// Returns gray or RGB of whatever channels there are; alpha is dropped.
    func taken(_ wanted: Int) -> [Int] {
        var found: [Int] = []
        found.reserveCapacity(width * height * wanted)
        for at in stride(from: 0, to: bytes.count, by: channels) {
            let red = Int(bytes[at])
            let green = channels < 3 ? red : Int(bytes[at + 1])
            let blue = channels < 3 ? red : Int(bytes[at + 2])
            if wanted == 3 {
                found += [red, green, blue]
            } else if channels < 3 {
                found.append(red)
            } else {
                found.append((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)
            }
        }
        return found
    }
}

/// How a picture becomes an input. The algorithm: docs/preprocessing.md of edgedeploy. Sums are
/// whole numbers of 64 bits, so every one is exact.
struct Picture {
    enum Fit { case stretch, letterbox, pad, crop }
    enum Resample { case nearest, bilinear, bicubic, area }
    enum Colour { case rgb, bgr, gray }
    enum Layout { case nchw, nhwc }

    let height: Int
    let width: Int?
    let fixedWidth: Int?
    let fit: Fit
    let padValue: Int
    let resample: Resample
    let colour: Colour
    let layout: Layout
    let scale: Float
    let mean: [Float]
    let std: [Float]

    /// Returns the input that a picture becomes.
    func tensor<Element: TensorElement>(_ pixels: Pixels) throws -> Tensor<Element> {
        let channels = colour == .gray ? 1 : 3
        let plan = place(pixels.height, pixels.width)
        let small = resized(
            pixels.taken(channels), pixels.height, pixels.width, channels, plan)
        let zero = Element._of(Int32(0))
        var values = [Element](repeating: zero, count: plan.height * plan.width * channels)
        for channel in 0..<channels {
            let table: [Element] = self.table(channel)
            let source = colour == .bgr ? 2 - channel : channel
            for y in 0..<plan.height {
                for x in 0..<plan.width {
                    let fromY = y - plan.top
                    let fromX = x - plan.left
                    var value = padValue
                    if fromY >= 0, fromY < plan.newHeight, fromX >= 0, fromX < plan.newWidth {
                        value = small[(fromY * plan.newWidth + fromX) * channels + source]
                    }
                    let at =
                        layout == .nchw
                        ? (channel * plan.height + y) * plan.width + x
                        : (y * plan.width + x) * channels + channel
                    values[at] = table[value]
                }
            }
        }
        let shape =
            layout == .nchw
            ? [1, channels, plan.height, plan.width] : [1, plan.height, plan.width, channels]
        return try Tensor(values, shape: shape)
    }

    /// Returns the values of the 256 pixel values for one channel of the input.
    private func table<Element: TensorElement>(_ channel: Int) -> [Element] {
        (0..<256).map { value in
            // One operation after the other: Swift fuses none.
            var step = Float(value)
            if scale != 1 { step = step * scale }
            if !mean.isEmpty { step = step - mean[mean.count > 1 ? channel : 0] }
            if !std.isEmpty { step = step / std[std.count > 1 ? channel : 0] }
            return Element._of(step)
        }
    }

    /// The size of the input, the size that the picture is resized to, and where it goes.
    struct Place {
        var height: Int
        var width: Int
        var newHeight: Int
        var newWidth: Int
        var top = 0
        var left = 0
    }

    /// Returns where a picture of a size goes.
    func place(_ rows: Int, _ columns: Int) -> Place {
        let free = fit == .stretch ? nil : fixedWidth
        let goal = width ?? free ?? Picture.scaled(columns, height, rows)
        var plan = Place(height: height, width: goal, newHeight: height, newWidth: goal)
        if fit == .stretch { return plan }
        let heightLimits = height * columns <= goal * rows
        if heightLimits == (fit != .crop) {
            plan.newWidth = Picture.scaled(columns, height, rows)
        } else {
            plan.newHeight = Picture.scaled(rows, goal, columns)
        }
        if fit != .pad {
            plan.top = Picture.floored(height - plan.newHeight, 2)
            plan.left = Picture.floored(goal - plan.newWidth, 2)
        }
        return plan
    }

    private func resized(
        _ source: [Int], _ rows: Int, _ columns: Int, _ channels: Int, _ plan: Place
    ) -> [Int] {
        if rows == plan.newHeight, columns == plan.newWidth { return source }
        let down = Weights(from: rows, to: plan.newHeight, resample)
        let across = Weights(from: columns, to: plan.newWidth, resample)
        let denominator = down.denominator * across.denominator
        var found: [Int] = []
        found.reserveCapacity(plan.newHeight * plan.newWidth * channels)
        for y in 0..<plan.newHeight {
            var line = [Int](repeating: 0, count: columns * channels)
            for tap in y * down.taps..<(y + 1) * down.taps {
                let from = down.index[tap] * columns * channels
                for at in 0..<line.count { line[at] += source[from + at] * down.weight[tap] }
            }
            for x in 0..<plan.newWidth {
                for channel in 0..<channels {
                    var total = 0
                    for tap in x * across.taps..<(x + 1) * across.taps {
                        total += line[across.index[tap] * channels + channel] * across.weight[tap]
                    }
                    let value = Picture.floored(2 * total + denominator, 2 * denominator)
                    found.append(min(max(value, 0), 255))
                }
            }
        }
        return found
    }

    /// Returns `size * numerator / denominator`, rounded half up, at least 1.
    static func scaled(_ size: Int, _ numerator: Int, _ denominator: Int) -> Int {
        max(1, (2 * size * numerator + denominator) / (2 * denominator))
    }

    static func floored(_ value: Int, _ by: Int) -> Int {
        value / by - (value % by < 0 ? 1 : 0)
    }

    /// Weights along one axis: whole numbers over one denominator.
    struct Weights {
        var taps = 1
        var denominator = 1
        var index: [Int] = []
        var weight: [Int] = []

        init(from n: Int, to m: Int, _ mode: Resample) {
            switch mode {
            case .nearest: break
            case .bilinear: (taps, denominator) = (2, 2 * m)
            case .bicubic: (taps, denominator) = (4, 16384)
            case .area: (taps, denominator) = ((n + m - 1) / m + 1, n)
            }
            for i in 0..<m {
                let left = Picture.floored((2 * i + 1) * n - m, 2 * m)
                let rest = (2 * i + 1) * n - m - left * 2 * m
                let cubic = mode == .bicubic ? Weights.cubic(rest, 2 * m) : []
                for tap in 0..<taps {
                    var at = (2 * i + 1) * n / (2 * m)
                    var share = 1
                    switch mode {
                    case .nearest: break
                    case .bilinear: (at, share) = (left + tap, tap == 0 ? 2 * m - rest : rest)
                    case .bicubic: (at, share) = (left + tap - 1, cubic[tap])
                    case .area:
                        at = i * n / m + tap
                        share = max(0, min((at + 1) * m, (i + 1) * n) - max(at * m, i * n))
                    }
                    index.append(min(max(at, 0), n - 1))
                    weight.append(share)
                }
            }
        }

        /// Returns Keys' kernel (a = -3/4) at the four pixels around `rest / u`, in 2^-14ths.
        static func cubic(_ rest: Int, _ u: Int) -> [Int] {
            let cube = u * u * u
            var found = (-1...2).map { (offset: Int) -> Int in
                let d = abs(rest - offset * u)
                var numerator = 0
                if d <= u {
                    numerator = (5 * d - 9 * u) * d * d + 4 * cube
                } else if d < 2 * u {
                    let inner: Int = (15 * u - 3 * d) * d - 24 * u * u
                    numerator = inner * d + 12 * cube
                }
                return Picture.floored(numerator * 32768 + 4 * cube, 8 * cube)
            }
            found[2 * rest < u ? 1 : 2] += 16384 - found.reduce(0, +)
            return found
        }
    }
}
