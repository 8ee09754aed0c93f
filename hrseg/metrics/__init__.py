"""Measures computed from masks and predictions, without a model."""
