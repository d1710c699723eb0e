"""Augmentation of uint8 batches on the device."""
