"""The step, the loop that Keras drives, and what hangs on it."""
