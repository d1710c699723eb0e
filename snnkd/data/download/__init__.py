"""Published archives: checksums, copies and downloads."""
