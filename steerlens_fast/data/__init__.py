"""Data sets of images: sources, decoding, resizing, labels and targets."""
