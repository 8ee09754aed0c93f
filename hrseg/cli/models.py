"""Networks: what there is and what it costs."""

import argparse
from typing import Any

from hrseg.cli.terminal import BOLD, paragraph, say, styled
from hrseg.cli.words import add_size, add_verb, positive

COSTS = {"exchange": ("full", "between_stages", "final"), "downsample": ("conv", "max_pool")}
"""Options of the model section that change what an HRNet costs."""


def add(verbs: Any) -> None:
    """Add the verbs of this page."""
    verb = add_verb(verbs, "models", _models)
    verb.add_argument("backbone", nargs="?", metavar="BACKBONE", help="hrnet_w18_small_v2, say")
    verb.add_argument("--head", default="v2", help="(v2)")
    verb.add_argument("--classes", type=positive, default=19, metavar="K", help="(19)")
    add_size(verb, "--size", (512, 1024), "image size")
    for name, choices in COSTS.items():
        verb.add_argument(f"--{name}", choices=choices, default=choices[0], help=f"({choices[0]})")
    verb.add_argument("--branches-from-start", action="store_true", help="four from stage 2 on")


def _models(arguments: argparse.Namespace) -> int:
    """List networks and trained models, or the cost of one.

    With a backbone, it is built and its parameters and multiply-adds are counted.

      hrseg models
      hrseg models hrnet_w48 --size 1024 2048
      hrseg models hrnet_w48 --head ocr
      hrseg models hrnet_w32 --exchange final
    """
    from hrseg.models import FORM, HEADS, create_model, list_models, summary
    from hrseg.weights import packaged_models

    if arguments.backbone is None:
        tables = {
            "Backbones": list_models(),
            "Heads": list(HEADS),
            "Trained models": list(packaged_models()),
        }
        return say("\n\n".join(paragraph(title, names) for title, names in tables.items()))
    form: dict[str, Any] = {
        name: getattr(arguments, name) for name in (*COSTS, "branches_from_start")
    }
    network = create_model(arguments.backbone, arguments.head, arguments.classes, **form)
    height, width = arguments.size
    cost = summary(network, (height, width))
    changed = "".join(
        f", {name}" + ("" if value is True else f" {value}")
        for name, value in form.items()
        if value != FORM[name]
    )
    return say(
        f"{styled(arguments.backbone, BOLD)} with head {arguments.head}, {arguments.classes} classes{changed}\n"
        f"  parameters     {cost.parameters:,}\n"
        f"  multiply-adds  {cost.multiply_adds / 1e9:,.2f} G for one {height}x{width} image"
    )
