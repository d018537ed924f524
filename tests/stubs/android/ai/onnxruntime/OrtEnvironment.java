package ai.onnxruntime;

import java.nio.ByteBuffer;

public class OrtEnvironment implements AutoCloseable {
    private static final OrtEnvironment INSTANCE = new OrtEnvironment();

    public static Boolean telemetry = null;

    private OrtEnvironment() {}

    public static OrtEnvironment getEnvironment() {
        return INSTANCE;
    }

    public void setTelemetry(boolean sendTelemetry) throws OrtException {
        telemetry = sendTelemetry;
    }

    public OrtSession createSession(ByteBuffer modelBuffer, OrtSession.SessionOptions options)
            throws OrtException {
        if (!modelBuffer.isDirect()) {
            throw new OrtException("ONNX Runtime takes direct buffers alone");
        }
        return new OrtSession(modelBuffer, options);
    }

    @Override
    public void close() {}
}
