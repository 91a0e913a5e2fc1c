"""Images: sources, decoding, resizing, targets."""
