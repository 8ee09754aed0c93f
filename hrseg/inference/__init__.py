"""Inference: from an image to its labels, shared by validation, test, predict and serve."""
