"""What is learnt from the training part of the data: one module for each kind of data."""
