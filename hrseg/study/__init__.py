"""Studies: several variants of one recipe, trained one after the other and compared in one table.

Each run is a `hrseg fit` in its own process, so that it gives the same score alone and in a study, and its failure
does not stop the others.
"""

from hrseg.study.study import (
    Plan,
    Study,
    find_study,
    list_studies,
    parse_variants,
    plan_study,
    read_study,
)
from hrseg.study.table import Table
from hrseg.study.train import train_study

__all__ = [
    "Plan",
    "Study",
    "Table",
    "find_study",
    "list_studies",
    "parse_variants",
    "plan_study",
    "read_study",
    "train_study",
]
