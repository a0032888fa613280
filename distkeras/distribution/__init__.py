"""Devices, replicas, and the reductions between them."""
