"""What a training step is made of: measured here, and modelled on more workers than there are."""
