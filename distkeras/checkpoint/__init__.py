"""Checkpoints: what is committed is whole, and what is not whole is never loaded."""
