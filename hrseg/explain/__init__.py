"""Looking inside a network: what each branch sees, adds, reaches and knows.

`ablation` switches branches off, `field` measures how far a decision looks, `probes` asks how much a branch alone
knows. They take networks and arrays; `page` and `write` make one page of it.
"""

from hrseg.explain.ablation import Ablation, switch_off
from hrseg.explain.field import branch_fields, radius, receptive_field
from hrseg.explain.probes import Probe, fit_probe, gather_features, probe_branches

__all__ = [
    "Ablation",
    "Probe",
    "branch_fields",
    "fit_probe",
    "gather_features",
    "probe_branches",
    "radius",
    "receptive_field",
    "switch_off",
]
