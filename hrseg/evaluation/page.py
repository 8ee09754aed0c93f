"""An evaluation as one page: scores, classes, figures, and the images that went worst. It needs no file beside it.

The page is text; nothing is counted here.
"""

import html
import math
from collections.abc import Mapping, Sequence

import numpy as np

from hrseg.errors import score
from hrseg.evaluation.callbacks import Exhibit
from hrseg.metrics.confusion import known_mean
from hrseg.metrics.scores import Results
from hrseg.viz.canvas import BLUE, ORANGE, Canvas
from hrseg.viz.charts import DENSE_UP_TO, confusion, curves
from hrseg.viz.masks import colorize
from hrseg.viz.reports import data_uri, resource, whole_page
from hrseg.viz.text import HAIRLINE, QUIET, Color

_WRONG = (226, 45, 56)


def page(found: Results, figures: Mapping[str, np.ndarray], exhibits: Sequence[Exhibit]) -> str:
    """Return the page as text.

    Args:
        found: The scores.
        figures: "confusion", "contours", "trimap" and "reliability" as pictures.
        exhibits: The worst images, worst first; may be empty.
    """
    evidence = found.evidence
    count = len(evidence.ledger.names)
    facts = " · ".join(html.escape(value) for value in evidence.facts.values())
    classes = len(evidence.ledger.classes)
    pictures = {name: _figure(picture, name, classes) for name, picture in figures.items()}
    intro = f"{count:,} image{'s' * (count != 1)} · {facts} · {html.escape(evidence.looked)}"
    tiles = "".join(
        f"<div><h3>{name}</h3><b>{v}</b><p>{p}</p></div>" for name, v, p in _tiles(found)
    )
    worst_link = '<a href="#worst">Worst images</a>' if exhibits else ""
    body = f"""<section class="tiles">{tiles}</section>
<nav><a href="#classes">Classes</a><a href="#confusion">Confusion</a><a href="#boundaries">Boundaries</a>
<a href="#calibration">Calibration</a>{worst_link}</nav>
<section id="classes"><h2>Classes</h2>{_classes(found)}</section>
<section id="confusion"><h2>Confusion</h2>{_confusions(found)}{pictures["confusion"]}</section>
<section id="boundaries"><h2>Boundaries</h2><div class="pair">{pictures["contours"]}{pictures["trimap"]}</div>
<div style="margin-top:16px">{_boundaries(found)}</div></section>
<section id="calibration"><h2>Calibration</h2>
<div class="pair">{pictures["reliability"]}<div>{_calibration(found)}{_bins(found)}</div></div></section>
{_worst(found, exhibits) if exhibits else ""}
<footer>{_words(found)}</footer>"""
    return whole_page(
        "evaluate",
        evidence.ledger.model,
        header=f'<p class="quiet">{intro}</p>',
        body=body,
        style=resource("hrseg.evaluation", "page.css"),
    )


def _tiles(found: Results) -> list[tuple[str, str, str]]:
    rulers, scores, mending = found.evidence.rulers, found.scores, found.mending
    middle = len(rulers.distances) // 2
    return [
        ("mIoU", f"{100 * scores['miou']:.2f}", f"95 % of draws: {score(found.low, 1)} to {score(found.high, 1)}"),
        ("Pixel accuracy", score(scores["pixel_accuracy"], 1), "of all labelled pixels"),
        ("Boundary IoU", score(known_mean(found.boundary[0]), 1), f"width {100 * rulers.ratio:g} % of the diagonal"),
        (
            "Boundary F",
            score(known_mean(found.contour_f[middle]), 1),
            f"contours met within {rulers.distances[middle]} px",
        ),
        ("Mean image", score(known_mean(found.image_scores), 1), f"worst tenth {score(found.mean_of_worst(), 1)}"),
        ("Calibration error", score(found.ece, 1), f"{rulers.bins} bins, {score(mending.ece_after, 1)} with T"),
        ("Temperature T", f"{mending.temperature:.2f}", _sureness(mending.temperature)),
    ]  # fmt: skip


def _sureness(temperature: float) -> str:
    if abs(math.log(temperature)) < 0.05:
        return "confidences are honest"
    return "too sure of itself" if temperature > 1 else "not sure enough"


def _classes(found: Results) -> str:
    evidence, scores = found.evidence, found.scores
    middle = len(evidence.rulers.distances) // 2
    rows = []
    for k in sorted(range(len(evidence.ledger.classes)), key=lambda k: -float(scores["share"][k])):
        iou = float(scores["iou"][k])
        color = _rgb(evidence.colors[k])
        width = 0 if math.isnan(iou) else 100 * iou
        gap = found.gaps[k]
        cells = [
            f'<span class="track"><i style="width:{width:.1f}%;background:{color}"></i></span>{score(iou, 1)}',
            score(found.boundary[0, k], 1),
            score(found.contour_f[middle, k], 1),
            score(float(scores["precision"][k]), 1),
            score(float(scores["recall"][k]), 1),
            "–" if math.isnan(gap) else f"{100 * gap:+.1f}",
            score(float(scores["share"][k]), 1),
        ]
        name = html.escape(evidence.ledger.classes[k])
        swatch = f'<i class="swatch" style="background:{color}"></i>'
        rows.append(
            f"<tr><td>{swatch}{name}</td>" + "".join(f'<td class="n">{c}</td>' for c in cells) + "</tr>"
        )  # fmt: skip
    heads: tuple[str, ...] = (
        "IoU",
        "boundary IoU",
        f"boundary F, {evidence.rulers.distances[middle]} px",
    )
    heads += ("precision", "recall", "confidence − precision", "share")
    row = "".join(f'<th class="n">{head}</th>' for head in heads)
    return (
        f'<div class="scroll"><table><thead><tr><th>class</th>{row}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _confusions(found: Results) -> str:
    listed = [
        f"{score(share, 1)} % of <b>{html.escape(true)}</b> is called <b>{html.escape(chosen)}</b>"
        for true, chosen, share in found.confusions(5)
    ]
    return f"<p>{', '.join(listed)}.</p>" if listed else ""


def _boundaries(found: Results) -> str:
    rulers = found.evidence.rulers
    heads = [f"{100 * rulers.ratio:g} % of the diagonal", *(f"{k} px" for k in rulers.distances)]
    rows = {
        "Boundary IoU of this width": [*map(known_mean, found.boundary)],
        "Boundary F at this distance": [math.nan, *map(known_mean, found.contour_f)],
        "precision of contours": [math.nan, *map(known_mean, found.precision)],
        "recall of contours": [math.nan, *map(known_mean, found.recall)],
    }
    head = "".join(f'<th class="n">{name}</th>' for name in heads)
    body = "".join(
        f"<tr><td>{name}</td>" + "".join(f'<td class="n">{score(v, 1)}</td>' for v in row) + "</tr>"
        for name, row in rows.items()
    )
    return (
        f'<div class="scroll"><table><thead><tr><th>mean over classes</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _calibration(found: Results) -> str:
    mending = found.mending
    halves = " and ".join(f"{value:.2f}" for value in mending.halves)
    return (
        f"<p>Over all pixels the calibration error is <b>{score(found.ece, 1)} %</b>, the mean negative log-likelihood "
        f"<b>{found.nll:.3f}</b>. Dividing all logits by <b>T = {mending.temperature:.2f}</b> makes the true classes "
        f"likeliest. Measured on {mending.pixels:,} pixels, each half of the images with the temperature of the other "
        f"({halves}): log-likelihood {mending.nll_before:.3f} → <b>{mending.nll_after:.3f}</b>, calibration error "
        f"{score(mending.ece_before, 1)} → <b>{score(mending.ece_after, 1)} %</b>. The classes stay as they are.</p>"
    )


def _bins(found: Results) -> str:
    bins = len(found.bins)
    total = max(1.0, float(found.bins[:, 0].sum()))
    rows = []
    for index, (count, sure, right) in enumerate(found.bins):
        if not count:
            continue
        values = (sure / count, right / count)
        gap = f"{100 * (values[0] - values[1]):+.1f}"
        cells = [score(count / total, 1), *(score(v, 1) for v in values), gap]
        limits = f"{100 * index / bins:.0f} to {100 * (index + 1) / bins:.0f} %"
        row = "".join(f'<td class="n">{c}</td>' for c in cells)
        rows.append(f"<tr><td>{limits}</td>{row}</tr>")
    heads = "".join(
        f'<th class="n">{head}</th>' for head in ("pixels, %", "confidence", "accuracy", "gap")
    )
    return (
        "<details open><summary>The table of the bins</summary><div class='scroll'><table><thead><tr>"
        f"<th>confidence</th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _worst(found: Results, exhibits: Sequence[Exhibit]) -> str:
    total = len(found.evidence.ledger.names)
    cases = "".join(_case(found, exhibit, rank) for rank, exhibit in enumerate(exhibits, start=1))
    return (
        f'<section id="worst"><h2>Worst images</h2><p>The {len(exhibits)} of {total:,} images with the lowest IoU, '
        "mean over the classes of their mask. In the map of errors wrong pixels are red, and pixels without a label "
        f"are black.</p>{cases}</section>"
    )


def _case(found: Results, exhibit: Exhibit, rank: int) -> str:
    ledger, colors = found.evidence.ledger, found.evidence.colors
    hits = np.diagonal(exhibit.matrix)
    truth, chosen = exhibit.matrix.sum(axis=1), exhibit.matrix.sum(axis=0)
    ious = hits / np.maximum(truth + chosen - hits, 1)
    present = [int(k) for k in np.argsort(ious, kind="stable") if truth[k]]
    chips = "".join(
        f'<span><i class="swatch" style="background:{_rgb(colors[k])}"></i>{html.escape(ledger.classes[k])} '
        f"{score(ious[k], 1)}<small>{score(truth[k] / truth.sum(), 1)} % of it</small></span>"
        for k in present[:14]
    )
    pictures = (
        ("prediction", _laid_over(exhibit.image, exhibit.found, colors)),
        ("mask", _laid_over(exhibit.image, exhibit.truth, colors)),
        ("errors", error_map(exhibit)),
    )
    film = "".join(
        f'<figure><div><img alt="{name} of {html.escape(exhibit.name)}" src="{data_uri(picture, "JPEG")}" '
        f'loading="lazy"></div><figcaption>{name}</figcaption></figure>'
        for name, picture in pictures
    )
    return (
        f'<article class="case"><div class="row"><h3>{rank}. {html.escape(exhibit.name)}</h3>'
        f'<b>{score(exhibit.score, 1)}</b></div><div class="film">{film}</div><div class="chips">{chips}</div>'
        "</article>"
    )


def error_map(exhibit: Exhibit) -> np.ndarray:
    """Show where a prediction is wrong: the image in pale gray, wrong pixels red, pixels without a label black.

    Shape:
        → uint8 (h, w, 3)
    """
    gray = exhibit.image.astype(np.float32).mean(axis=2, keepdims=True)
    picture = np.repeat(120 + gray * 0.5, 3, axis=2)
    wrong = (exhibit.truth != 255) & (exhibit.truth != exhibit.found)
    picture[wrong] = 0.2 * picture[wrong] + 0.8 * np.array(_WRONG)
    picture[exhibit.truth == 255] = (18, 19, 22)
    return picture.round().astype(np.uint8)


def _laid_over(image: np.ndarray, mask: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Mix image and class colors; where there is no class the image is darkened."""
    mixed = 0.42 * image + 0.58 * colorize(mask, colors)
    mixed[mask == 255] = 0.35 * image[mask == 255]
    picture: np.ndarray = mixed.round().astype(np.uint8)
    return picture


def _words(found: Results) -> str:
    rulers = found.evidence.rulers
    return (
        "Pixels without a label count nowhere. <b>Boundary IoU</b> (Cheng et al. 2021) is the IoU of the pixels of a "
        f"class that lie within {100 * rulers.ratio:g} % of the image's diagonal of its own contour; a mask that ends "
        "at the image's border or at unlabelled pixels has a contour there. <b>Boundary F</b> looks at the contours "
        "themselves, where two labelled classes meet: precision is the share of the predicted contour that is close "
        "enough to the mask's, recall the reverse. A <b>band</b> of the trimap curve holds the pixels on each side of "
        "the mask's boundaries. The <b>calibration error</b> is the mean gap between confidence and accuracy over "
        "bins of equal width, by pixels. The <b>interval</b> of mIoU comes from drawing the images anew 2,000 times."
    )


def _figure(picture: np.ndarray, name: str, classes: int) -> str:
    wide = " wide" if name == "confusion" else ""
    dense = 1 if wide and classes > DENSE_UP_TO else 2
    image = f'<img alt="{name}" width="{picture.shape[1] // dense}" src="{data_uri(picture)}">'
    return f'<div class="figure{wide}">{image}</div>'


def _rgb(color: np.ndarray) -> str:
    return "rgb({},{},{})".format(*(int(value) for value in color))


_PALE: Color = (250, 222, 200)


def confusion_figure(found: Results) -> np.ndarray:
    """Draw what was taken for what. Shape: → uint8 (H, W, 3)."""
    return confusion(found.scores["matrix"].numpy(), found.evidence.ledger.classes)


def contour_figure(found: Results) -> np.ndarray:
    """Draw precision, recall and F of the contours by distance. Shape: → uint8 (H, W, 3)."""
    rows = {"precision": found.precision, "recall": found.recall, "F": found.contour_f}
    series = {name: [known_mean(row) for row in rows[name]] for name in rows}
    ticks = [str(k) for k in found.evidence.rulers.distances]
    note = "Contour pixels met within a distance, per cent, mean over classes"
    return curves(series, ticks, "Contours by distance", "pixels", note)


def trimap_figure(found: Results) -> np.ndarray:
    """Draw the scores within bands around the boundaries, and of whole images. Shape: → uint8 (H, W, 3)."""
    whole = {"mIoU": found.scores["miou"], "pixel accuracy": found.scores["pixel_accuracy"]}
    series = {
        "mIoU": [*(known_mean(row) for row in found.band_iou), whole["mIoU"]],
        "pixel accuracy": [*found.band_accuracy.tolist(), whole["pixel accuracy"]],
    }
    ticks = [*(str(r) for r in found.evidence.rulers.bands), "all"]
    note = "Scores of the pixels near the boundaries of the masks, per cent"
    title = "pixels on each side of a boundary"
    return curves(series, ticks, "Trimap curve", title, note)


def reliability_figure(found: Results) -> np.ndarray:
    """Draw accuracy against confidence, and how many pixels have which. Shape: → uint8 (H, W, 3)."""
    width, height = 640.0, 520.0
    left, right, top, bottom = 52.0, 612.0, 64.0, 356.0
    floor, ceiling = 468.0, 396.0  # of the shares
    sheet = Canvas(width, height)
    sheet.text((18, 22), "Reliability", 16)
    note = f"Accuracy of the pixels in each of {len(found.bins)} bins of confidence, per cent"
    sheet.text((18, 42), note, 12, QUIET)
    for tick in range(0, 101, 20):
        y = bottom - (bottom - top) * tick / 100
        sheet.line([(left, y), (right, y)], HAIRLINE)
        sheet.text((left - 8, y), str(tick), 12, QUIET, "rm")
    pixels = found.bins[:, 0]
    step = (right - left) / len(pixels)
    largest = float((pixels / max(1.0, pixels.sum())).max())
    for index, (count, sure, hits) in enumerate(found.bins):
        one, other = left + index * step + 1, left + (index + 1) * step - 1
        if count:
            accuracy, confidence = hits / count, sure / count
            levels = [bottom - (bottom - top) * value for value in (accuracy, confidence)]
            sheet.box(one, min(levels), other, max(levels), _PALE)
            sheet.box(one, levels[0], other, bottom, BLUE)
            sheet.line([(one, levels[1]), (other, levels[1])], ORANGE, 2)
            share = count / pixels.sum()
            sheet.box(one, floor - (floor - ceiling) * share / largest, other, floor, QUIET)
    sheet.line([(left, bottom), (right, top)], QUIET, 1, dash=5)
    for name, color, at in (("accuracy", BLUE, 74), ("mean confidence", ORANGE, 160)):
        sheet.box(at, 76, at + 11, 87, color)
        sheet.text((at + 17, 81.5), name, 12, QUIET)
    sheet.text((left - 8, floor), "0", 12, QUIET, "rm")
    sheet.text((left - 8, ceiling), _short(100 * largest), 12, QUIET, "rm")
    sheet.text((left, ceiling - 16), "per cent of the pixels", 12, QUIET)
    for tenth in range(0, 101, 20):
        x = left + (right - left) * tenth / 100
        sheet.text((x, floor + 14), str(tenth), 12, QUIET, "mm")
    sheet.text(((left + right) / 2, floor + 36), "confidence, per cent", 12, QUIET, "mm")
    return sheet.picture()


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
