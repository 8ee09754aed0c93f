"""Inspection of a network: ablation of branches, receptive fields, linear probes, and one page of them all."""

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
