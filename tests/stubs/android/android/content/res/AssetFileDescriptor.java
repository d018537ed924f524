package android.content.res;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;

/** Stand-in: a part of an archive; says at the end whether it was closed. */
public class AssetFileDescriptor {
    public static int open = 0;

    private final FileInputStream file;
    private final long start;
    private final long length;

    AssetFileDescriptor(String archive, long start, long length) throws IOException {
        this.file = new FileInputStream(archive);
        this.start = start;
        this.length = length;
        open++;
    }

    public FileDescriptor getFileDescriptor() {
        try {
            return file.getFD();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    public long getStartOffset() {
        return start;
    }

    public long getLength() {
        return length;
    }

    public void close() throws IOException {
        open--;
        file.close();
    }
}
