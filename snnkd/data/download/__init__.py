"""Downloads: archives with checksums, resumed by byte range."""
