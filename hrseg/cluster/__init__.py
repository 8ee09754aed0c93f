"""`hrseg predict` over the machines of a Ray cluster."""

from hrseg.cluster.job import RayJob

__all__ = ["RayJob"]
