"""Measures of edits; each is a function that takes batches of images."""
