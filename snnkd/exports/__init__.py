"""Export formats, one module each: write a file, read it back with another reader, compare the outputs."""
