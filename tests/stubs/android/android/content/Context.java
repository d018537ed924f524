package android.content;

import android.content.res.AssetManager;

/** Stand-in: a context over one archive. */
public class Context {
    private final AssetManager assets;

    public Context(String archive) {
        this.assets = new AssetManager(archive);
    }

    public AssetManager getAssets() {
        return assets;
    }
}
