"""Exports, one file per format: written, read back by another reader, compared, then reported."""
