"""Training: the loop, its schedule and optimizer, checkpoints, and stopping in good order."""
