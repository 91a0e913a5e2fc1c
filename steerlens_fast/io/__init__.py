"""Files: atomic writes, output folders, configurations, progress."""
