"""What a trained model is worth, on data it has not learned from."""
