import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;

/**
 * From the pixels of a picture to a model's input. The same in every package; the algorithm is in
 * docs/preprocessing.md of edgedeploy. Sums are whole numbers of 64 bits, so every one is exact.
 */
public final class Pixels {
    private static final long CUBIC = 16384;

    private final byte[] data;
    private final int width;
    private final int height;
    private final int given;

    /**
     * A decoded picture, upright, 8 bits per channel.
     *
     * @param data rows without gaps
     * @param width in pixels
     * @param height in pixels
     * @param channels 1: gray, 2: gray and alpha, 3: RGB, 4: RGBA
     */
    public Pixels(byte[] data, int width, int height, int channels) {
        if (width < 1 || height < 1 || channels < 1 || channels > 4
                || data.length != (long) width * height * channels) {
            throw new IllegalArgumentException(data.length + " bytes are no picture of " + width
                    + " x " + height + " pixels of " + channels + " channels");
        }
        this.data = data;
        this.width = width;
        this.height = height;
        this.given = channels;
    }

    /**
     * An input and its shape; {@code floats} or {@code bytes} is null.
     */
    public static final class Input {
        public final FloatBuffer floats;
        public final ByteBuffer bytes;
        public final long[] shape;

        Input(Buffer values, long[] shape) {
            this.floats = values instanceof FloatBuffer ? (FloatBuffer) values : null;
            this.bytes = values instanceof ByteBuffer ? (ByteBuffer) values : null;
            this.shape = shape;
        }
    }

    /**
     * How a picture becomes an input; a width of 0 follows from the picture.
     */
    static final class Words {
        int height;
        int width;
        int fixedWidth;
        String fit;
        int padValue;
        String resample;
        String colour;
        String layout;
        float scale;
        float[] mean;
        float[] std;
        boolean bytes;
    }

    private static final class Weights {
        int taps = 1;
        long denominator = 1;
        int[] index;
        long[] weight;
    }

    private static final class Plan {
        int height;
        int width;
        int newHeight;
        int newWidth;
        int top;
        int left;
    }

    Input input(Words words) {
        int channels = words.colour.equals("gray") ? 1 : 3;
        Plan plan = plan(words);
        int[] small = resized(channels(channels), channels, plan, words.resample);
        int size = plan.height * plan.width * channels;
        float[] floats = words.bytes ? null : new float[size];
        byte[] bytes = words.bytes ? new byte[size] : null;
        boolean first = words.layout.equals("nchw");
        for (int c = 0; c < channels; c++) {
            float[] table = table(words, c);
            int taken = words.colour.equals("bgr") ? 2 - c : c;
            for (int y = 0; y < plan.height; y++) {
                for (int x = 0; x < plan.width; x++) {
                    int fromY = y - plan.top;
                    int fromX = x - plan.left;
                    boolean inside = fromY >= 0 && fromY < plan.newHeight
                            && fromX >= 0 && fromX < plan.newWidth;
                    int value = inside
                            ? small[(fromY * plan.newWidth + fromX) * channels + taken]
                            : words.padValue;
                    int place = first
                            ? (c * plan.height + y) * plan.width + x
                            : (y * plan.width + x) * channels + c;
                    if (bytes != null) {
                        bytes[place] = (byte) value;
                    } else {
                        floats[place] = table[value];
                    }
                }
            }
        }
        long[] shape = first
                ? new long[] {1, channels, plan.height, plan.width}
                : new long[] {1, plan.height, plan.width, channels};
        return new Input(bytes != null ? ByteBuffer.wrap(bytes) : FloatBuffer.wrap(floats), shape);
    }

    /** Gray or RGB of whatever channels there are; alpha is dropped. */
    private int[] channels(int channels) {
        int[] found = new int[width * height * channels];
        for (int at = 0; at < width * height; at++) {
            int r = data[at * given] & 0xff;
            int g = given < 3 ? r : data[at * given + 1] & 0xff;
            int b = given < 3 ? r : data[at * given + 2] & 0xff;
            if (channels == 3) {
                found[at * 3] = r;
                found[at * 3 + 1] = g;
                found[at * 3 + 2] = b;
            } else {
                found[at] = given < 3 ? r : (19595 * r + 38470 * g + 7471 * b + 32768) >> 16;
            }
        }
        return found;
    }

    /** {@code size * numerator / denominator}, rounded half up, at least 1. */
    private static int scaled(long size, long numerator, long denominator) {
        return (int) Math.max(1, (2 * size * numerator + denominator) / (2 * denominator));
    }

    private Plan plan(Words words) {
        Plan plan = new Plan();
        plan.height = words.height;
        plan.width = words.width;
        boolean stretch = words.fit.equals("stretch");
        if (plan.width == 0 && !stretch) {
            plan.width = words.fixedWidth;
        }
        if (plan.width == 0) {
            plan.width = scaled(width, plan.height, height);
        }
        plan.newHeight = plan.height;
        plan.newWidth = plan.width;
        if (stretch) {
            return plan;
        }
        boolean heightLimits = (long) plan.height * width <= (long) plan.width * height;
        if (heightLimits != words.fit.equals("crop")) {
            plan.newWidth = scaled(width, plan.height, height);
        } else {
            plan.newHeight = scaled(height, plan.width, width);
        }
        if (!words.fit.equals("pad")) {
            plan.top = (int) floored(plan.height - plan.newHeight, 2);
            plan.left = (int) floored(plan.width - plan.newWidth, 2);
        }
        return plan;
    }

    /** The values of the 256 pixel values for one channel of the input. */
    private static float[] table(Words words, int channel) {
        float[] found = new float[256];
        for (int value = 0; value < 256; value++) {
            float step = value;
            if (words.scale != 1f) {
                step = step * words.scale;
            }
            if (words.mean.length > 0) {
                step = step - words.mean[words.mean.length > 1 ? channel : 0];
            }
            if (words.std.length > 0) {
                step = step / words.std[words.std.length > 1 ? channel : 0];
            }
            found[value] = step;
        }
        return found;
    }

    private int[] resized(int[] source, int channels, Plan plan, String mode) {
        if (height == plan.newHeight && width == plan.newWidth) {
            return source;
        }
        Weights rows = weights(height, plan.newHeight, mode);
        Weights columns = weights(width, plan.newWidth, mode);
        long denominator = rows.denominator * columns.denominator;
        int[] found = new int[plan.newHeight * plan.newWidth * channels];
        for (int y = 0; y < plan.newHeight; y++) {
            long[] line = new long[width * channels];
            for (int k = y * rows.taps; k < (y + 1) * rows.taps; k++) {
                int from = rows.index[k] * width * channels;
                for (int at = 0; at < line.length; at++) {
                    line[at] += source[from + at] * rows.weight[k];
                }
            }
            for (int x = 0; x < plan.newWidth; x++) {
                for (int c = 0; c < channels; c++) {
                    long total = 0;
                    for (int k = x * columns.taps; k < (x + 1) * columns.taps; k++) {
                        total += line[columns.index[k] * channels + c] * columns.weight[k];
                    }
                    long value = floored(2 * total + denominator, 2 * denominator);
                    found[(y * plan.newWidth + x) * channels + c] =
                            (int) Math.min(Math.max(value, 0), 255);
                }
            }
        }
        return found;
    }

    private static Weights weights(long n, long m, String mode) {
        Weights made = new Weights();
        if (mode.equals("bilinear")) {
            made.taps = 2;
            made.denominator = 2 * m;
        } else if (mode.equals("bicubic")) {
            made.taps = 4;
            made.denominator = CUBIC;
        } else if (mode.equals("area")) {
            made.taps = (int) ((n + m - 1) / m + 1);
            made.denominator = n;
        }
        made.index = new int[(int) m * made.taps];
        made.weight = new long[(int) m * made.taps];
        for (long i = 0; i < m; i++) {
            long left = floored((2 * i + 1) * n - m, 2 * m);
            long rest = (2 * i + 1) * n - m - left * 2 * m;
            long[] cubic = mode.equals("bicubic") ? cubicWeights(rest, 2 * m) : null;
            for (int k = 0; k < made.taps; k++) {
                long at = (2 * i + 1) * n / (2 * m);
                long weight = 1;
                if (mode.equals("bilinear")) {
                    at = left + k;
                    weight = k == 0 ? 2 * m - rest : rest;
                } else if (cubic != null) {
                    at = left + k - 1;
                    weight = cubic[k];
                } else if (mode.equals("area")) {
                    at = i * n / m + k;
                    weight = Math.max(
                            0, Math.min((at + 1) * m, (i + 1) * n) - Math.max(at * m, i * n));
                }
                int place = (int) i * made.taps + k;
                made.index[place] = (int) Math.min(Math.max(at, 0), n - 1);
                made.weight[place] = weight;
            }
        }
        return made;
    }

    /** Keys' kernel (a = -3/4) at the four pixels around {@code rest / u}, in 2^-14ths. */
    private static long[] cubicWeights(long rest, long u) {
        long[] found = new long[4];
        long cube = u * u * u;
        long sum = 0;
        for (int k = 0; k < 4; k++) {
            long d = Math.abs(rest - (k - 1) * u);
            long numerator = 0;
            if (d <= u) {
                numerator = (5 * d - 9 * u) * d * d + 4 * cube;
            } else if (d < 2 * u) {
                numerator = ((15 * u - 3 * d) * d - 24 * u * u) * d + 12 * cube;
            }
            found[k] = floored(numerator * 2 * CUBIC + 4 * cube, 8 * cube);
            sum += found[k];
        }
        found[2 * rest < u ? 1 : 2] += CUBIC - sum;
        return found;
    }

    private static long floored(long value, long by) {
        return value / by - (value % by < 0 ? 1 : 0);
    }
}
