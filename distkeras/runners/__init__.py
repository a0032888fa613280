"""Who starts the worker processes of a run."""
