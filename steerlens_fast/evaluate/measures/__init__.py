"""Measures of edits: functions that take batches of images."""
