"""Measures of edits, each a function of batches of images."""
