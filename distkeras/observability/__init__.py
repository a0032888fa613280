"""What a run writes and says: its directory, logs, metrics, timings, progress and report."""
