"""`hrseg predict` over the machines of a Ray cluster.

One process hands the pictures out and keeps the manifest (`job`); a worker on each machine opens the model once,
reads, segments and writes (`worker`). Between them go plain records (`errands`); `machines` knows the cluster.
"""

from hrseg.cluster.job import RayJob

__all__ = ["RayJob"]
