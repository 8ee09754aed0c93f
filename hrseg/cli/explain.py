"""Looking inside a network: hrseg explain."""

import argparse
from pathlib import Path
from typing import Any

from hrseg.cli.terminal import say
from hrseg.cli.words import WORDS, add_model, add_verb, add_words, positive


def add(verbs: Any) -> None:
    """Add the verb of this page."""
    verb = add_verb(verbs, "explain", _explain, WORDS)
    verb.add_argument("image", type=Path, metavar="IMAGE", help="the image to look at")
    add_model(verb)
    text = "the page (IMAGE_inside.html, in this folder)"
    verb.add_argument("-o", "--out", type=Path, metavar="FILE.html", help=text)
    text = "the image's mask in dataset ids: changes of IoU too"
    verb.add_argument("--mask", type=Path, metavar="FILE", help=text)
    text = "folder of the model's data: how much each branch knows alone"
    verb.add_argument("--data", metavar="ROOT", help=text)
    text = "take the data from this recipe instead of the model's own config"
    verb.add_argument("-c", "--config", metavar="FILE", help=text)
    text = "images for that, and as many to judge (40)"
    verb.add_argument("--images", type=positive, default=40, metavar="N", help=text)
    add_words(verb)


def _explain(arguments: argparse.Namespace) -> int:
    """Look inside a network at one image: one page.

    Shows what every stage leaves on every branch, what the decision loses where a branch is switched
    off, how far around a pixel the network looks, and, with data, how much each branch knows by itself
    (a linear classifier on its features). The page needs no other file.

      hrseg explain street.png
      hrseg explain street.png --mask street_mask.png --model runs/demo
      hrseg explain street.png --data /data/camvid
    """
    from hrseg.explain.field import radius
    from hrseg.explain.write import explain

    out = arguments.out or Path(f"{arguments.image.stem}_inside.html")
    inside = explain(
        arguments.image,
        out,
        arguments.model,
        mask=arguments.mask,
        data=arguments.data,
        recipe=arguments.config,
        overrides=arguments.overrides,
        images=arguments.images,
    )
    changed = inside.ablation.changed_in_all()
    radii = [radius(field) for field in inside.branch_fields]
    lines = [
        f"without branch {i}: {100 * share:.1f} % of the pixels change; it looks {reach:.0f} pixels far"
        for i, (share, reach) in enumerate(zip(changed, radii, strict=True))
    ]
    lines += [
        f"a linear classifier on {probe.name}: mIoU {100 * probe.miou:.1f}"
        for probe in inside.probes
        if probe.channels
    ]
    return say("\n".join([*lines, str(out)]))
