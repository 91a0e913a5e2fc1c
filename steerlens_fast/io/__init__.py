"""Files and output folders: atomic writes, locks, configurations, progress."""
