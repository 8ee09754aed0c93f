"""A result as one page: findings, classes, a contact sheet with masks to fade in, and the recipe. No file beside it.

Pictures are small and inside the page, colors follow the reader's dark or light setting.
"""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hrseg.data.check.findings import ClassRow, Result, counted
from hrseg.data.check.scan import ScannedPair
from hrseg.data.dataset import read_ids
from hrseg.errors import DataError, percent
from hrseg.imaging import read_image, write_atomic
from hrseg.viz.reports import image_uri, whole_page

SHEET = 24
"""Pairs on the contact sheet."""
SIDE = 440
"""Longest side of a picture there, in pixels."""
_LEVELS = {"error": "stops a training", "warning": "wants a look", "note": "good to know"}


def write_page(result: Result, path: str | Path) -> None:
    """Write the page.

    Raises:
        DataError: The file cannot be written.
    """
    with write_atomic(path) as temporary:
        temporary.write_text(page(result), encoding="utf-8", errors="backslashreplace")


def page(result: Result) -> str:
    """Return the page as text."""
    body = f"""{_tiles(result)}
{_findings(result)}
{_classes(result)}
{_sheet(result)}
{_recipe(result)}
<footer>{counted(result.images["count"], "pair")} in {result.seconds:.1f} s</footer>"""
    return whole_page(
        "data check",
        result.root.resolve().name,
        header=f'<p class="path">{html.escape(str(result.root))}</p>\n{_verdict(result)}',
        body=body,
        after=_SCRIPT,
    )


def _verdict(result: Result) -> str:
    if result.errors:
        return f'<p class="verdict error">{counted(result.errors, "thing")} would stop or spoil a training</p>'
    warnings = sum(finding.level == "warning" for finding in result.findings)
    if warnings:
        return f'<p class="verdict warning">Trains; {counted(warnings, "thing")} to look at</p>'
    return '<p class="verdict good">Ready to train</p>'


def _tiles(result: Result) -> str:
    images, masks = result.images, result.masks
    splits = " · ".join(
        f"{html.escape(split)} {n['images']:,}"
        for split, n in result.splits.items()
        if split != "all"
    )
    sizes = images["sizes"]
    often = f"{sizes[0]['height']} × {sizes[0]['width']}" if sizes else "none"
    learned = sum(row.role == "class" for row in result.classes)
    crop = " × ".join(map(str, images["crop"])) if images["crop"] else "none"
    tiles = (
        ("Pairs", f"{images['count']:,}", splits or "no splits yet"),
        ("Layout", html.escape(result.layout), html.escape(result.where or "as published")),
        (
            "Images",
            often,
            f"{counted(len(sizes), 'size')}, height × width · {_forms(images['forms'])}",
        ),
        ("Masks", counted(masks["values"], "value"), _forms(masks["forms"])),
        ("Classes", str(learned), html.escape(Path(str(masks["table"] or "guessed")).name)),
        ("Crop", crop, "suggested, height × width"),
        (
            "Mean",
            " ".join(f"{value:.2f}".removeprefix("0") for value in images["mean"]),
            "std " + " ".join(f"{value:.2f}" for value in images["std"]),
        ),
    )
    return (
        '<section class="tiles">'
        + "".join(f"<div><h3>{a}</h3><b>{b}</b><p>{c}</p></div>" for a, b, c in tiles)
        + "</section>"
    )


def _forms(forms: dict[str, int]) -> str:
    return html.escape(", ".join(f"{count:,} {form}" for form, count in list(forms.items())[:3]))


def _findings(result: Result) -> str:
    if not result.findings:
        return "<section><h2>Found</h2><p class='quiet'>Nothing to complain of.</p></section>"
    items = []
    for finding in result.findings:
        files = "".join(f"<li>{html.escape(file)}</li>" for file in finding.files[:500])
        more = len(finding.files) - 500
        rest = f"<li>… {more:,} more in --json</li>" if more > 0 else ""
        listed = (
            f"<details><summary>{counted(len(finding.files), 'file')}</summary><ul>{files}{rest}</ul></details>"
            if len(finding.files) > 1
            else ""
        )
        items.append(
            f'<article class="finding {finding.level}"><span title="{_LEVELS[finding.level]}">{finding.level}</span>'
            f"<div><p>{html.escape(finding.text)}</p>{listed}</div></article>"
        )
    return f"<section><h2>Found</h2>{''.join(items)}</section>"


def _classes(result: Result) -> str:
    if not result.classes:
        return ""
    splits = [split for split, n in result.splits.items() if n["masks"]]
    splits = splits if len(splits) > 1 else []
    largest = max(row.share for row in result.classes) or 1.0
    rows = []
    for row in sorted(result.classes, key=lambda row: -row.pixels):
        color = "#{:02x}{:02x}{:02x}".format(*row.color)
        cells = "".join(
            f"<td class='n'>{percent(row.by_split.get(split, 0))}</td>" for split in splits
        )
        rows.append(
            f'<tr class="{row.role}"><td><i class="swatch" style="background:{color}"></i>'
            f"{html.escape(row.name or 'not in the table')}</td><td class='n'>{html.escape(row.value)}</td>"
            f'<td class="bar"><i style="width:{max(0.4, 100 * row.share / largest):.1f}%;background:{color}"></i></td>'
            f"<td class='n'>{percent(row.share)}</td>{cells}<td class='n'>{row.images:,}</td>"
            f"<td class='file'>{html.escape(row.first)}</td></tr>"
        )
    heads = "".join(f"<th class='n'>{html.escape(split)}</th>" for split in splits)
    return (
        "<section><h2>What the masks hold</h2><div class='scroll'><table><thead><tr><th>name</th>"
        f"<th class='n'>value</th><th></th><th class='n'>pixels</th>{heads}"
        "<th class='n'>masks</th><th>first in</th></tr></thead><tbody>"
        f"{''.join(rows)}</tbody></table></div></section>"
    )


def _sheet(result: Result) -> str:
    cards = [
        card for look in chosen(result.scanned, result.classes) if (card := _card(look, result))
    ]
    if not cards:
        return ""
    return (
        '<section><div class="row"><h2>Contact sheet</h2><label>mask <input id="fade" type="range" min="0" max="100" '
        'value="60" aria-label="opacity of the masks"></label></div><div class="sheet">'
        f"{''.join(cards)}</div></section>"
    )


def chosen(looks: Sequence[ScannedPair], rows: Iterable[ClassRow]) -> list[ScannedPair]:
    """Choose pairs to show: one for each rare or unknown value, then evenly from all splits."""
    readable = [look for look in looks if look.kind in ("ids", "colors") and not look.image_error]
    picked: dict[int, ScannedPair] = {}
    firsts = [
        row.first for row in sorted(rows, key=lambda row: (row.role != "unknown", row.pixels))
    ]
    for first in firsts[: SHEET // 3]:
        found = next((look for look in readable if str(look.pair.mask).endswith(first)), None)
        if found:
            picked[id(found)] = found
    step = max(1, len(readable) // max(1, SHEET - len(picked)))
    for look in readable[::step]:
        if len(picked) < SHEET:
            picked.setdefault(id(look), look)
    return [look for look in readable if id(look) in picked]


def _card(look: ScannedPair, result: Result) -> str:
    try:
        image, ids = read_image(look.pair.image), read_ids(look.pair)
    except DataError:
        return ""
    if ids is None:
        return ""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    photo = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    painted = Image.fromarray(_painted(ids, result.classes)).resize(size, Image.Resampling.NEAREST)
    note = "" if look.size == look.mask_size else " · sizes differ"
    return (
        f'<figure><div><img alt="" loading="lazy" src="{image_uri(photo, "JPEG", quality=82)}">'
        f'<img class="mask" alt="" loading="lazy" src="{image_uri(painted.quantize(256), "PNG", optimize=True)}"></div>'
        f"<figcaption><b>{html.escape(look.pair.name)}</b>"
        f"<span>{html.escape(look.split)} · {height} × {width}{note}</span></figcaption></figure>"
    )


def _painted(ids: np.ndarray, rows: Sequence[ClassRow]) -> np.ndarray:
    """Paint a mask with the colors of the table; background and what is not learned stay clear.

    Shape:
        (H, W) or (H, W, 3) → (H, W, 4)
    """
    if ids.ndim == 3:
        painted = np.dstack([ids, np.full(ids.shape[:2], 255, np.uint8)])
        for row in rows:
            if _is_clear(row):
                color = [int(number) for number in row.value.strip("()").split(",")]
                painted[(ids == np.array(color)).all(axis=-1)] = 0
        return painted
    table = np.zeros((max(int(ids.max(initial=0)), 255) + 1, 4), np.uint8)
    for row in rows:
        if _is_clear(row):
            continue
        ends = [int(number) for number in row.value.split("-") if number.lstrip("-").isdecimal()]
        for value in range(ends[0], ends[-1] + 1) if len(ends) == 2 else ends:
            if 0 <= value < len(table):
                table[value] = (*row.color, 255)
    return table[ids.clip(0)]


def _is_clear(row: ClassRow) -> bool:
    return row.role == "ignored" or row.name == "background"


def _recipe(result: Result) -> str:
    if result.recipe is None:
        return "<section><h2>Recipe</h2><p class='quiet'>None yet: mend what stops a training first.</p></section>"
    blocks = [("mine.yaml", result.recipe.text("mine"))]
    if result.recipe.labels is not None:
        blocks.append(("mine_data/labels.yaml", result.recipe.labels))
    shown = "".join(
        f"<div class='code'><div class='row'><h3>{title}</h3><button type='button'>copy</button></div>"
        f"<pre>{html.escape(text)}</pre></div>"
        for title, text in blocks
    )
    command = f"hrseg data check {result.root} --write mine.yaml\nhrseg fit --config mine.yaml"
    return (
        "<section><h2>The recipe</h2><div class='code'><div class='row'><h3>write it all, and train</h3>"
        f"<button type='button'>copy</button></div><pre>{html.escape(command)}</pre></div>{shown}</section>"
    )


_SCRIPT = """<script>
const fade = document.getElementById('fade');
const set = () => document.documentElement.style.setProperty('--fade', fade.value / 100);
if (fade) { fade.addEventListener('input', set); set(); }
for (const button of document.querySelectorAll('.code button')) button.addEventListener('click', () => {
  navigator.clipboard.writeText(button.closest('.code').querySelector('pre').textContent);
  button.textContent = 'copied'; setTimeout(() => { button.textContent = 'copy'; }, 1500);
});
</script>"""
