"""Run directories: names and hashes, lock, resuming, metrics, and finding runs."""
