"""Datasets: classes, layouts on disk, augmentation, and the synthetic street."""
