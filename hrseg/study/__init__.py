"""Studies: several variants of one recipe, trained one after the other and told in one table.

`definition` reads what shall be compared, `runs` turns it into configs and looks at what is there already,
`training` trains what is missing, `table` tells it. Each run is a `hrseg fit` of its own process, so it gives the
same score alone and inside a study, and takes no other with it when it fails.
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
