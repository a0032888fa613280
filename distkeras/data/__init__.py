"""From files to batches: sources, splits, order, sharding and the pipeline.

Nothing is imported here: `order` and `batches` work without TensorFlow, and stay that way.
"""
