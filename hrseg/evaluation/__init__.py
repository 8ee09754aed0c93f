"""Judging predictions: what each image contributes, and whether one model is better than another."""
