package ai.onnxruntime;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Stand-in: each run is one of the real runtime, in the Python that the test names. */
public class OrtSession implements AutoCloseable {
    public static int open = 0;

    private final ByteBuffer model;
    private final Map<String, String> entries;

    OrtSession(ByteBuffer model, SessionOptions options) {
        this.model = model;
        this.entries = new LinkedHashMap<>(options.entries);
        open++;
    }

    public Result run(Map<String, ? extends OnnxTensorLike> inputs) throws OrtException {
        try {
            Path folder = Files.createTempDirectory("session");
            write(folder, inputs);
            Process process =
                    new ProcessBuilder(
                                    System.getProperty("python"),
                                    System.getProperty("session"),
                                    folder.toString())
                            .redirectErrorStream(true)
                            .start();
            byte[] said = process.getInputStream().readAllBytes();
            if (process.waitFor() != 0) {
                throw new OrtException(new String(said, StandardCharsets.UTF_8));
            }
            return new Result(read(folder));
        } catch (IOException | InterruptedException error) {
            throw new OrtException(error.toString());
        }
    }

    private void write(Path folder, Map<String, ? extends OnnxTensorLike> inputs)
            throws IOException {
        byte[] bytes = new byte[model.remaining()];
        model.duplicate().get(bytes);
        Files.write(folder.resolve("model"), bytes);
        List<String> lines = new ArrayList<>();
        entries.forEach((key, value) -> lines.add("entry\t" + key + "\t" + value));
        int number = 0;
        for (Map.Entry<String, ? extends OnnxTensorLike> item : inputs.entrySet()) {
            OnnxTensor tensor = (OnnxTensor) item.getValue();
            StringBuilder line = new StringBuilder("input\t" + item.getKey() + "\t" + tensor.type);
            for (long size : tensor.info.getShape()) {
                line.append("\t").append(size);
            }
            lines.add(line.toString());
            Files.write(folder.resolve("input" + number++), tensor.data.array());
        }
        Files.write(folder.resolve("job"), lines, StandardCharsets.UTF_8);
    }

    private static List<OnnxTensor> read(Path folder) throws IOException {
        List<OnnxTensor> found = new ArrayList<>();
        for (String line : Files.readAllLines(folder.resolve("result"))) {
            String[] parts = line.split("\t");
            long[] shape = new long[parts.length - 1];
            for (int place = 0; place < shape.length; place++) {
                shape[place] = Long.parseLong(parts[place + 1]);
            }
            byte[] bytes = Files.readAllBytes(folder.resolve("output" + found.size()));
            found.add(
                    new OnnxTensor(OnnxJavaType.valueOf(parts[0]), ByteBuffer.wrap(bytes), shape));
        }
        return found;
    }

    @Override
    public void close() throws OrtException {
        open--;
    }

    public static class SessionOptions implements AutoCloseable {
        public static int open = 0;

        final Map<String, String> entries = new LinkedHashMap<>();

        public SessionOptions() {
            open++;
        }

        public void addConfigEntry(String configKey, String configValue) throws OrtException {
            entries.put(configKey, configValue);
        }

        @Override
        public void close() {
            open--;
        }
    }

    public static class Result implements AutoCloseable {
        private final List<OnnxTensor> values;

        Result(List<OnnxTensor> values) {
            this.values = values;
        }

        public OnnxValue get(int index) {
            return values.get(index);
        }

        @Override
        public void close() {
            values.forEach(OnnxTensor::close);
        }
    }
}
