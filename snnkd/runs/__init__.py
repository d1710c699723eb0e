"""Run directories: their names, their lock, who may continue them, and finding finished ones."""
