"""The console: one unit's officer looks and decides in a browser on the same machine."""
