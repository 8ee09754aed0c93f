"""Classes of datasets: names, colors, ids and trainIds, and the reader of class tables.

Built-in tables are CSV files in `labels/builtin/`; a user's own classes come from a CSV, YAML or text file. From the
dataset on a mask holds trainIds 0 … K-1 and 255 for pixels without a class.
"""

from hrseg.labels.label_set import (
    IGNORE_INDEX,
    MAX_CLASSES,
    Color,
    Label,
    LabelSet,
    channel_distances,
    pack_colors,
)
from hrseg.labels.tables import (
    VOID,
    ClassTable,
    TableRow,
    class_name,
    distinct_colors,
    find_classes,
    load_labels,
    read_classes,
    table_names,
)

__all__ = [
    "IGNORE_INDEX",
    "MAX_CLASSES",
    "VOID",
    "ClassTable",
    "Color",
    "Label",
    "LabelSet",
    "TableRow",
    "channel_distances",
    "class_name",
    "distinct_colors",
    "find_classes",
    "load_labels",
    "pack_colors",
    "read_classes",
    "table_names",
]
