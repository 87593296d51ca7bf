"""What runs the training step."""
