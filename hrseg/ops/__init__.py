"""Faster forms of network operations: fused, or computed in blocks.

Each is tested equal to the plain PyTorch form. Nothing here depends on networks, labels or trainers.
"""
