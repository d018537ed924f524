"""What reaches Core ML, in the wheels for macOS alone; empty here."""
