"""A published score and the same measured here: `hrseg reproduce`."""

from hrseg.reproduce.claims import Outcome, Plan
from hrseg.reproduce.measure import plan_reproduction, reproduce

__all__ = ["Outcome", "Plan", "plan_reproduction", "reproduce"]
