package android.content.res;

import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/** Stand-in: assets of an archive; beside it lies where each member begins. */
public final class AssetManager {
    private final String archive;

    public AssetManager(String archive) {
        this.archive = archive;
    }

    public InputStream open(String path) throws IOException {
        ZipFile file = new ZipFile(archive);
        ZipEntry entry = file.getEntry("assets/" + path);
        if (entry == null) {
            throw new FileNotFoundException(path);
        }
        return file.getInputStream(entry);
    }

    public AssetFileDescriptor openFd(String path) throws IOException {
        for (String line : Files.readAllLines(Paths.get(archive + ".index"))) {
            String[] parts = line.split("\t");
            if (parts[0].equals("assets/" + path)) {
                if (!parts[1].equals("0")) {
                    throw new FileNotFoundException("it is probably compressed");
                }
                return new AssetFileDescriptor(
                        archive, Long.parseLong(parts[2]), Long.parseLong(parts[3]));
            }
        }
        throw new FileNotFoundException(path);
    }
}
