"""The JAX engine: Keras's loop, our steps, and one global batch over all devices of all worker processes."""
