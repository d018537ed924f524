package ai.onnxruntime;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.DoubleBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.ShortBuffer;

/** Stand-in: bytes in native order; counts those that nobody closed. */
public class OnnxTensor extends OnnxTensorLike {
    public static int open = 0;

    final OnnxJavaType type;
    final ByteBuffer data;

    OnnxTensor(OnnxJavaType type, ByteBuffer data, long[] shape) {
        super(new TensorInfo(shape));
        this.type = type;
        this.data = data;
        open++;
    }

    @Override
    public void close() {
        open--;
    }

    private static ByteBuffer room(int elements, int bytes, long[] shape) throws OrtException {
        long wanted = 1;
        for (long size : shape) {
            wanted *= size;
        }
        if (wanted != elements) {
            throw new OrtException("the shape has " + wanted + " elements, the buffer " + elements);
        }
        return ByteBuffer.allocate(elements * bytes).order(ByteOrder.nativeOrder());
    }

    public static OnnxTensor createTensor(OrtEnvironment env, FloatBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 4, shape);
        held.asFloatBuffer().put(data.duplicate());
        return new OnnxTensor(OnnxJavaType.FLOAT, held, shape);
    }

    public static OnnxTensor createTensor(OrtEnvironment env, DoubleBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 8, shape);
        held.asDoubleBuffer().put(data.duplicate());
        return new OnnxTensor(OnnxJavaType.DOUBLE, held, shape);
    }

    public static OnnxTensor createTensor(OrtEnvironment env, LongBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 8, shape);
        held.asLongBuffer().put(data.duplicate());
        return new OnnxTensor(OnnxJavaType.INT64, held, shape);
    }

    public static OnnxTensor createTensor(OrtEnvironment env, IntBuffer data, long[] shape)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 4, shape);
        held.asIntBuffer().put(data.duplicate());
        return new OnnxTensor(OnnxJavaType.INT32, held, shape);
    }

    public static OnnxTensor createTensor(OrtEnvironment env, ShortBuffer data, long[] shape)
            throws OrtException {
        return createTensor(env, data, shape, OnnxJavaType.INT16);
    }

    public static OnnxTensor createTensor(
            OrtEnvironment env, ShortBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 2, shape);
        held.asShortBuffer().put(data.duplicate());
        return new OnnxTensor(type, held, shape);
    }

    public static OnnxTensor createTensor(
            OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
            throws OrtException {
        ByteBuffer held = room(data.remaining(), 1, shape);
        held.duplicate().put(data.duplicate());
        return new OnnxTensor(type, held, shape);
    }

    private ByteBuffer native_() {
        return data.duplicate().order(ByteOrder.nativeOrder());
    }

    public ByteBuffer getByteBuffer() {
        return native_();
    }

    public FloatBuffer getFloatBuffer() {
        return type == OnnxJavaType.FLOAT ? native_().asFloatBuffer() : null;
    }

    public DoubleBuffer getDoubleBuffer() {
        return type == OnnxJavaType.DOUBLE ? native_().asDoubleBuffer() : null;
    }

    public ShortBuffer getShortBuffer() {
        return type == OnnxJavaType.INT16
                        || type == OnnxJavaType.FLOAT16
                        || type == OnnxJavaType.BFLOAT16
                ? native_().asShortBuffer()
                : null;
    }

    public IntBuffer getIntBuffer() {
        return type == OnnxJavaType.INT32 ? native_().asIntBuffer() : null;
    }

    public LongBuffer getLongBuffer() {
        return type == OnnxJavaType.INT64 ? native_().asLongBuffer() : null;
    }
}
